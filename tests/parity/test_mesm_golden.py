# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""MESM gives the same outputs, losses and gradients as the code that its authors released.

One test for each file `mesm_*.pt` found under the folder named by MESM_GOLDEN (default: ../shared/golden beside the
repository). All settings come from the file, so files of other sizes, batches and options work too.
"""

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.converters.released_mesm import convert_state_dict, model_config, parameter_names
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.kernels.cross_attention.operator import HEAD_SIZES
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS

sys.path.append(str(Path(__file__).parent))
from released_batch import build_batch

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("MESM_GOLDEN", ROOT.parent / "shared" / "golden"))
FILES = sorted(GOLDEN.rglob("mesm_*.pt"))
LOSS_NAMES = {"loss_rec_fw": "loss_masked_word", "loss_rec_ss": "loss_contrastive"}

needs_files = pytest.mark.skipif(not FILES, reason=f"no mesm_*.pt under {GOLDEN}; set MESM_GOLDEN to their folder")
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def load(file: Path) -> dict[str, Any]:
    return torch.load(file, weights_only=True)


def build_model(golden: dict[str, Any], batch: dict[str, Tensor]) -> DETRGrounder:
    """The model of a golden file, with its parameters loaded strictly."""
    config, state_dict = golden["config"], golden["state_dict"]
    classes = len(state_dict["output_txt_proj.1.bias"]) if config["rec_fw"] else 1
    dims = batch["video"].shape[-1], batch["words"].shape[-1]
    model = MODELS.build(model_config(config, *dims, num_word_classes=classes))
    model.load_state_dict(convert_state_dict(state_dict, config))
    return model.eval()


def our_outputs(model: DETRGrounder, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our outputs under the released names, and our weighted losses under ours."""
    output = model.ground(batch)
    queries = len(batch["words"])
    aligned = output.aligned
    ours = {
        "pred_logits": output.logits[-1],
        "pred_spans": output.spans[-1],
        "saliency_scores": output.saliency[:queries],
        "neg_saliency_scores": output.saliency[queries:],
        "projed_video_feat": aligned.extra["projected_clips"][batch["query_video"]],
        "projed_words_feat": model.text_projection(batch["words"]),
        "expanded_words_feat": aligned.words,
    }
    for i, (logits, spans) in enumerate(zip(output.logits[:-1], output.spans[:-1], strict=True)):
        ours[f"aux_{i}_pred_logits"], ours[f"aux_{i}_pred_spans"] = logits, spans
    if "enhanced_clips" in aligned.extra:
        ours["enhanced_video_feat"] = aligned.extra["enhanced_clips"][:queries]
    else:
        ours["enhanced_video_feat"] = ours["projed_video_feat"]
    if "word_logits" in aligned.extra:
        ours["recfw_words_logit"] = aligned.extra["word_logits"]
    if model.aligner.segment_sentence is not None:
        ours["recon_feat"] = aligned.words[:, 0]
    return ours, model.loss_of(output, batch)


def assert_close(name: str, ours: Tensor, reference: Tensor, tolerance: float) -> None:
    assert ours.shape == reference.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(reference.shape)}"
    error = (ours.detach() - reference).abs()
    assert error.isfinite().all(), f"{name}: not finite"
    assert error.max() <= tolerance, f"{name}: off by {error.max():.3g} at {error.argmax()}, allowed {tolerance:.3g}"


def compare(golden: dict[str, Any]) -> None:
    """Raises AssertionError, naming the first thing that differs."""
    config, batch = golden["config"], build_batch(golden)
    model = build_model(golden, batch)
    ours, losses = our_outputs(model, batch)

    clips_mask = batch["video_mask"][batch["query_video"]]
    valid = dict.fromkeys(
        ("saliency_scores", "neg_saliency_scores", "projed_video_feat", "enhanced_video_feat"), clips_mask
    )
    valid |= dict.fromkeys(("recfw_words_logit", "projed_words_feat"), batch["words_mask"])
    expected = {k: v for k, v in golden["outputs"].items() if isinstance(v, Tensor) and not k.endswith("_mask")}
    for i, layer in enumerate(golden["outputs"].get("aux_outputs", [])):
        expected |= {f"aux_{i}_{name}": value for name, value in layer.items()}
    expected.pop("projed_recon_feat", None)  # takes part in no prediction and in no loss
    if "expanded_words_feat" in expected:
        valid["expanded_words_feat"] = golden["outputs"]["expanded_words_mask"]
    for name, reference in expected.items():
        assert name in ours, f"output {name} of the file is not compared"
        mask = valid.get(name, ...)
        reference = reference[mask]
        assert_close(f"output {name}", ours[name][mask], reference, 1e-4 * float(reference.abs().max()))

    weights = golden["loss_weights"]
    assert {LOSS_NAMES.get(name, name) for name in weights} == set(losses)
    for name, weight in weights.items():
        reference = weight * torch.tensor(golden["losses"][name])
        loss = losses[LOSS_NAMES.get(name, name)]
        assert_close(f"loss {name}", loss, reference, 1e-4 * float(reference.abs()) + 1e-6 * weight)
    total = torch.stack(list(losses.values())).sum()
    assert_close("total", total, torch.as_tensor(golden["total"]), 1e-4 * abs(float(golden["total"])))

    total.backward()
    gradients = golden["grads"]
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    parameters = dict(model.named_parameters())
    names = parameter_names(list(golden["state_dict"]), config)
    assert set(names.values()) == set(parameters), "parameters of the file and of the model differ"
    assert set(gradients) <= set(names), "the file has gradients of parameters that the model leaves out"
    for released, name in names.items():
        # What nothing depends on has no gradient, as the refinement of spans behind a single decoder layer.
        zero = torch.zeros_like(parameters[name])
        gradient = parameters[name].grad
        if gradient is None:
            gradient = zero
        reference = gradients.get(released, zero)
        tolerance = 1e-3 * float(reference.abs().max()) + 1e-6 * largest
        assert_close(f"gradient of {name} ({released})", gradient, reference, tolerance)


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
@pytest.mark.parametrize("kind", ["output", "loss", "gradient"])
def test_a_perturbed_file_fails(kind: str) -> None:
    golden = copy.deepcopy(load(FILES[0]))
    if kind == "output":
        spans = golden["outputs"]["pred_spans"]
        spans[0, 0, 0] += 2e-4 * spans.abs().max()
        message = "output pred_spans"
    elif kind == "loss":
        golden["losses"]["loss_giou"] *= 1 + 2e-4
        message = "loss loss_giou"
    else:
        gradient = golden["grads"]["class_embed.weight"]
        gradient[0, 0] += 2e-3 * gradient.abs().max()
        message = "gradient of moment_head"
    with pytest.raises(AssertionError, match=message):
        compare(golden)
