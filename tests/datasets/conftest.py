# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Small files and doubles for the tests of the data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.datasets import FeatureStore, MissingFeaturesError
from mesm_plugin.datasets.text.encoder import TextEncoder
from mesm_plugin.structures import GroundingDataSample


class ConstantFeatures(FeatureStore):
    """The same features for every video but those whose name begins with "lost"."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = features

    def __str__(self) -> str:
        return "memory"

    def __contains__(self, vid: str) -> bool:
        return not vid.startswith("lost")

    def __getitem__(self, vid: str) -> np.ndarray:
        if vid not in self:
            raise MissingFeaturesError(f"no features of {vid}")
        return self.features


class LengthText(TextEncoder):
    """One word per blank-separated word, its feature being its number of letters."""

    num_classes = None

    def prepare(self, queries: Any) -> dict[int, str]:
        self.prepared = list(queries)
        return {place: f"{sentence!r} is unknown" for place, (sentence, _) in enumerate(queries) if "<unk>" in sentence}

    def encode(self, sentence: str, qid: Any = None) -> dict[str, torch.Tensor]:
        words = torch.tensor([[float(len(word))] for word in sentence.split()])
        return {"words": words, "words_weight": torch.ones(len(words))}


@pytest.fixture
def constant_features() -> ConstantFeatures:
    """A store that gives every video 10 clips of 2 channels: clip i is (i, 1)."""
    return ConstantFeatures(np.stack((np.arange(10), np.ones(10)), axis=1).astype(np.float32))


@pytest.fixture
def length_text() -> LengthText:
    return LengthText()


@pytest.fixture
def write_hdf5(tmp_path: Path) -> Callable[..., str]:
    """Writes arrays to an HDF5 file and returns its path."""

    def write(name: str = "features.hdf5", /, **arrays: Any) -> str:
        with h5py.File(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                file[key] = array
        return str(tmp_path / name)

    return write


@pytest.fixture
def write_text(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a text file and returns its path."""

    def write(name: str, content: str) -> str:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture
def make_item() -> Callable[..., dict[str, Any]]:
    """Makes an item of a data set with recognisable numbers.

    Clip i of item `index` is (100 index + i, 1), word j of its query k is (index, k, j). The moment of query k covers
    clips k to k + 1.
    """

    def make(
        index: int,
        num_clips: int = 6,
        num_words: tuple[int, ...] = (3, 2),
        source: str | None = None,
        labelled: bool = True,
        classes: bool = True,
        weights: list[float] | None = None,
    ) -> dict[str, Any]:
        queries = []
        for k, length in enumerate(num_words):
            words = torch.tensor([[index, k, j] for j in range(length)], dtype=torch.float32)
            query = {"words": words, "words_weight": torch.ones(length) if weights is None else torch.tensor(weights)}
            if classes:
                query["words_label"] = torch.arange(1, length + 1)
                query["unknown_words"] = torch.arange(length) == 0
            if labelled:
                mask = torch.zeros(num_clips, dtype=torch.bool)
                mask[k : k + 2] = True
                query["moments"] = torch.tensor([[k / num_clips, (k + 2) / num_clips]])
                query["segment_mask"] = mask
                query["saliency"] = mask.float()
            queries.append(query)
        vid = f"v{index}"
        clips = torch.arange(num_clips, dtype=torch.float32)
        return {
            "sample_idx": index,
            "source": source or vid,
            "video": torch.stack((100 * index + clips, torch.ones(num_clips)), dim=1),
            "queries": queries,
            "data_sample": GroundingDataSample(metainfo={"vid": vid, "source": source or vid}),
        }

    return make
