# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""CG-DETR gives the same outputs, losses and gradients as Lighthouse's code of it."""

import sys
from pathlib import Path

import pytest
from torch import Tensor

from mesm_plugin.converters import CG_DETR
from mesm_plugin.models.grounders import GrounderOutput

sys.path.append(str(Path(__file__).parent))
from golden_peer import compare, each_perturbation, golden_files, grounder_outputs, load, perturbed

FILES = golden_files("cg_detr")
LOSS_GROUPS = {
    "loss_attention_saliency": "loss_saliency",
    "loss_moment_sentence": "loss_ms_align",
    "loss_distillation": "loss_distill",
    "loss_orthogonality": "loss_orthogonal_dummy",
}
TOKENS = {
    "memory_moment": "moment",
    "nmmemory_moment": "background",
    "sentence_txt": "sentence",
    "sentence_dummy": "dummy_sentence",
    "moment2txt_similarity": "similarity",
    "nmoment2txt_similarity": "background_similarity",
    "src_vid": "moment_clips",
    "dummy_tokens": "dummies",
}

needs_files = pytest.mark.skipif(not FILES, reason="no cg_detr*.pt; set MESM_GOLDEN to their folder")


def check(golden: dict) -> None:
    prompts = golden["state_dict"]["global_rep_token"]

    def outputs(output: GrounderOutput, auxiliary: bool) -> dict[str, Tensor]:
        extra, queries = output.aligned.extra, output.logits.shape[1]
        attention = extra["attention"]
        to_words = attention[..., extra["dummies"].shape[1] :].sum(dim=-1)
        return {
            **grounder_outputs(output, auxiliary),
            **{theirs: extra[ours] for theirs, ours in TOKENS.items()},
            "cate_attn_weights": attention[:queries],
            "t2vattnvalues": to_words[:queries],
            "t2vattnvalues_neg": to_words[queries:],
            "global_rep_tokens": prompts,
        }

    compare(golden, CG_DETR, outputs, LOSS_GROUPS)


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    check(load(file))


@needs_files
@each_perturbation
def test_a_perturbed_file_fails(kind: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(perturbed(load(FILES[0]), kind))
