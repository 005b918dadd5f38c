# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The workloads of the end-to-end benchmark: random features in the sizes of the paper's data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mesm_plugin.datasets import collate_grounding
from mesm_plugin.structures import GroundingDataSample

CONFIGS = Path(__file__).parents[1] / "configs" / "mesm"
LONGEST_MOMENT = 12
WORDS = (5, 16)
VOCABULARY = 1111


@dataclass(frozen=True)
class Workload:
    """Sizes of a batch, and the model that it is for.

    Attributes:
        videos: V.
        clips: Fewest and most clips of a video.
        queries: Q; divided as evenly as possible where `even`, else drawn, at least one a video.
        even: Whether all videos have as many queries.
        video_dims: Dv, temporal endpoint channels included.
        text_dims: Dt.
        config: File under configs/mesm/.
        changes: Changes of that config's model.
        words: Fewest and most words of a query.
    """

    videos: int
    clips: tuple[int, int]
    queries: int
    even: bool
    video_dims: int
    text_dims: int
    config: str
    changes: dict[str, Any]
    words: tuple[int, int] = WORDS

    def model_config(self) -> Config:
        """The config of the model, at the authors' settings."""
        config = Config.fromfile(CONFIGS / self.config)
        config.merge_from_dict({f"model.{key}": value for key, value in self.changes.items()})
        return config.model

    def batch(self, training: bool, seed: int = 0) -> dict[str, Any]:
        """A collated batch of random features; the same one for the same seed."""
        rng = np.random.default_rng(seed)
        counts = np.full(self.videos, self.queries // self.videos)
        if not self.even:
            drawn = rng.integers(0, self.videos, self.queries - self.videos)
            counts = 1 + np.bincount(drawn, minlength=self.videos)
        items = []
        for index, count in enumerate(counts):
            length = int(rng.integers(self.clips[0], self.clips[1] + 1))
            queries = [self._query(length, rng) for _ in range(count)]
            vid = f"video{index}"
            metainfo = {
                "vid": vid,
                "source": vid,
                "duration": float(length),
                "num_clips": length,
                "qids": list(range(count)),
                "sentences": [""] * int(count),
            }
            video = rng.standard_normal((length, self.video_dims), dtype=np.float32)
            items.append(
                {
                    "sample_idx": index,
                    "source": vid,
                    "video": torch.from_numpy(video),
                    "queries": queries,
                    "data_sample": GroundingDataSample(metainfo=metainfo),
                }
            )
        return collate_grounding(items, training=training)

    def _query(self, length: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        words = int(rng.integers(self.words[0], self.words[1] + 1))
        size = int(rng.integers(1, min(LONGEST_MOMENT, length) + 1))
        start = int(rng.integers(0, length - size + 1))
        inside = np.zeros(length, dtype=bool)
        inside[start : start + size] = True
        labels = rng.integers(0, VOCABULARY + 1, words)
        return {
            "words": torch.from_numpy(rng.standard_normal((words, self.text_dims), dtype=np.float32)),
            "words_weight": torch.ones(words),
            "words_label": torch.from_numpy(labels),
            "unknown_words": torch.from_numpy(labels == VOCABULARY),
            "moments": torch.tensor([[start / length, (start + size) / length]]),
            "segment_mask": torch.from_numpy(inside),
            "saliency": torch.from_numpy(inside.astype(np.float32)),
        }


WORKLOADS = {
    "charades-clip-slowfast": Workload(
        videos=12,
        clips=(20, 40),
        queries=31,
        even=False,
        video_dims=2818,
        text_dims=512,
        config="mesm_charades_clip_slowfast.py",
        changes={},
    ),
    "charades-vgg-glove": Workload(
        videos=12,
        clips=(120, 240),
        queries=31,
        even=False,
        video_dims=4098,
        text_dims=300,
        config="mesm_charades_vgg_glove.py",
        changes={},
    ),
    "tacos-c3d-glove": Workload(
        videos=3,
        clips=(300, 600),
        queries=30,
        even=True,
        video_dims=4098,
        text_dims=300,
        config="mesm_tacos_c3d_glove.py",
        changes={},
    ),
}
