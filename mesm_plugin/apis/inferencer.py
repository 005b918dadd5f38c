# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounding of new sentences in new videos."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mesm_plugin.apis.feature_files import join_features
from mesm_plugin.datasets import GroundingDataset, build_item, collate_grounding
from mesm_plugin.engine.checkpoint import check_fit, read_checkpoint, weights_of
from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import ConfigError, read_config
from mesm_plugin.structures import GroundingDataSample


class GroundingInferencer:
    """Finds the moments that sentences describe in a video that is given by its clip features.

    Features and sentences go the way of the config's test data set: its normalisation, pooling, temporal endpoint
    features and text encoder. Neither annotations nor feature files of the data set are needed.

    Args:
        config: Path of a config, name of a shipped one, or a config that has been read.
        checkpoint: Checkpoint that was trained with it.
        device: Where to compute, such as "cpu" or "cuda:0".

    Raises:
        FileNotFoundError: If there is no such config, checkpoint or word vector file.
        ConfigError: If the config has a misspelt key, or no data set that this can be done with.
        CheckpointError: If the file is no checkpoint or that of another model.
        ValueError: If there is no such device.

    Example:
        >>> ground = GroundingInferencer("mesm_synthetic", "work_dirs/mesm_synthetic/epoch_6.pth")
        >>> start, end, score = ground(features, ["a person opens the box."], duration=30.5)[0]["moments"][0]
    """

    def __init__(self, config: str | Path | Config, checkpoint: str | Path, device: str = "cpu") -> None:
        self.device = _checked_device(device)
        self.config = config if isinstance(config, Config) else read_config(str(config))
        check_config(self.config)
        read = read_checkpoint(checkpoint)
        with DefaultScope.overwrite_default_scope(self.config.get("default_scope")):
            self.dataset = _unannotated_dataset(self.config)
            self.model = MODELS.build(self.config.model)
        check_fit(self.model, read, checkpoint)
        self.model.load_state_dict(weights_of(read, checkpoint))
        self.model.to(self.device).eval()

    def __call__(
        self,
        features: np.ndarray | Sequence[np.ndarray],
        sentences: str | Sequence[str],
        duration: float | None = None,
    ) -> list[dict[str, Any]]:
        """Grounds sentences in one video, which is encoded once for all of them.

        Args:
            features: (Lv, Dv) clip features as the data set's files hold them, not normalised. Where the config joins
                several files, one array for each.
            sentences: One or more.
            duration: Of the video in seconds; if None, the number of clips times the config's clip length.

        Returns:
            For each sentence a dict with `sentence`, `moments`, a list of (start s, end s, score), best first, and
            `saliency`, a list with one score a clip.

        Raises:
            ValueError: If features, a sentence or the duration cannot be used.
        """
        sample = self.ground(features, sentences, duration)
        return [
            {
                "sentence": sentence,
                "moments": [tuple(moment) for moment in moments.tolist()],
                "saliency": saliency.tolist(),
            }
            for sentence, moments, saliency in zip(
                sample.sentences, sample.pred_moments, sample.pred_saliency, strict=True
            )
        ]

    def ground(
        self,
        features: np.ndarray | Sequence[np.ndarray],
        sentences: str | Sequence[str],
        duration: float | None = None,
        vid: str = "video",
    ) -> GroundingDataSample:
        """As calling the inferencer, but returns the data sample, which can be drawn; `vid` is what it is called."""
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        if not sentences:
            raise ValueError("there is no sentence to look for")
        parts = [features] if isinstance(features, np.ndarray) else list(features)
        clips = join_features(parts, self.dataset.features)
        # Together, so that a file of word vectors is read once for all sentences.
        self.dataset.text.prepare([(sentence, None) for sentence in sentences])
        queries = [{"qid": None, "sentence": sentence} for sentence in sentences]
        item = build_item(
            {
                "sample_idx": 0,
                "vid": vid,
                "source": vid,
                "duration": self._checked_duration(duration, len(clips)),
                "queries": queries,
            },
            clips,
            self.dataset.text,
            clip_length=self.dataset.clip_length,
            max_clips=self.dataset.max_clips,
            tef=self.dataset.tef,
        )
        self._check_width(item["video"].shape[1])
        with torch.inference_mode():
            return self.model.test_step(collate_grounding([item], training=False))[0]

    def _check_width(self, width: int) -> None:
        expected = self.config.model.get("video_dims", width)
        if width != expected:
            endpoint = 2 if self.dataset.tef else 0
            raise ValueError(f"the features have {width - endpoint} channels, the model expects {expected - endpoint}")

    def _checked_duration(self, duration: float | None, num_clips: int) -> float:
        if duration is None:
            if self.dataset.clip_length is None:
                raise ValueError("the config has no clip length, so the duration of the video has to be given")
            return num_clips * self.dataset.clip_length
        if not (math.isfinite(duration) and duration > 0):
            raise ValueError(f"the duration is {duration}, expected seconds > 0")
        return float(duration)


def _unannotated_dataset(config: Config) -> GroundingDataset:
    """The config's test data set, or else its validation or training set, without annotations being read."""
    loaders = (config.get(f"{split}_dataloader") for split in ("test", "val", "train"))
    node: Mapping[str, Any] | None = next((loader.dataset for loader in loaders if loader), None)
    if node is None:
        raise ConfigError(f"{config.filename} has no dataloader, so nothing says how features and sentences are read")
    node = {**node, "lazy_init": True}
    if "vocabulary" in node.get("text", {}):
        # Only training needs the classes of words, whose file lies with the annotations.
        node["text"] = {**node["text"], "vocabulary": None}
    dataset = DATASETS.build(node)
    if not isinstance(dataset, GroundingDataset):
        raise ConfigError(f"{config.filename}: the data set is a {type(dataset).__name__}, not a GroundingDataset")
    return dataset


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
