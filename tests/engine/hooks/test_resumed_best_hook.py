# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Where a resumed run looks for its best checkpoint."""

from types import SimpleNamespace

import pytest

from mesm_plugin.engine.hooks import ResumedBestHook


@pytest.fixture
def folders(tmp_path):
    before, now = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    now.mkdir()
    return before, now


def resumed(best, work_dir):
    checkpoint = {"message_hub": {"runtime_info": {"best_ckpt": str(best), "best_score": 3.0, "epoch": 1}}}
    ResumedBestHook().after_load_checkpoint(SimpleNamespace(work_dir=str(work_dir)), checkpoint)
    return checkpoint["message_hub"]["runtime_info"]


def test_same_work_directory(folders):
    best = folders[0] / "best_mAP.pth"
    best.write_text("weights")
    assert resumed(best, folders[0])["best_ckpt"] == str(best)


def test_best_checkpoint_of_another_run_is_copied(folders):
    best = folders[0] / "best_mAP.pth"
    best.write_text("weights")
    assert resumed(best, folders[1]) == {
        "best_ckpt": str(folders[1] / "best_mAP.pth"),
        "best_score": 3.0,
        "epoch": 1,
    }
    assert (folders[1] / "best_mAP.pth").read_text() == best.read_text() == "weights"


def test_moved_work_directory(folders):
    (folders[1] / "best_mAP.pth").write_text("weights")
    assert resumed(folders[0] / "best_mAP.pth", folders[1])["best_ckpt"] == str(folders[1] / "best_mAP.pth")


def test_best_checkpoint_that_is_gone_is_forgotten(folders):
    assert resumed(folders[0] / "best_mAP.pth", folders[1]) == {"epoch": 1}


def test_checkpoint_without_a_message_hub():
    ResumedBestHook().after_load_checkpoint(SimpleNamespace(work_dir="."), {"state_dict": {}})
