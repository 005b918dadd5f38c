# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Base class of the data sets: one item is one video with its queries."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mesm_plugin.datasets.feature_store import FeatureStore, MissingFeaturesError
from mesm_plugin.datasets.item import build_item
from mesm_plugin.datasets.query_groups import group_queries
from mesm_plugin.datasets.text.encoder import TextEncoder
from mesm_plugin.registry import DATASETS, TRANSFORMS
from mesm_plugin.utils import listed

ON_ERROR = ("stop", "skip")


class GroundingDataset(BaseDataset):
    """Videos with sentences and moments.

    A subclass reads annotations: its `load_data_list` returns one dict per video with `vid`, `source` (the video that
    the sequence was cut from; `vid` where nothing was cut), `duration` in seconds, and `queries`, described with the
    items that are made of them at `mesm_plugin.datasets.build_item`.

    On initialisation the features of every annotated video are read and every sentence is looked up in the text
    encoder, so that what is missing or broken shows before training starts and not in the middle of it. What was found
    good is not read again while its file stays as it is, and what is packed was checked then, see `check_arrays`.

    Args:
        features: Feature store, or its config (built from DATASETS).
        text: Text encoder, or its config (built from TRANSFORMS).
        clip_length: Seconds of a clip, which maps moments to clips; None if the clips of a video divide its duration
            evenly (-1 in the released code).
        max_clips: Longer videos are pooled to so many clips by averaging neighbours; None for no limit.
        tef: Appends temporal endpoint features, a clip's normalised start and end, to the channels.
        strict: Raises on an annotation that would otherwise be repaired or dropped.
        on_error: "stop" raises on annotations, features or sentences that are broken; "skip" leaves out these videos
            and queries, with a warning that counts them. Files that are broken as a whole are an error in any case.
        max_queries: Videos of more queries become several items, see `group_queries`; None keeps all in one.
        kwargs: Those of `mmengine.dataset.BaseDataset`: `ann_file`, `data_root`, `indices`, `pipeline`, ...

    Attributes:
        repairs: How often `load_data_list` repaired or dropped something, by what it did.
        left_out: With `on_error="skip"`, why something was left out, by what it is: a video, a query or a place in the
            annotations.

    Raises:
        MissingFeaturesError: Annotated videos without features.
        ValueError: No query is left, or features or sentences are broken.
    """

    divide_by_clips: ClassVar[bool] = False
    """Whether training divides moments by the seconds that the clips cover, and not by the duration."""
    # MMEngine's.
    _fully_initialized: bool

    def __init__(
        self,
        *,
        features: FeatureStore | dict[str, Any],
        text: TextEncoder | dict[str, Any],
        clip_length: float | None,
        max_clips: int | None = None,
        tef: bool = True,
        strict: bool = False,
        on_error: str = "stop",
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
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error is {on_error!r}, expected one of {', '.join(map(repr, ON_ERROR))}")
        self.features: FeatureStore = DATASETS.build(features) if isinstance(features, dict) else features
        self.text: TextEncoder = TRANSFORMS.build(text) if isinstance(text, dict) else text
        self.clip_length = clip_length
        self.max_clips = max_clips
        self.tef = tef
        self.strict = strict
        self.on_error = on_error
        self.max_queries = max_queries
        self.repairs: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        super().__init__(**kwargs)

    def full_init(self) -> None:
        """Loads the annotations, and checks that features and words of all of them can be had."""
        if self._fully_initialized:
            return
        self.data_list = self._usable(self.read_annotations())
        if self.serialize_data:
            self.data_bytes, self.data_address = self._serialize_data()
        self._fully_initialized = True

    def read_annotations(self) -> list[dict]:
        """What `load_data_list` returns, divided by `max_queries` and cut down to `indices`."""
        self.left_out.clear()
        self.data_list = self.load_data_list()
        self.data_list = self.filter_data()
        return self.data_list if self._indices is None else self._get_unserialized_subset(self._indices)

    def filter_data(self) -> list[dict]:
        """All videos, those of many queries as several items; it is an error if there is none."""
        if not self.data_list:
            broken = f"; left out: {_of(self.left_out)}" if self.left_out else ""
            raise ValueError(f"{type(self).__name__}: no query is left of {self.ann_file or 'the annotations'}{broken}")
        return self.data_list if self.max_queries is None else group_queries(self.data_list, self.max_queries)

    @contextmanager
    def reading(self, place: str) -> Iterator[None]:
        """Around what reads a part of the annotations: with `on_error="skip"`, it is left out if that fails.

        Args:
            place: File and line or video of the part.
        """
        try:
            yield
        except ValueError as error:
            if self.on_error == "stop":
                raise
            self.left_out[place] = str(error)

    def _usable(self, videos: list[dict]) -> list[dict]:
        """The videos and queries whose features and words can be had."""
        vids = list(dict.fromkeys(video["vid"] for video in videos))
        if self.on_error == "stop":
            self._require_features(vids)
        broken = self.features.find_problems(vids)
        queries = [(query["sentence"], query["qid"]) for video in videos for query in video["queries"]]
        wordless = self.text.prepare(queries)
        problems = {f"video {vid}": problem for vid, problem in broken.items()}
        problems |= {f"query {queries[place][1]}": problem for place, problem in wordless.items()}
        if problems and self.on_error == "stop":
            raise ValueError(
                f"{len(broken)} of {len(vids)} videos and {len(wordless)} of {len(queries)} queries cannot be used: "
                f"{_of(problems)}. Mend them, or leave them out with on_error='skip'; `mesm check CONFIG` lists all"
            )
        self.left_out |= problems
        places = iter(range(len(queries)))
        usable = []
        for video in videos:
            kept = [query for query in video["queries"] if next(places) not in wordless]
            if kept and video["vid"] not in broken:
                usable.append({**video, "queries": kept})
        if not usable:
            raise ValueError(f"none of {len(vids)} videos can be used: {_of(self.left_out)}")
        if self.left_out:
            count = len({video["vid"] for video in usable}), sum(len(video["queries"]) for video in usable)
            print_log(
                f"on_error='skip' leaves out {len(self.left_out)} of {self.ann_file or 'the annotations'}: "
                f"{_of(self.left_out)}. {count[0]} videos with {count[1]} queries are left",
                logger="current",
                level=logging.WARNING,
            )
        return usable

    def _require_features(self, vids: list[str]) -> None:
        missing = [vid for vid in vids if vid not in self.features]
        if missing:
            raise MissingFeaturesError(
                f"{len(missing)} of {len(vids)} annotated videos have no features in {self.features}: "
                f"{listed(missing, 5)}"
            )

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


def _of(problems: dict[str, str]) -> str:
    # Problems of annotations begin with their place.
    return listed([why if why.startswith(name) else f"{name} ({why})" for name, why in problems.items()], 5)
