# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What is no checkpoint of a grounder's authors is named as what it is, and nothing in it is run."""

import argparse
import gzip
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_plugin.converters import read_author_file

WEIGHTS = {"class_embed.weight": torch.eye(2)}


def saved(file: Path, content: Any) -> Path:
    torch.save(content, file)
    return file


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (gzip.compress(b"x"), "is a gzip archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
        (b'{"dims": 3}', "is text, such as options in JSON"),
        (b"PK\x03\x04 half", "truncated zip archive"),
        (b"no checkpoint at all", r"file\.ckpt \(20 bytes\) is not a checkpoint, or a damaged one"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_author_file(written(tmp_path / "file.ckpt", content))


def test_archives_programs_and_folders_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model_best.ckpt", b"x")
    with pytest.raises(ValueError, match=r"a zip archive \(of model_best\.ckpt\): unpack it first"):
        read_author_file(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"x")
    with pytest.raises(ValueError, match="is a TorchScript program"):
        read_author_file(tmp_path / "script.pt")
    with pytest.raises(ValueError, match="is a folder"):
        read_author_file(tmp_path)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    whole = saved(tmp_path / "whole.ckpt", {"model": WEIGHTS, "opt": {}}).read_bytes()
    with pytest.raises(ValueError, match=r"half\.ckpt .*truncated"):
        read_author_file(written(tmp_path / "half.ckpt", whole[: int(share * len(whole))]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list; expected a dict"),
        ({"epoch": 1}, "holds 'epoch'; expected a dict"),
        ({}, "holds nothing"),
        (WEIGHTS, "is a bare state dict, without the training options.*--options opt.json"),
        ({"model": WEIGHTS}, r"has no training options \('opt'\)"),
        ({"model": WEIGHTS, "opt": 3}, "'opt' is a int, expected options by name"),
        ({"model": {}, "opt": {}}, "'model' is empty"),
        ({"model": 3, "opt": {}}, "'model' is a int"),
        ({"model": {"a": 3}, "opt": {}}, "'model' has 'a', a int, expected tensors"),
        ({"model": {"a": torch.eye(2).to_sparse()}, "opt": {}}, "parameter 'a' is sparse"),
        ({"state_dict": WEIGHTS, "meta": {"cfg": ""}}, "of this package or of MMEngine already"),
        ({"state_dict": WEIGHTS, "pytorch-lightning_version": "2"}, "which is another code's layout"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"file\.ckpt.*{message}"):
        read_author_file(saved(tmp_path / "file.ckpt", content))


def test_options_may_be_a_file_of_their_own(tmp_path: Path) -> None:
    options = tmp_path / "opt.json"
    options.write_text(json.dumps({"hidden_dim": 8}), encoding="utf-8")
    parallel = {"module.class_embed.weight": torch.eye(2)}
    for content in (WEIGHTS, {"model": parallel}, {"model": WEIGHTS, "opt": argparse.Namespace(hidden_dim=4)}):
        state_dict, opts = read_author_file(saved(tmp_path / "file.ckpt", content), options)
        assert (list(state_dict), opts) == (["class_embed.weight"], {"hidden_dim": 8})


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not valid JSON"), ("[]", "hold a list"), ("[" * 9999, "is not valid JSON")]
)
def test_bad_option_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    options = tmp_path / "opt.json"
    options.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"opt\.json {message}"):
        read_author_file(saved(tmp_path / "file.ckpt", WEIGHTS), options)
    with pytest.raises(FileNotFoundError, match=r"gone\.json do not exist"):
        read_author_file(tmp_path / "file.ckpt", tmp_path / "gone.json")


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.canary)!r}, 'w')",)


@pytest.mark.parametrize("key", ["model", "opt", "optimizer", None])
@pytest.mark.parametrize("plain", [False, True])
def test_nothing_is_run(tmp_path: Path, key: str | None, plain: bool) -> None:
    canary, file = tmp_path / "canary", tmp_path / "hostile.ckpt"
    hostile = Hostile(canary)
    content = hostile if key is None else {"model": WEIGHTS, "opt": {}, key: hostile}
    if plain:
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=r"hostile\.ckpt" if plain else r"an object of exec, and nothing of it"):
        read_author_file(file)
    assert not canary.exists()
