# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Byte-pair tokens, of a small vocabulary and of CLIP's own."""

import gzip
import json
import os

import pytest

from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer

pytest.importorskip("tokenizers")

MERGES = ["h e", "l l", "he ll", "hell o</w>", "t h", "th e</w>", "' s</w>"]
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
# Ids of single bytes: the printable ones from "!" on; 256 more at the end of a word. Then the merges.
FIRST_MERGE = 512
START = FIRST_MERGE + len(MERGES)


def letter(text, last=False):
    return ord(text) - ord("!") + 256 * last


@pytest.fixture(params=["gz", "txt", "folder", "tokenizer.json"])
def tokenizer(request, tmp_path):
    lines = "\n".join(["#version: 0.2", *MERGES, ""])
    if request.param in ("gz", "txt"):
        path = tmp_path / f"bpe.txt{'.gz' if request.param == 'gz' else ''}"
        path.write_bytes(gzip.compress(lines.encode()) if request.param == "gz" else lines.encode())
        return BytePairTokenizer(path)
    (tmp_path / "bpe.txt").write_text(lines)
    known = BytePairTokenizer(tmp_path / "bpe.txt")
    vocabulary = json.loads(known._tokenizer.to_str())["model"]["vocab"]
    if request.param == "tokenizer.json":
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary, "merges": MERGES}}))
        return BytePairTokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text(lines)
    return BytePairTokenizer(tmp_path)


def test_ids(tokenizer):
    assert (tokenizer.start, tokenizer.end, tokenizer.size) == (START, START + 1, START + 2)
    hello, the, s = (FIRST_MERGE + index for index in (3, 5, 6))
    assert tokenizer.encode("  Hello\tTHE  the ") == [START, hello, the, the, START + 1]
    digits = [letter("1", last=True), letter("2", last=True)]
    assert tokenizer.encode("hell's 12")[1:-1] == [FIRST_MERGE, letter("l"), letter("l", last=True), s, *digits]
    assert tokenizer.encode("") == [START, START + 1]
    assert tokenizer.encode("&amp;amp;") == [START, letter("&", last=True), START + 1]


def test_bytes_beyond_ascii(tokenizer):
    # "é" is the bytes C3 A9; bytes from A1 to AC and from AE on follow the 94 of ASCII.
    assert tokenizer.encode("É")[1:-1] == [94 + 12 + 0xC3 - 0xAE, 256 + 94 + 0xA9 - 0xA1]


def test_words(tokenizer):
    assert tokenizer.words(tokenizer.encode("hello hex")) == [SPECIAL[0], "hello", "he", "x", SPECIAL[1]]


def test_bad_files(tmp_path):
    bad = tmp_path / "bpe.txt"
    cases = [
        ("", "it has no merges"),
        ("#version\nh e x\n", "merge 1 is 'h e x', expected two tokens"),
        ("#version\nh e\nhe ll\n", "merge 2 is 'he ll', expected two tokens"),
        ("#version\nh e\nh e\n", "its 515 tokens do not have the ids 0 to 514, each once"),
    ]
    for text, problem in cases:
        bad.write_text(text)
        with pytest.raises(ValueError, match=rf"bpe\.txt is no byte-pair vocabulary, or is damaged \({problem}"):
            BytePairTokenizer(bad)
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bpe\.txt is no byte-pair vocabulary"):
        BytePairTokenizer(bad)
    whole = gzip.compress("\n".join(["#", *MERGES]).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.gz is no byte-pair vocabulary, or is damaged"):
        BytePairTokenizer(tmp_path / "cut.gz")
    with pytest.raises(FileNotFoundError, match=r"byte-pair vocabulary not found: .*gone\.gz"):
        BytePairTokenizer(tmp_path / "gone.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty has neither tokenizer\.json nor vocab\.json and merges\.txt"):
        BytePairTokenizer(tmp_path / "empty")
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 1}, "merges": ["a a"]}}')
    with pytest.raises(ValueError, match=r"tokenizer\.json is no byte-pair vocabulary"):
        BytePairTokenizer(tmp_path / "tokenizer.json")


def test_ids_of_clip():
    path = os.environ.get("MESM_CLIP_BPE")
    if path is None:
        pytest.skip("set MESM_CLIP_BPE to CLIP's bpe_simple_vocab_16e6.txt.gz")
    tokenizer = BytePairTokenizer(path)
    assert (tokenizer.start, tokenizer.end, tokenizer.size) == (49406, 49407, 49408)
    assert tokenizer.encode("a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.words(tokenizer.encode("doorknob"))[1:-1] == ["door", "knob"]
