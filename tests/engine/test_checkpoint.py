# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints that cannot be read, and checkpoints of another model."""

import argparse

import pytest
import torch
from torch import nn

from mesm_plugin.engine.checkpoint import CheckpointError, check_fit, latest_checkpoint, read_checkpoint, weights_of


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_checkpoint_that_fits(model, tmp_path):
    torch.save({"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, tmp_path / "a")
    read = read_checkpoint(tmp_path / "a")
    check_fit(model, read, "a")
    assert list(weights_of(read, "a")) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_bare_state_dict_fits(model):
    check_fit(model, model.state_dict(), "a")


def test_missing_file_lists_the_others(tmp_path):
    (tmp_path / "epoch_3.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"epoch_4.pth does not exist; .* has epoch_3.pth"):
        read_checkpoint(tmp_path / "epoch_4.pth")
    with pytest.raises(FileNotFoundError, match=r"is a folder, not a checkpoint file; .* has epoch_3.pth"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"x" * 100_000, b"a\0b.pth", b"", b"lost.pth"])
def test_name_of_the_last_checkpoint_that_is_damaged(name, tmp_path):
    (tmp_path / "last_checkpoint").write_bytes(name)
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "epoch_3.pth").touch()
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch_3.pth"


def test_address():
    with pytest.raises(FileNotFoundError, match="checkpoint https://x.org/a.pth is an address; nothing is downloaded"):
        read_checkpoint("https://x.org/a.pth")


def test_truncated_file(model, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"a.pth \(\d+ bytes\) cannot be read as a checkpoint: it is truncated"):
        read_checkpoint(path)


def test_weights_that_are_not_finite(model):
    weights = model.state_dict()
    weights["1.bias"] = torch.tensor([float("nan")])
    with pytest.raises(CheckpointError, match=r"a: 1 weights not finite \(1\.bias\); training diverged"):
        check_fit(model, {"state_dict": weights}, "a")


@pytest.mark.parametrize("weight", [torch.ones(1, 3).to_sparse(), torch.empty(1, 3, device="meta")])
def test_weights_that_are_not_dense(model, weight):
    weights = model.state_dict() | {"1.weight": weight}
    with pytest.raises(CheckpointError, match=r"a: '1\.weight' is sparse, quantised or without numbers"):
        check_fit(model, {"state_dict": weights}, "a")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00."])
def test_file_that_is_no_checkpoint(content, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth \(\d+ bytes\) cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_unsafe_object_is_named(tmp_path):
    torch.save({"model": {}, "opt": argparse.Namespace(a=1)}, tmp_path / "a.ckpt")
    with pytest.raises(
        CheckpointError, match=r"argparse.Namespace, .* not safe to load; mesm import-checkpoint converts files"
    ):
        read_checkpoint(tmp_path / "a.ckpt")


def test_something_else_than_weights(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds a list, not a checkpoint"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="b.pth has no 'state_dict', it holds 'epoch', 'lr'"):
        weights_of({"epoch": 1, "lr": 0.1}, "b.pth")
    with pytest.raises(
        CheckpointError,
        match="it holds 'model', 'opt'; mesm import-checkpoint converts files of the authors",
    ):
        weights_of({"model": {}, "opt": {}}, "c.pth")


def test_checkpoint_of_another_model(model):
    given = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).state_dict()
    del given["0.bias"]
    given.update({f"extra.{i}": torch.zeros(1) for i in range(5)})
    expected = (
        r"checkpoint a.pth does not fit the model Sequential of this config \(4 weights\): "
        r"1 missing \(0.bias\); "
        r"5 unexpected \(extra.0, extra.1, extra.2 and 2 more\); "
        r"2 of another shape \(1.weight is \(2, 3\) in the file and \(1, 3\) in the model, "
        r"1.bias is \(2,\) in the file and \(1,\) in the model\); "
        r"the file does not say what it was trained for. Give the config that the checkpoint was trained with"
    )
    with pytest.raises(CheckpointError, match=expected):
        check_fit(model, {"state_dict": given}, "a.pth")


class Grounder(nn.Sequential):
    """A model with an aligner."""

    def __init__(self, width):
        super().__init__(nn.Linear(2, 3))
        self.aligner = nn.Linear(width, 1)


def trained_for(text, width=2):
    return {"state_dict": Grounder(width).state_dict(), "meta": {"cfg": text}}


def test_checkpoint_of_another_grounder_or_aligner_is_named():
    text = "model = dict(type='QDDETR', aligner=dict(type='MESMAligner'))"
    expected = (
        r"checkpoint a.pth was trained for QDDETR with MESMAligner, but this config builds Grounder with Linear: "
        r"1 of another shape \(aligner.weight is \(1, 3\) in the file and \(1, 2\) in the model\). Give the config that"
    )
    with pytest.raises(CheckpointError, match=expected):
        check_fit(Grounder(2), trained_for(text, width=3), "a.pth")
    text = "model = dict(type='Grounder', aligner=dict(type='MESMAligner'))"
    with pytest.raises(CheckpointError, match=r"a.pth was trained for Grounder with MESMAligner, .*: its weights have"):
        check_fit(Grounder(2), trained_for(text), "a.pth")


def test_checkpoint_of_the_same_classes_and_another_width():
    text = "model = dict(type='Grounder', aligner=dict(type='Linear'))"
    check_fit(Grounder(2), trained_for(text), "a.pth")
    with pytest.raises(CheckpointError, match=r"does not fit .* Grounder with Linear.* in the model\)\. Give the"):
        check_fit(Grounder(2), trained_for(text, width=3), "a.pth")
