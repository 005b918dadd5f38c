# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files of a data set with random features, packed as those of real data."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mesm_plugin.datasets import CharadesSTADataset
from mesm_plugin.datasets.feature_packing import Entry, pack_features
from mesm_plugin.utils import atomic_file

_START, _END = 49406, 49407
_SENTENCE = ["person", "opens", "the", "door", "and", "walks", "into", "the", "room"]


class RandomFeatures:
    """Cuts matrices out of a block of normal variates, which takes less time than drawing them all."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._block = self._rng.standard_normal(2**22, dtype=np.float32)

    def matrix(self, rows: int, channels: int) -> np.ndarray:
        """(rows, channels) float32."""
        size = rows * channels
        if size > len(self._block):
            return self._rng.standard_normal((rows, channels), dtype=np.float32)
        start = int(self._rng.integers(0, len(self._block) - size + 1))
        return self._block[start : start + size].reshape(rows, channels)


@dataclass(frozen=True)
class RandomEntry(Entry):
    """An entry to pack whose features are in no file.

    Attributes:
        channels: Of the features.
        features: Where they are cut from.
    """

    channels: int = 0
    features: RandomFeatures = field(default_factory=RandomFeatures)

    def read(self) -> np.ndarray:
        """(Lv, channels) float32, `size` bytes."""
        return self.features.matrix(self.size // (4 * self.channels), self.channels)


def write_annotations(folder: Path, videos: int, clips: tuple[int, int], queries: int, seed: int = 0) -> None:
    """Writes `charades_sta_train.txt` and `Charades_v1_train.csv` of made-up videos.

    Args:
        folder: To write to.
        videos: How many.
        clips: Fewest and most seconds of a video.
        queries: Of each video.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    seconds = rng.integers(clips[0], clips[1] + 1, videos)
    with atomic_file(folder / "Charades_v1_train.csv") as unfinished, open(unfinished, "w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["id", "length"])
        rows.writerows([f"V{video:06d}", length] for video, length in enumerate(seconds.tolist()))
    lines = []
    for video, length in enumerate(seconds.tolist()):
        for _ in range(queries):
            begin = int(rng.integers(0, length))
            end = int(rng.integers(begin + 1, length + 1))
            count = int(rng.integers(3, len(_SENTENCE) + 1))
            lines.append(f"V{video:06d} {begin} {end}##{' '.join(_SENTENCE[:count])}.\n")
    with atomic_file(folder / "charades_sta_train.txt") as unfinished:
        unfinished.write_text("".join(lines), encoding="utf-8")


def write_features(
    folder: Path,
    annotations: Path,
    channels: Sequence[int],
    word_channels: int,
    vocabulary: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Packs random clip and word features of all that annotations in Charades-STA's format name.

    Args:
        folder: To write to.
        annotations: Folder with `charades_sta_train.txt` and `Charades_v1_train.csv`.
        channels: Of each file of clip features; there is a clip a second.
        word_channels: Of the file of word features.
        vocabulary: `CLIP_tokenized_count.txt`, whose tokens the words are drawn from; None for no classes of words.
        seed: Of the features.

    Returns:
        The config of the data set.
    """
    features = RandomFeatures(seed)
    rng = np.random.default_rng(seed)
    files = {
        "ann_file": str(annotations / "charades_sta_train.txt"),
        "duration_file": str(annotations / "Charades_v1_train.csv"),
    }
    parts: dict[str, Any] = {"features": None, "text": None, "lazy_init": True, "clip_length": 1.0}
    videos = CharadesSTADataset(**files, **parts).load_data_list()
    rows = {video["vid"]: max(1, round(video["duration"])) for video in videos}
    paths = [folder / f"clips_{number}.hdf5" for number in range(len(channels))]
    for path, width in zip(paths, channels, strict=True):
        _pack(path, rows, width, features, row="clip")
    sentences = {str(query["qid"]): query["sentence"] for video in videos for query in video["queries"]}
    known = [1] if vocabulary is None else [int(line.split()[0]) for line in vocabulary.read_text().splitlines()]
    tokens = {
        qid: [_START, *rng.choice(known, len(sentence.split())).tolist(), _END] for qid, sentence in sentences.items()
    }
    lengths = {qid: len(ids) for qid, ids in tokens.items()}
    _pack(folder / "words.hdf5", lengths, word_channels, features, row="word", token_ids=tokens)
    return {
        "type": "CharadesSTADataset",
        **files,
        "clip_length": 1.0,
        "max_clips": 194,
        "features": {"type": "HDF5FeatureStore", "files": list(map(str, paths)), "dims": list(channels)},
        "text": {
            "type": "PreExtractedText",
            "file": str(folder / "words.hdf5"),
            "dim": word_channels,
            "vocabulary": None if vocabulary is None else str(vocabulary),
        },
    }


def _pack(path: Path, rows: Mapping[str, int], channels: int, features: RandomFeatures, **options: Any) -> None:
    entries = [
        RandomEntry(id_, path, size=count * channels * 4, modified=0, channels=channels, features=features)
        for id_, count in rows.items()
    ]
    pack_features(entries, path, dim=channels, **options)
