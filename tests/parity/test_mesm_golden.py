# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""MESM gives the same outputs, losses and gradients as the code that its authors released.

One test for each file `mesm_*.pt` found under the folder named by MESM_GOLDEN (default: ../shared/golden beside the
repository). All settings come from the file, so files of other sizes, batches and options work too.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.converters import RELEASED_MESM
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.kernels.cross_attention.operator import HEAD_SIZES
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS

sys.path.append(str(Path(__file__).parent))
from golden_peer import (
    compare_gradients,
    compare_losses,
    compare_outputs,
    each_perturbation,
    golden_files,
    grounder_outputs,
    load,
    perturbed,
)
from released_batch import build_batch

FILES = golden_files("mesm_")
LOSS_NAMES = {"loss_masked_word": "loss_rec_fw", "loss_contrastive": "loss_rec_ss"}

needs_files = pytest.mark.skipif(not FILES, reason="no mesm_*.pt; set MESM_GOLDEN to their folder")
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def our_outputs(model: DETRGrounder, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our outputs under the released names, and our weighted losses under ours."""
    output = model.ground(batch)
    queries = len(batch["words"])
    aligned = output.aligned
    ours = {
        **grounder_outputs(output, auxiliary=True),
        "neg_saliency_scores": output.saliency[queries:],
        "projed_video_feat": aligned.extra["projected_clips"][batch["query_video"]],
        "projed_words_feat": output.projected.words,
        "expanded_words_feat": aligned.words,
    }
    if "enhanced_clips" in aligned.extra:
        ours["enhanced_video_feat"] = aligned.extra["enhanced_clips"][:queries]
    else:
        ours["enhanced_video_feat"] = ours["projed_video_feat"]
    if "word_logits" in aligned.extra:
        ours["recfw_words_logit"] = aligned.extra["word_logits"]
    if model.aligner.segment_sentence is not None:
        ours["recon_feat"] = aligned.words[:, 0]
    return ours, model.loss_of(output, batch)


def compare(golden: dict[str, Any]) -> None:
    """Raises AssertionError, naming the first thing that differs."""
    config, state_dict, batch = golden["config"], golden["state_dict"], build_batch(golden)
    model = MODELS.build(RELEASED_MESM.config(config, state_dict))
    model.load_state_dict(RELEASED_MESM.convert_state_dict(state_dict, config))
    model.eval()
    ours, losses = our_outputs(model, batch)

    clips_mask = batch["video_mask"][batch["query_video"]]
    masks = dict.fromkeys(
        ("saliency_scores", "neg_saliency_scores", "projed_video_feat", "enhanced_video_feat"), clips_mask
    )
    masks |= dict.fromkeys(("recfw_words_logit", "projed_words_feat"), batch["words_mask"])
    if "expanded_words_mask" in golden["outputs"]:
        masks["expanded_words_feat"] = golden["outputs"]["expanded_words_mask"]
    compare_outputs(ours, golden, masks)
    compare_losses(losses, golden, LOSS_NAMES)
    torch.stack(list(losses.values())).sum().backward()
    compare_gradients(model, RELEASED_MESM.parameter_names(list(state_dict), config), golden["grads"])


@needs_files
@each_file
def test_golden(file: Path) -> None:
    compare(load(file))


@needs_files
@each_file
@pytest.mark.usefixtures("interpreter")
def test_golden_with_triton(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load(file)
    head_size = golden["config"]["hidden_dim"] // golden["config"]["nheads"]
    if head_size not in HEAD_SIZES:
        pytest.skip(f"the kernels have no head size {head_size}")
    queries = len(golden["inputs"]["video_mask"])
    if queries > 8:
        pytest.skip(f"{queries} queries take the interpreter minutes")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "triton")
    compare(golden)


@needs_files
@each_perturbation
def test_a_perturbed_file_fails(kind: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        compare(perturbed(load(FILES[0]), kind))
