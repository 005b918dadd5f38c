# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""UVCOM gives the same outputs, losses and gradients as Lighthouse's code of it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.converters import UVCOM
from mesm_plugin.models.grounders import GrounderOutput
from mesm_plugin.structures import cxw_to_xx

sys.path.append(str(Path(__file__).parent))
from golden_peer import compare, each_perturbation, golden_files, grounder_outputs, load, perturbed

FILES = golden_files("uvcom")

needs_files = pytest.mark.skipif(not FILES, reason="no uvcom*.pt; set MESM_GOLDEN to their folder")


def positive_clips(golden: dict[str, Any]) -> Tensor:
    """The clips that the peer's similarity loss takes for those of the moments: those of the first, rounded down."""
    video_mask = golden["inputs"]["src_vid_mask"].bool()
    place = torch.arange(video_mask.shape[1])
    spans = torch.stack([label["spans"][0] for label in golden["targets"]["span_labels"]])
    bounds = (cxw_to_xx(spans) * video_mask.sum(dim=1, keepdim=True)).int()
    return (place >= bounds[:, :1]) & (place < bounds[:, 1:]) & video_mask


def outputs(output: GrounderOutput, auxiliary: bool) -> dict[str, Tensor]:
    similarities = {name: output.extra[name] for name in ("video_sentence", "clip_sentence") if name in output.extra}
    return {**grounder_outputs(output, auxiliary), **similarities}


def check(golden: dict[str, Any]) -> None:
    golden["targets"]["src_pos_mask"] = golden["randomness"].get("sim_gt_clip_mask", positive_clips(golden))
    if golden["config"]["sim_loss_coef"]:
        similarities = golden["outputs"].pop("sim")
        golden["outputs"]["video_sentence"] = similarities["VLA_Sim"]
        golden["outputs"]["clip_sentence"] = similarities["CTA_Sim"][0]
    compare(golden, UVCOM, outputs, {"loss_similarity": "loss_sim"})


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    check(load(file))


@needs_files
@each_perturbation
def test_a_perturbed_file_fails(kind: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(perturbed(load(FILES[0]), kind))
