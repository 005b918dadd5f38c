# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""An imported checkpoint is tested and predicts at once; hostile files are refused wherever a checkpoint is given."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tests.cli.conftest import SMALL, mesm
from tests.converters.author_files import PUBLISHED, state_dict_of, write_author_file

SHIPPED = "mesm_charades_vgg_glove"
WORDS = ("person", "opens", "the", "door", "sits", "down")


@pytest.fixture(scope="module")
def author_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authors") / "model_test_best.ckpt"
    return write_author_file(file, state_dict_of(SHIPPED, seed=3), PUBLISHED[SHIPPED])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Charades-STA with two queries."""
    folder = tmp_path / "files"
    annotations = folder / "charades" / "annotations"
    annotations.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        lines = ["AAAAA 1.0 6.0##person opens the door.", "BBBBB 2.0 9.0##person sits down."]
        (annotations / f"charades_sta_{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (annotations / f"Charades_v1_{split}.csv").write_text("id,length\nAAAAA,10\nBBBBB,12\n", encoding="utf-8")
    counts = [f"{word} {number} 2" for number, word in enumerate(WORDS)]
    (annotations / "GloVe_tokenized_count.txt").write_text("\n".join(counts) + "\n", encoding="utf-8")
    vectors = [f"{word} {' '.join(map(str, rng.normal(size=300).round(3)))}" for word in WORDS]
    (folder / "glove.6B.300d.txt").write_text("\n".join(vectors) + "\n", encoding="utf-8")
    with h5py.File(folder / "charades" / "vgg.hdf5", "w") as file:
        for video, clips in (("AAAAA", 58), ("BBBBB", 70)):
            file[video] = rng.normal(size=(clips, 4096)).astype(np.float32)
    monkeypatch.setenv("MESM_DATA", str(folder))
    return folder


def test_imported_checkpoint_is_tested_and_predicts(
    tmp_path: Path, data: Path, author_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = mesm("import-checkpoint", author_file, "--out", "mesm.pth")
    assert output.code == 0, output.err
    assert output.out.splitlines() == [
        "Read: a checkpoint of the released MESM code, 262 parameters (12.9 M numbers)",
        f"Model: that of the shipped config {SHIPPED}",
        "Checkpoint: mesm.pth",
        "Config: mesm.py",
        "Next: mesm test mesm.py mesm.pth",
    ]
    loaders = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
    files = {}
    for config in ("mesm.py", SHIPPED):
        files[config] = tmp_path / f"{Path(config).stem}.jsonl"
        output = mesm("test", config, "mesm.pth", "--out", files[config], "--cfg-options", *loaders)
        assert output.code == 0, output.err
        assert "mAP" in output.scores
    lines = [json.loads(line) for line in files["mesm.py"].read_text(encoding="utf-8").splitlines()]
    assert files["mesm.py"].read_bytes() == files[SHIPPED].read_bytes()
    assert [len(line["pred_relevant_windows"]) for line in lines] == [10, 10]

    output = mesm("predict", "mesm.py", "mesm.pth", "--query", lines[0]["qid"], "--json", "moments.json", "--top", 10)
    assert output.code == 0, output.err
    moments = json.loads(Path("moments.json").read_text(encoding="utf-8"))["queries"][0]["moments"]
    predicted = [[moment["start"], moment["end"], moment["score"]] for moment in moments]
    # The scores of untrained moments are nearly the same, so their order is left to rounding.
    np.testing.assert_allclose(sorted(predicted), sorted(lines[0]["pred_relevant_windows"]), atol=1e-3)


def test_bad_files_are_told_in_one_line(tmp_path: Path, author_file: Path) -> None:
    pointer = tmp_path / "pointer.ckpt"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    for arguments, message in {
        (pointer,): f"{pointer} is not a checkpoint: it is a Git LFS pointer",
        (tmp_path / "gone.ckpt",): "gone.ckpt does not exist",
        (tmp_path,): "is a folder",
        (author_file, "--out", tmp_path / "a.pth", "--peer", "eatr"): "of EaTR's code",
        (author_file, "--out", author_file): "is the file to import itself",
    }.items():
        output = mesm("import-checkpoint", *arguments)
        assert output.code == 2
        assert output.err.startswith("mesm import-checkpoint: error: ")
        assert output.err.count("\n") == 1
        assert message in output.err


def test_a_file_of_the_authors_given_as_it_is_names_the_command(author_file: Path) -> None:
    output = mesm("predict", SHIPPED, author_file, "--query", "0")
    assert output.code == 2
    assert "mesm import-checkpoint" in output.err


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("key", ["state_dict", "model", "message_hub", "optimizer"])
def test_no_command_runs_what_a_checkpoint_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.chdir(tmp_path)
    # Not even where PyTorch is told to run what files hold.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary, file, run = tmp_path / "canary", tmp_path / "epoch_1.pth", tmp_path / "run"
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": {}, "opt": {}, key: Hostile(canary)}, file)
    run.mkdir()
    (run / "epoch_1.pth").write_bytes(file.read_bytes())
    (run / "last_checkpoint").write_text(str(run / "epoch_1.pth"), encoding="utf-8")
    config = ("mesm_synthetic", "--work-dir", run)
    options = ("--cfg-options", *SMALL)
    pretrained = ("model.init_cfg.type=Pretrained", f"model.init_cfg.checkpoint={file}")
    predict = ("--features", "none.npy", "--sentence", "a person opens the door")
    for arguments in (
        ("import-checkpoint", file, "--out", "out.pth"),
        ("test", "mesm_synthetic", file, *options),
        ("predict", "mesm_synthetic", file, *predict),
        ("predict", "mesm_synthetic", "none.pth", *predict, "--compare", "mesm_synthetic", file),
        ("train", *config, "--resume", *options),
        ("train", "mesm_synthetic", "--work-dir", "new", *options, f"load_from={file}"),
        ("train", "mesm_synthetic", "--work-dir", "init", *options, *pretrained),
    ):
        output = mesm(*arguments)
        assert output.code == 2, arguments
        assert not canary.exists(), arguments
    assert not (tmp_path / "out.pth").exists()
