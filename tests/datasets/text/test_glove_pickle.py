# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets import GloVeText
from mesm_plugin.datasets.text.glove_pickle import GloVePickle
from mesm_plugin.datasets.text.vocabulary import Vocabulary

VECTORS = [[3.0, 0.0, 4.0], [0.0, 1.0, 0.0], [1.0, 2.0, 2.0]]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str = "glove.pkl", protocol: int = 4, **changes: Any) -> Path:
        content = {
            "w2id": {"person": 0, "the": 1, "door": 2},
            "id2vec": np.array(VECTORS),
            "counter": Counter({"door": 1, "the": 8, "person": 9, "opens": 1}),
            **changes,
        }
        path = tmp_path / name
        path.write_bytes(pickle.dumps({key: value for key, value in content.items() if value is not None}, protocol))
        return path

    return write


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    "table",
    [
        np.array(VECTORS, dtype=np.float32),
        dict(enumerate(np.array(VECTORS))),
        dict(enumerate(VECTORS)),
        list(np.array(VECTORS, dtype=">f4")),
    ],
    ids=["array", "dict of arrays", "dict of lists", "list of arrays"],
)
def test_glove_text_reads_it_by_its_content(write: Write, table: Any, protocol: int) -> None:
    path = write("glove.300d", protocol, id2vec=table)
    text = GloVeText(str(path), vocabulary=str(path), vocabulary_size=2)
    encoded = text.encode("Person: the door!")
    np.testing.assert_allclose(encoded["words"], [[0.6, 0, 0.8], [0, 1, 0], [1 / 3, 2 / 3, 2 / 3]], rtol=1e-6)
    assert encoded["words_label"].tolist() == [0, 1, 2]
    assert encoded["unknown_words"].tolist() == [False, False, True]


def test_ties_of_counts_are_ordered_as_in_the_released_code(write: Write) -> None:
    counts = Counter({"door": 1, "the": 8, "person": 9, "opens": 1})
    path = write(counter=counts)
    assert GloVePickle(path).most_common() == [word for word, _ in counts.most_common(4)]
    assert [Vocabulary.from_file(path, 3).label(word) for word in ("person", "the", "door", "opens")] == [0, 1, 2, 3]


def test_other_name_of_the_ids(write: Write) -> None:
    found = GloVePickle(write(w2id=None, wtoi={"door": 2})).find({"door", "person"})
    assert {word: vector.tolist() for word, vector in found.items()} == {"door": [1, 2, 2]}
    assert found["door"].dtype == np.float32


def test_absent_words_share_a_vector(write: Write) -> None:
    words = GloVeText(str(write()), normalize=False).encode("door unheard unseen")["words"]
    assert words[1].tolist() == words[2].tolist() != [1, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w2id": None}, "has no w2id, only the keys 'id2vec, counter'"),
        ({"id2vec": None}, "has no id2vec"),
        ({"w2id": [1]}, "w2id is a list, expected a dict"),
        ({"w2id": {"door": 7}}, "id2vec has no vector for the id 7 of 'door'"),
        ({"w2id": {"door": -1}}, "id2vec has no vector for the id -1 of 'door'"),
        ({"w2id": {"door": "2"}}, "w2id has 'door': '2', expected the number of a vector"),
        ({"id2vec": 3}, "id2vec has no vector for the id 2 of 'door'"),
        ({"id2vec": {2: "abc"}}, "the vector of 'door' is not a row of 1 to 4096 numbers"),
        ({"id2vec": {2: [1.0, "x"]}}, "the vector of 'door' is not a row of 1 to 4096 numbers"),
        ({"id2vec": {2: []}}, "the vector of 'door' is not a row of 1 to 4096 numbers"),
        ({"id2vec": {2: [1e99]}}, "the vector of 'door' has numbers that are not finite"),
        ({"id2vec": {2: [float("nan")]}}, "the vector of 'door' has numbers that are not finite"),
        ({"id2vec": {0: [1.0, 2.0], 1: [1.0, 2.0], 2: [1.0]}}, "'person' has a vector of 2 numbers, but 'door' of 1"),
    ],
)
def test_broken_vectors(write: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"glove\.pkl:? .*{message}"):
        GloVeText(str(write(**changes))).prepare([("the person, the door", 1)])


@pytest.mark.parametrize(
    ("counter", "message"),
    [
        (None, "has no counter"),
        ({}, "counter is a dict"),
        ({"door": "many"}, "counter has 'door': 'many', expected a word and a count"),
        ({3: 1}, "counter has 3: 1, expected a word and a count"),
    ],
)
def test_broken_counts(write: Write, counter: Any, message: str) -> None:
    path = write(counter=counter)
    with pytest.raises(ValueError, match=rf"glove\.pkl:? {message}"):
        Vocabulary.from_file(path, 3)


def test_something_else(tmp_path: Path) -> None:
    path = tmp_path / "glove.pkl"
    path.write_bytes(pickle.dumps(["door"]))
    with pytest.raises(ValueError, match=r"glove\.pkl holds a list, expected a dict with w2id, id2vec and counter"):
        GloVePickle(path)
