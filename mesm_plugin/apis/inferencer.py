# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounding of new sentences in new videos."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mesm_plugin.apis.annotated_queries import AnnotatedQueries
from mesm_plugin.datasets import GroundingDataset, build_item, collate_grounding
from mesm_plugin.engine.checkpoint import check_fit, read_checkpoint, weights_of
from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import ConfigError, read_config
from mesm_plugin.structures import GroundingDataSample
from mesm_plugin.utils.device import checked_device


class GroundingInferencer:
    """Finds the moments that sentences describe in a video that is given by its clip features.

    Features and sentences go the way of the config's test data set: its normalisation, pooling, temporal endpoint
    features and text encoder. Neither annotations nor feature files of the data set are needed.

    Args:
        config: Path of a config, name of a shipped one, or a config that has been read.
        checkpoint: Checkpoint that was trained with it.
        device: Where to compute, such as "cpu" or "cuda:0".
        split: Whose data set says how features and sentences are read, and has the annotated queries: "test", which
            stands for the config's only data set where it has no test split, "val" or "train".

    Raises:
        FileNotFoundError: If there is no such config, checkpoint or word vector file.
        ConfigError: If the config has a misspelt key, or no data set that this can be done with.
        CheckpointError: If the file is no checkpoint or that of another model.
        ValueError: If there is no such device.

    Example:
        >>> ground = GroundingInferencer("mesm_synthetic", "work_dirs/mesm_synthetic/epoch_6.pth")
        >>> start, end, score = ground(features, ["a person opens the box."], duration=30.5)[0]["moments"][0]
    """

    def __init__(
        self, config: str | Path | Config, checkpoint: str | Path, device: str = "cpu", split: str = "test"
    ) -> None:
        self.device = checked_device(device)
        self.config = config if isinstance(config, Config) else read_config(str(config))
        check_config(self.config)
        read = read_checkpoint(checkpoint)
        with DefaultScope.overwrite_default_scope(self.config.get("default_scope")):
            self.dataset = _unannotated_dataset(self.config, split)
            self.model = MODELS.build(self.config.model)
        check_fit(self.model, read, checkpoint)
        self.model.load_state_dict(weights_of(read, checkpoint))
        self.model.to(self.device).eval()
        self.name = f"{Path(self.config.filename or 'the config').stem} ({checkpoint})"

    @functools.cached_property
    def queries(self) -> AnnotatedQueries:
        """The annotated queries of the split, whose annotations are read on first use."""
        return AnnotatedQueries(self.dataset)

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
        places: Sequence[str] | None = None,
    ) -> GroundingDataSample:
        """As calling the inferencer, but returns the data sample, which can be drawn.

        `vid` is what the video is called; `places` says where each array of `features` is from, for messages.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        if not sentences:
            raise ValueError("there is no sentence to look for")
        parts = [features] if isinstance(features, np.ndarray) else list(features)
        clips = self.dataset.features.join(parts, places)
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
        self._check_width(item["video"].shape[1], places)
        with torch.inference_mode():
            return self.model.test_step(collate_grounding([item], training=False))[0]

    def ground_query(self, qid: int | str) -> GroundingDataSample:
        """Grounds an annotated query of the split, as testing does.

        Returns:
            The data sample of the video with this query alone, and its true moments where it is labelled.

        Raises:
            FileNotFoundError: If annotations or feature files are missing.
            MissingFeaturesError: If the video has no features.
            ValueError: If there is no such query.
        """
        index, place = self.queries.place(qid)
        with torch.inference_mode():
            sample = self.model.test_step(collate_grounding(list(self.items([index])), training=False))[0]
        chosen = slice(place, place + 1)
        fields = ("qids", "sentences", "gt_moments", "gt_clips", "gt_grades")
        sample.set_metainfo({name: sample.get(name)[chosen] for name in fields if name in sample})
        sample.pred_moments, sample.pred_saliency = sample.pred_moments[chosen], sample.pred_saliency[chosen]
        return sample

    def items(self, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Items of the split, see `mesm_plugin.datasets.build_item`.

        Raises:
            FileNotFoundError, MissingFeaturesError, ValueError: If features or words of one cannot be had.
        """
        queries = [query for index in indices for query in self.dataset.get_data_info(index)["queries"]]
        self.dataset.text.prepare([(query["sentence"], query["qid"]) for query in queries])
        for index in indices:
            item = self.dataset.prepare_data(index)
            self._check_width(item["video"].shape[1], [f"video {item['data_sample'].vid}"])
            yield item

    def _check_width(self, width: int, places: Sequence[str] | None) -> None:
        expected = self.config.model.get("video_dims", width)
        if width != expected:
            endpoint = 2 if self.dataset.tef else 0
            of = f" of {' and '.join(map(str, places))}" if places else ""
            raise ValueError(
                f"the features{of} have {width - endpoint} channels, the model expects {expected - endpoint}"
            )

    def _checked_duration(self, duration: float | None, num_clips: int) -> float:
        if duration is None:
            if self.dataset.clip_length is None:
                raise ValueError("the config has no clip length, so the duration of the video has to be given")
            return num_clips * self.dataset.clip_length
        if not (math.isfinite(duration) and duration > 0):
            raise ValueError(f"the duration is {duration}, expected seconds > 0")
        return float(duration)


def _unannotated_dataset(config: Config, split: str) -> GroundingDataset:
    """The config's data set of a split, for "test" or else its validation or training set, its annotations not read."""
    loaders = (config.get(f"{name}_dataloader") for name in (("test", "val", "train") if split == "test" else (split,)))
    node: Mapping[str, Any] | None = next((loader.dataset for loader in loaders if loader), None)
    if node is None:
        name = "dataloader" if split == "test" else f"{split}_dataloader"
        raise ConfigError(f"{config.filename} has no {name}, so nothing says how features and sentences are read")
    node = {**node, "lazy_init": True}
    if "vocabulary" in node.get("text", {}):
        # Only training needs the classes of words, whose file lies with the annotations.
        node["text"] = {**node["text"], "vocabulary": None}
    dataset = DATASETS.build(node)
    if not isinstance(dataset, GroundingDataset):
        raise ConfigError(f"{config.filename}: the data set is a {type(dataset).__name__}, not a GroundingDataset")
    return dataset
