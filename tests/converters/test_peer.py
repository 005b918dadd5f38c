# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Converters read the authors' files safely, rename by table, and refuse anything else."""

import argparse
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mesm_plugin.converters import Peer, read_author_file
from mesm_plugin.converters.peer import Options, rename

PEER = Peer(
    code="the peer's code",
    names={"head": "label", "stack.*": "layers.[2i]", "stack.*.norm": "norms.[i]", "input.*.net": "input.[4i+2]"},
    model_config=lambda options, state_dict: {"dims": options["dims"], "width": len(state_dict["head.weight"])},
    without_effect=lambda options: () if options.get("used") else ("unused.",),
)
STATE_DICT = {"head.weight": torch.eye(3), "stack.1.bias": torch.ones(2), "unused.weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("head", "label"),
        ("head.weight", "label.weight"),
        ("stack.3.bias", "layers.6.bias"),
        ("stack.3.norm.bias", "norms.3.bias"),
        ("input.2.net.weight", "input.10.weight"),
        ("header.weight", None),
        ("stack.x.bias", None),
    ],
)
def test_names_follow_the_longest_entry(theirs: str, ours: str | None) -> None:
    assert rename(theirs, PEER.names) == ours


@pytest.mark.parametrize("options", [argparse.Namespace(dims=8, device=torch.device("cuda:0")), {"dims": 8}])
def test_checkpoint_round_trip(tmp_path: Path, options: Any) -> None:
    source, target = tmp_path / "best.ckpt", tmp_path / "ours.pth"
    torch.save({"model": STATE_DICT, "optimizer": {}, "epoch": 3, "opt": options}, source)
    assert read_author_file(source)[1]["dims"] == 8
    assert PEER.convert_checkpoint(source, target) == {"dims": 8, "width": 3}
    converted = torch.load(target, weights_only=True)["state_dict"]
    assert list(converted) == ["label.weight", "layers.2.bias"]
    assert torch.equal(converted["label.weight"], torch.eye(3))


def test_options_of_lighthouse_need_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("easydict")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": "easydict"})  # type: ignore[attr-defined]
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "easydict", module)
        options = module.EasyDict(dims=8)
        options.dims = 8
        torch.save({"model": STATE_DICT, "opt": options}, tmp_path / "best.ckpt")
    assert read_author_file(tmp_path / "best.ckpt")[1] == {"dims": 8}


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "opt": Hostile()}, "hostile.ckpt")
    with pytest.raises(ValueError, match=r"hostile\.ckpt is not a checkpoint that is safe to load"):
        read_author_file("hostile.ckpt")
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"model": 1}, protocol=2)])
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.ckpt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.ckpt.*is not a checkpoint"):
        read_author_file(file)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt"):
        read_author_file(tmp_path / "gone.ckpt")


def test_foreign_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 parameters are not those of the peer's code.*backbone\.conv"):
        PEER.parameter_names(["head.weight", "backbone.conv.weight"], {})


def test_missing_option_and_parameter_are_named() -> None:
    with pytest.raises(ValueError, match="the options lack 'dims', which the training options of the peer's code have"):
        PEER.config({}, STATE_DICT)
    with pytest.raises(ValueError, match=r"parameter 'head\.weight' of the peer's code is missing"):
        PEER.config({"dims": 8}, {})


def test_unsupported_value_is_named() -> None:
    with pytest.raises(ValueError, match="option pre_norm=True of the peer's code: only False is supported"):
        Options({"pre_norm": True}, "the peer's code").require(pre_norm=False, absent=3)


def test_file_of_other_code_leaves_the_target_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "other.ckpt", tmp_path / "converted.pth"
    torch.save({"model": {"conv.weight": torch.ones(1)}, "opt": argparse.Namespace(dims=1)}, source)
    with pytest.raises(ValueError, match=r"other\.ckpt: .*is missing"):
        PEER.convert_checkpoint(source, target)
    assert not target.exists()
