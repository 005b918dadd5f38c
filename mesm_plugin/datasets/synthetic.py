# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""An embedded data set, generated from a seed."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mesm_plugin.datasets.arrays import l2_normalize
from mesm_plugin.datasets.feature_store import FeatureStore, MissingFeaturesError
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.synthetic_script import SPLITS, parse_video_id, write_script
from mesm_plugin.datasets.text.synthetic_text import SyntheticText, synthetic_word_vectors
from mesm_plugin.registry import DATASETS

CLIP_LENGTH = 1.0
_PROJECTION, _FEATURES = 101, 102


@DATASETS.register_module()
class SyntheticFeatures(FeatureStore):
    """Simulated clip features, made when they are asked for.

    A clip shows the words of all events that cover its centre: their mean word vector, scaled to length 1 per event,
    through a fixed projection to `dim` channels, plus one random vector per video and white noise. The two have about
    the lengths `background` and `noise`.

    Args:
        seed: That of the data set.
        dim: Dv, channels of a clip; at least `word_dim`.
        word_dim: Dt of the word vectors behind the clips.
        noise: Length of the white noise, relative to an event.
        background: Length of the video's own vector, relative to an event.
        normalize: Divides every clip by its L2 norm.
    """

    def __init__(
        self,
        seed: int = 0,
        dim: int = 128,
        word_dim: int = 64,
        noise: float = 0.7,
        background: float = 0.3,
        normalize: bool = True,
    ) -> None:
        if dim < word_dim:
            raise ValueError(f"dim is {dim}, expected at least word_dim, {word_dim}")
        self.seed, self.dim, self.noise, self.background, self.normalize = seed, dim, noise, background, normalize
        self._vectors = synthetic_word_vectors(seed, word_dim)
        gaussian = np.random.default_rng([seed, _PROJECTION]).standard_normal((dim, word_dim))
        self._projection = np.linalg.qr(gaussian).Q.T

    def __str__(self) -> str:
        return "the synthetic data set"

    def __contains__(self, vid: str) -> bool:
        return parse_video_id(vid) is not None

    def find_problems(self, vids: Sequence[str]) -> dict[str, str]:
        """See `FeatureStore.find_problems`; nothing is made for it."""
        return {vid: self._is_missing(vid) for vid in vids if vid not in self}

    def __getitem__(self, vid: str) -> np.ndarray:
        place = parse_video_id(vid)
        if place is None:
            raise MissingFeaturesError(self._is_missing(vid))
        split, index = place
        script = write_script(self.seed, split, index)
        rng = np.random.default_rng([self.seed, _FEATURES, SPLITS.index(split), index])
        centres = (np.arange(int(np.ceil(script.duration / CLIP_LENGTH))) + 0.5) * CLIP_LENGTH
        covered = np.array([(event.start <= centres) & (centres <= event.end) for event in script.events])
        shown = l2_normalize(np.array([sum(self._vectors[word] for word in event.words) for event in script.events]))
        background = self.background * rng.standard_normal(self.dim)
        noise = self.noise * rng.standard_normal((len(centres), self.dim))
        clips = covered.T @ shown @ self._projection + (background + noise) / np.sqrt(self.dim)
        clips = clips.astype(np.float32)
        return l2_normalize(clips) if self.normalize else clips

    def _is_missing(self, vid: str) -> str:
        return f"{self} has no features of video {vid}; its videos are called like synthetic_train_00000"


@DATASETS.register_module()
class SyntheticDataset(GroundingDataset):
    """Videos of invented events, their clip features and the sentences that describe them, all from a seed.

    For quick starts and tests: nothing has to be downloaded. Videos are 24 to 60 s long with one clip per second and
    3 to 5 events, of which at most two happen at once; 2 to 5 sentences a video. The words of a sentence and the clips
    of its event are tied by a fixed random projection, which is what a grounder has to learn. Scores on it say nothing
    about real videos.

    Args:
        split: "train", "val" or "test", which share the words and the projection but no video.
        num_videos: Number of videos.
        seed: Of everything random.
        feature_dim: Dv without the two temporal endpoint features.
        word_dim: Dt.
        noise: See `SyntheticFeatures`.
        background: See `SyntheticFeatures`.
        max_words: Further words of a sentence are cut off; no sentence has more than 10.
        weighting: Of the words when they are drawn for masking: "uniform" or "content_words".
        kwargs: `max_clips`, `tef`, `strict` and those of `mmengine.dataset.BaseDataset`; see `GroundingDataset`.
    """

    METAINFO: ClassVar[dict] = {"dataset_type": "synthetic", "task_name": "moment_retrieval"}

    def __init__(
        self,
        *,
        split: str,
        num_videos: int,
        seed: int = 0,
        feature_dim: int = 128,
        word_dim: int = 64,
        noise: float = 0.7,
        background: float = 0.3,
        max_words: int = 16,
        weighting: str = "uniform",
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {', '.join(map(repr, SPLITS))}")
        if num_videos < 1:
            raise ValueError(f"num_videos is {num_videos}, expected at least 1")
        self.split = split
        self.num_videos = num_videos
        self.seed = seed
        super().__init__(
            features=SyntheticFeatures(seed, feature_dim, word_dim, noise, background),
            text=SyntheticText(seed, word_dim, max_words, weighting),
            clip_length=CLIP_LENGTH,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """One dict per video; query ids count from 0."""
        videos = []
        qid = 0
        for index in range(self.num_videos):
            script = write_script(self.seed, self.split, index)
            queries = []
            for sentence, event in script.queries:
                queries.append({"qid": qid, "sentence": sentence, "moments": [[event.start, event.end]]})
                qid += 1
            videos.append({"vid": script.vid, "source": script.vid, "duration": script.duration, "queries": queries})
        return videos
