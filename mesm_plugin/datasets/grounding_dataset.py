# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Base class of the data sets: one item is one video with its queries."""

from collections import Counter
from typing import Any, ClassVar

import numpy as np
from mmengine.dataset import BaseDataset

from mesm_plugin.datasets.feature_store import FeatureStore, MissingFeaturesError
from mesm_plugin.datasets.item import build_item
from mesm_plugin.datasets.query_groups import group_queries
from mesm_plugin.datasets.text.encoder import TextEncoder
from mesm_plugin.registry import DATASETS, TRANSFORMS


class GroundingDataset(BaseDataset):
    """Videos with sentences and moments.

    A subclass reads annotations: its `load_data_list` returns one dict per video with `vid`, `source` (the video that
    the sequence was cut from; `vid` where nothing was cut), `duration` in seconds, and `queries`, described with the
    items that are made of them at `mesm_plugin.datasets.build_item`.

    On initialisation every annotated video is looked up in the features and every sentence in the text encoder, so that
    what is missing shows before training starts and not in the middle of it.

    Args:
        features: Feature store, or its config (built from DATASETS).
        text: Text encoder, or its config (built from TRANSFORMS).
        clip_length: Seconds of a clip, which maps moments to clips; None if the clips of a video divide its duration
            evenly (-1 in the released code).
        max_clips: Longer videos are pooled to so many clips by averaging neighbours; None for no limit.
        tef: Appends temporal endpoint features, a clip's normalised start and end, to the channels.
        strict: Raises on an annotation that would otherwise be repaired or dropped.
        max_queries: Videos of more queries become several items, see `group_queries`; None keeps all in one.
        kwargs: Those of `mmengine.dataset.BaseDataset`: `ann_file`, `data_root`, `indices`, `pipeline`, ...

    Attributes:
        repairs: How often `load_data_list` repaired or dropped something, by what it did.

    Raises:
        MissingFeaturesError: Annotated videos without features.
        ValueError: No query is left, or a sentence has no known word.
    """

    divide_by_clips: ClassVar[bool] = False
    """Whether training divides moments by the seconds that the clips cover, and not by the duration."""

    def __init__(
        self,
        *,
        features: FeatureStore | dict[str, Any],
        text: TextEncoder | dict[str, Any],
        clip_length: float | None,
        max_clips: int | None = None,
        tef: bool = True,
        strict: bool = False,
        max_queries: int | None = None,
        **kwargs: Any,
    ) -> None:
        if clip_length is not None and not clip_length > 0:
            raise ValueError(
                f"clip_length is {clip_length}, expected seconds > 0, or None if clips divide a video evenly"
            )
        if max_clips is not None and max_clips < 1:
            raise ValueError(f"max_clips is {max_clips}, expected at least 1, or None for no limit")
        if max_queries is not None and max_queries < 1:
            raise ValueError(f"max_queries is {max_queries}, expected at least 1, or None for no limit")
        self.features: FeatureStore = DATASETS.build(features) if isinstance(features, dict) else features
        self.text: TextEncoder = TRANSFORMS.build(text) if isinstance(text, dict) else text
        self.clip_length = clip_length
        self.max_clips = max_clips
        self.tef = tef
        self.strict = strict
        self.max_queries = max_queries
        self.repairs: Counter[str] = Counter()
        super().__init__(**kwargs)

    def full_init(self) -> None:
        """Loads the annotations, and checks that features and words of all of them can be had."""
        if self._fully_initialized:
            return
        super().full_init()
        infos = [self.get_data_info(index) for index in range(len(self))]
        vids = list(dict.fromkeys(info["vid"] for info in infos))
        missing = [vid for vid in vids if vid not in self.features]
        if missing:
            raise MissingFeaturesError(
                f"{len(missing)} of {len(vids)} annotated videos have no features in {self.features}: "
                + ", ".join(missing[:5])
                + (", ..." if len(missing) > 5 else "")
            )
        self.text.prepare([(query["sentence"], query["qid"]) for info in infos for query in info["queries"]])

    def filter_data(self) -> list[dict]:
        """All videos, those of many queries as several items; it is an error if there is none."""
        if not self.data_list:
            raise ValueError(f"{type(self).__name__}: no query is left of {self.ann_file or 'the annotations'}")
        return self.data_list if self.max_queries is None else group_queries(self.data_list, self.max_queries)

    def prepare_data(self, idx: int) -> Any:
        """The item of one video: see `mesm_plugin.datasets.build_item`; `pipeline` is applied to it."""
        info = self.get_data_info(idx)
        item = build_item(
            info,
            self.read_features(info["vid"]),
            self.text,
            clip_length=self.clip_length,
            max_clips=self.max_clips,
            tef=self.tef,
            divide_by_clips=self.divide_by_clips,
        )
        return self.pipeline(item)

    def read_features(self, vid: str) -> np.ndarray:
        """Clip features (Lv, Dv) float32 of a video, as `prepare_data` takes them."""
        return self.features[vid]

    def start_clip(self, start: float, duration: float) -> float:
        """Key by which the released code orders the queries of a video: the clip in which a moment starts."""
        return start / duration if self.clip_length is None else int(start / self.clip_length)
