# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
import os
from pathlib import Path

import pytest

from mesm_plugin.datasets.dataset_names import published_dataset
from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer
from mesm_plugin.datasets.text.word_counts import (
    count_tokens,
    count_words,
    counted_splits,
    published_max_tokens,
    sentences_in_order,
)


def counted_sentences(name: str, root: Path) -> list[str]:
    dataset = published_dataset(name, root)
    return [sentence for split in counted_splits(dataset) for sentence in sentences_in_order(dataset, split)]


@pytest.mark.parametrize(("name", "folder"), [("charades", "charades"), ("tacos", "TACoS")])
def test_words_agree_with_the_published_counts(shared: Path, name: str, folder: str) -> None:
    published = (shared / "data" / folder / "GloVe_tokenized_count.txt").read_text(encoding="utf-8").splitlines()
    assert count_words(counted_sentences(name, shared / "data")) == published


@pytest.mark.parametrize(
    ("name", "folder"), [("charades", "charades"), ("tacos", "TACoS"), ("qvhighlights", "qvhighlights")]
)
def test_tokens_agree_with_the_published_counts(shared: Path, name: str, folder: str) -> None:
    file = os.environ.get("MESM_CLIP_BPE")
    if file is None:
        pytest.skip("set MESM_CLIP_BPE to CLIP's bpe_simple_vocab_16e6.txt.gz")
    published = (shared / "data" / folder / "CLIP_tokenized_count.txt").read_text(encoding="utf-8").splitlines()
    limit = published_max_tokens(published_dataset(name, shared / "data"))
    assert count_tokens(counted_sentences(name, shared / "data"), BytePairTokenizer(file), limit) == published


def test_lines_of_words() -> None:
    sentences = ["The door, the DOOR!", "a person's door"]
    assert count_words(sentences) == ["door 3 3", "the 6 2", "a 2 1", "person 4 1", "s 5 1"]
    assert count_words(sentences, max_words=2) == ["the 5 1", "door 3 1", "a 2 1", "person 4 1"]


def test_lines_of_tokens() -> None:
    class Tokenizer:
        def encode(self, sentence: str) -> list[int]:
            return [100, *map(len, sentence.split()), 101]

    tokenizer: BytePairTokenizer = Tokenizer()  # type: ignore[assignment]
    assert count_tokens(["a cat ran", "the cat sat on a mat"], tokenizer, 16) == ["3 6", "1 2", "2 1"]
    assert count_tokens(["a cat ran", "the cat sat on a mat"], tokenizer, 4) == ["3 3", "1 1"]
    with pytest.raises(ValueError, match="max_tokens is 2, expected at least 3"):
        count_tokens(["a"], tokenizer, 2)


def test_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="the sentences have no words to count"):
        count_words(["...", ""])
    with pytest.raises(ValueError, match="max_words is 0, expected at least 1"):
        count_words(["a"], 0)


def test_sentences_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """The reader groups them by source and start instead."""
    folder = tmp_path / "qvhighlights" / "annotations"
    folder.mkdir(parents=True)
    vids = ["b_60.0_210.0", "a_0.0_150.0", "b_0.0_150.0"]
    (folder / "highlight_test_release.jsonl").write_text(
        "".join(
            json.dumps({"qid": 9 - i, "query": f"sentence {i}", "duration": 150, "vid": vid}) + "\n"
            for i, vid in enumerate(vids)
        )
    )
    sentences = sentences_in_order(published_dataset("qvhighlights", tmp_path), "test")
    assert sentences == ["sentence 0", "sentence 1", "sentence 2"]
