# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.datasets import PreExtractedText
from mesm_plugin.registry import TRANSFORMS

WriteText = Callable[[str, str], str]
START, END = 49406, 49407


@pytest.fixture
def write_words(tmp_path: Path) -> Callable[..., str]:
    """Writes queries, each (features, token_ids or None), to an HDF5 file and returns its path."""

    def write(queries: dict[Any, tuple[Any, Any]]) -> str:
        with h5py.File(tmp_path / "text.hdf5", "w") as file:
            for qid, (features, ids) in queries.items():
                file[str(qid)] = features
                if ids is not None:
                    file[str(qid)].attrs["token_ids"] = ids
        return str(tmp_path / "text.hdf5")

    return write


@pytest.fixture
def counts(write_text: WriteText) -> str:
    return write_text("CLIP_tokenized_count.txt", "269 9\n2533 8\n320 1\n")


def test_features_of_a_query(write_words: Callable[..., str]) -> None:
    text = TRANSFORMS.build(
        {"type": "PreExtractedText", "file": write_words({12: (np.array([[3, 4], [0, 2]], dtype=np.float16), None)})}
    )
    encoded = text.encode("person runs", 12)
    assert encoded.keys() == {"words", "words_weight"}
    assert encoded["words"].dtype == torch.float32
    np.testing.assert_allclose(encoded["words"], [[0.6, 0.8], [0, 1]], rtol=1e-6)
    assert encoded["words_weight"].tolist() == [1, 1]
    assert text.num_classes is None


def test_without_normalization(write_words: Callable[..., str]) -> None:
    text = PreExtractedText(write_words({"q1": ([[3.0, 4.0]], None)}), normalize=False)
    assert text.encode("runs", "q1")["words"].tolist() == [[3, 4]]


def test_classes_of_tokens(write_words: Callable[..., str], counts: str) -> None:
    file = write_words({0: (np.ones((6, 2)), [START, 320, 269, 2533, 777, END])})
    text = PreExtractedText(file, vocabulary=counts, vocabulary_size=2)
    encoded = text.encode("a person in a", 0)
    assert encoded["words_label"].tolist() == [3, 2, 0, 1, 2, 4]
    assert encoded["words_label"].dtype == torch.int64
    assert encoded["unknown_words"].tolist() == [False, True, False, False, True, False]
    assert encoded["words_weight"].tolist() == [0, 1, 1, 1, 1, 0]
    assert encoded["words_weight"].dtype == torch.float32
    assert text.num_classes == 5


def test_start_and_end_are_not_masked_without_a_vocabulary_either(write_words: Callable[..., str]) -> None:
    text = PreExtractedText(write_words({0: (np.ones((3, 2)), [START, 320, END])}))
    assert text.encode("a", 0)["words_weight"].tolist() == [0, 1, 0]


def test_further_words_are_cut_off(write_words: Callable[..., str], counts: str) -> None:
    file = write_words({0: (np.arange(1.0, 11).reshape(5, 2), [START, 269, 320, 2533, END])})
    encoded = PreExtractedText(file, vocabulary=counts, max_words=3, normalize=False).encode("x", 0)
    assert encoded["words"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert encoded["words_label"].tolist() == [1112, 0, 2]
    assert encoded["words_weight"].tolist() == [0, 1, 1]


def test_missing_query(write_words: Callable[..., str]) -> None:
    text = PreExtractedText(write_words({0: ([[1.0]], None), 1: ([[1.0]], None)}))
    message = r"text\.hdf5 has no features of query 7, 'person runs' \(it holds 2 queries\)"
    with pytest.raises(ValueError, match=message):
        text.encode("person runs", 7)
    problems = text.prepare([("person sits", 0), ("person runs", 7)])
    assert list(problems) == [1]
    assert re.search(message, problems[1])
    assert text.prepare([("person sits", 0), ("person stands", 1)]) == {}


def test_new_sentence(write_words: Callable[..., str]) -> None:
    text = PreExtractedText(write_words({0: ([[1.0]], None)}))
    with pytest.raises(ValueError, match=r"sentence 'person runs' is new, and .*text\.hdf5 holds features of known"):
        text.encode("person runs")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((2, 3)), r"text\.hdf5, query 0: the features have 3 channels, expected 2"),
        (np.ones(2), r"text\.hdf5, query 0: expected shape \(words, channels\), got \(2,\)"),
        (np.ones((0, 2)), r"text\.hdf5, query 0: the features are empty"),
        (np.array([[1, 1], [np.nan, 1]]), r"text\.hdf5, query 0: nan in word 1, channel 0 \(1 of 2 words"),
        (np.array([[np.inf, 1]]), r"text\.hdf5, query 0: inf in word 0, channel 0"),
    ],
)
def test_bad_features(write_words: Callable[..., str], features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreExtractedText(write_words({0: (features, None)}), dim=2).encode("person runs", 0)


def test_bad_token_ids(write_words: Callable[..., str], counts: str) -> None:
    file = write_words({0: (np.ones((2, 2)), None), 1: (np.ones((2, 2)), [5]), 2: (np.ones((2, 2)), [0.5, 1])})
    text = PreExtractedText(file, vocabulary=counts)
    with pytest.raises(ValueError, match=r"text\.hdf5: query 0 has no attribute 'token_ids', which a vocabulary needs"):
        text.encode("person runs", 0)
    with pytest.raises(ValueError, match=r"'token_ids' of query 1 is int64 of shape \(1,\), expected 2 integers"):
        text.encode("person runs", 1)
    with pytest.raises(ValueError, match=r"'token_ids' of query 2 is float64 of shape \(2,\), expected 2 integers"):
        text.encode("person runs", 2)


def test_missing_and_truncated_file(tmp_path: Path, write_words: Callable[..., str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"word feature file not found: .*gone\.hdf5"):
        PreExtractedText(str(tmp_path / "gone.hdf5")).encode("person runs", 0)
    path = Path(write_words({0: (np.ones((20, 20)), None)}))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"text\.hdf5 is truncated or is not an HDF5 file"):
        PreExtractedText(str(path)).encode("person runs", 0)


def test_arguments_are_checked(write_text: WriteText, write_words: Callable[..., str]) -> None:
    file = write_words({0: ([[1.0]], None)})
    with pytest.raises(ValueError, match=r"count\.txt holds words, expected token ids: lines 'id count'"):
        PreExtractedText(file, vocabulary=write_text("count.txt", "person 3 9\n"))
    with pytest.raises(ValueError, match="max_words is 0, expected at least 1"):
        PreExtractedText(file, max_words=0)


def test_pickled_copy_reads_for_itself(write_words: Callable[..., str]) -> None:
    text = PreExtractedText(write_words({0: ([[2.0]], None)}))
    text.encode("runs", 0)
    assert pickle.loads(pickle.dumps(text)).encode("runs", 0)["words"].tolist() == [[1]]
