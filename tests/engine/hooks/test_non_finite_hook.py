# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Training with losses that are not finite."""

import pytest
import torch

from tests.cli.conftest import SMALL, mesm

HUGE = "optim_wrapper.optimizer.lr=1e30"


def test_ends_training_and_saves_the_batch(tmp_path):
    options = [*SMALL, HUGE, "train_dataloader.dataset.num_videos=12", "custom_hooks.3.max_skipped=2"]
    output = mesm("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert output.code == 2
    assert "not finite in step 2, videos synthetic_train_" in output.out
    assert "the step was left out (1 in a row)" in output.out
    assert "not finite in step 3, videos synthetic_train_" in output.err
    assert "training ends after 2 such steps in a row" in output.err
    saved = torch.load(tmp_path / "non_finite.pth", weights_only=True)
    assert saved["step"] == 3
    assert len(saved["vids"]) == len(saved["qids"]) == len(saved["inputs"]["video"]) == 3
    assert saved["losses"]["loss"] != saved["losses"]["loss"]
    assert saved["broken"][0] in saved["state_dict"]
    # Left out before it could make the weights NaN.
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_other_wrappers_are_refused(tmp_path):
    options = [*SMALL, "optim_wrapper.type=OptimWrapper"]
    output = mesm("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert output.code == 2
    assert "NonFiniteHook needs optim_wrapper.type='GuardedOptimWrapper', got 'OptimWrapper'" in output.err


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(tmp_path, dtype):
    output = mesm("train", "mesm_synthetic", "--amp", dtype, "--work-dir", tmp_path, "--cfg-options", *SMALL)
    if dtype == "float16" and not torch.cuda.is_available():
        assert output.code == 2
        assert "'float16', which needs a GPU" in output.err
    else:
        assert output.code == 0, output.err
        assert "R1@0.5" in output.scores
