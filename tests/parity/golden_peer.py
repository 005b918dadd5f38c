# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Compares a grounder with the numbers that a peer's own code gave: what the parity tests of all peers share."""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.converters.peer import Peer
from mesm_plugin.models.grounders import DETRGrounder, GrounderOutput
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import cxw_to_xx

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("MESM_GOLDEN", ROOT.parent / "shared" / "golden"))
NOT_COMPARED = ("projed_recon_feat",)
"""Outputs that take part in no prediction and in no loss. Masks are not compared either: they repeat inputs."""


def golden_files(prefix: str) -> list[Path]:
    """Files `prefix*.pt` under the folder named by MESM_GOLDEN (default: ../shared/golden beside the repository)."""
    return sorted(GOLDEN.rglob(f"{prefix}*.pt"))


def load(file: Path) -> dict[str, Any]:
    """Reads a golden file; weights that it keeps in half precision are exact in single."""
    golden = torch.load(file, weights_only=True)
    golden["state_dict"] = {name: value.float() for name, value in golden["state_dict"].items()}
    return golden


each_perturbation = pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("output", "output pred_spans"),
        ("loss", "loss loss_giou"),
        ("total", "total"),
        ("gradient", "gradient of moment_head"),
    ],
)


def perturbed(golden: dict[str, Any], kind: str) -> dict[str, Any]:
    """A golden file with one number changed by twice the tolerance."""
    golden = copy.deepcopy(golden)
    if kind == "output":
        spans = golden["outputs"]["pred_spans"]
        spans[0, 0, 0] += 2e-4 * spans.abs().max()
    elif kind == "loss":
        golden["losses"]["loss_giou"] *= 1 + 2e-4
    elif kind == "total":
        golden["total"] *= 1 + 2e-4
    else:
        gradient = golden["grads"]["class_embed.weight"]
        gradient[0, 0] += 2e-3 * gradient.abs().max()
    return golden


def build_batch(golden: dict[str, Any]) -> dict[str, Tensor]:
    """The training batch of a golden file: each row is a video with one query."""
    inputs, targets = golden["inputs"], golden["targets"]
    video_mask = inputs["src_vid_mask"].bool()
    rows, length = video_mask.shape
    spans = [label["spans"] for label in targets["span_labels"]]
    moments = torch.nn.utils.rnn.pad_sequence([cxw_to_xx(s) for s in spans], batch_first=True)
    counts = torch.tensor([len(s) for s in spans])
    every = torch.arange(rows)
    negative = golden["randomness"].get("negative_text_permutation", every[:0])
    if not golden["randomness"].get("real_neg_mask", negative >= 0).any():
        negative = every[:0]
    saliency = targets.get("saliency_all_labels", torch.zeros(rows, length)).float()
    batch = {
        "video": inputs["src_vid"],
        "video_mask": video_mask,
        "words": inputs["src_txt"],
        "words_mask": inputs["src_txt_mask"].bool(),
        "query_video": every,
        "source": every,
        "source_clips": torch.arange(rows * length).view(rows, length),
        "source_clips_mask": video_mask,
        "pair_video": torch.cat((every, every[: len(negative)])),
        "pair_query": torch.cat((every, negative)),
        "moments": moments,
        "moments_mask": torch.arange(moments.shape[1]) < counts[:, None],
        "saliency": saliency,
        "hinge_positive": targets["saliency_pos_labels"],
        "hinge_negative": targets["saliency_neg_labels"],
    }
    segment = targets.get("src_pos_mask", targets.get("relevant_clips", saliency))
    return {**batch, "segment_mask": segment > 0}


def grounder_outputs(output: GrounderOutput, auxiliary: bool) -> dict[str, Tensor]:
    """Our outputs under the names that all peers use."""
    queries = output.logits.shape[1]
    ours = {
        "pred_logits": output.logits[-1],
        "pred_spans": output.spans[-1],
        "saliency_scores": output.saliency[:queries],
    }
    if len(output.saliency) > queries:
        ours["saliency_scores_neg"] = output.saliency[queries:]
    for i in range(len(output.logits) - 1 if auxiliary else 0):
        ours[f"aux_{i}_pred_logits"], ours[f"aux_{i}_pred_spans"] = output.logits[i], output.spans[i]
    return ours


def assert_close(name: str, ours: Tensor, reference: Tensor, tolerance: float) -> None:
    assert ours.shape == reference.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(reference.shape)}"
    error = (ours.detach() - reference).abs()
    assert error.isfinite().all(), f"{name}: not finite"
    worst = float(error.max()) if error.numel() else 0.0
    assert worst <= tolerance, f"{name}: off by {worst:.3g} at {error.argmax()}, allowed {tolerance:.3g}"


def compare_outputs(ours: Mapping[str, Tensor], golden: dict[str, Any], masks: Mapping[str, Tensor]) -> None:
    """Compares outputs by name, where `masks` has one for a name only those that it selects."""
    expected = {
        name: value
        for name, value in golden["outputs"].items()
        if isinstance(value, Tensor) and "_mask" not in name and name not in NOT_COMPARED
    }
    for i, layer in enumerate(golden["outputs"].get("aux_outputs", [])):
        expected |= {f"aux_{i}_{name}": value for name, value in layer.items()}
    for name, reference in expected.items():
        assert name in ours, f"output {name} of the file is not compared"
        mask = masks.get(name, ...)
        reference = reference[mask]
        assert_close(f"output {name}", ours[name][mask], reference, 1e-4 * float(reference.abs().max()))


def compare_losses(losses: Mapping[str, Tensor], golden: dict[str, Any], groups: Mapping[str, str]) -> None:
    """Compares weighted losses and their sum.

    Args:
        losses: Ours, by our names.
        golden: The file.
        groups: Name in the file of each of our losses that is part of a loss of another name there.
    """
    ours: dict[str, Tensor] = {}
    for name, value in losses.items():
        theirs = groups.get(name, name)
        ours[theirs] = ours[theirs] + value if theirs in ours else value
    weights = {name: weight for name, weight in golden["loss_weights"].items() if name in golden["losses"]}
    assert set(weights) == set(ours)
    for name, weight in weights.items():
        reference = weight * torch.as_tensor(golden["losses"][name])
        assert_close(f"loss {name}", ours[name], reference, 1e-4 * float(reference.abs()) + 1e-6 * weight)
    total = torch.stack(list(losses.values())).sum()
    assert_close("total", total, torch.as_tensor(golden["total"]), 1e-4 * abs(float(golden["total"])))


def compare_gradients(model: DETRGrounder, names: Mapping[str, str], gradients: Mapping[str, Tensor]) -> None:
    """Compares the gradient of every parameter; `names` has our name by the file's."""
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    parameters = dict(model.named_parameters())
    assert set(names.values()) == set(parameters), "parameters of the file and of the model differ"
    used = {name for name, gradient in gradients.items() if float(gradient.abs().max()) > 1e-6 * largest}
    assert used <= set(names), f"the file has gradients of parameters that the model leaves out: {used - set(names)}"
    for theirs, name in names.items():
        # What nothing depends on has no gradient, as the refinement of spans behind a single decoder layer.
        zero = torch.zeros_like(parameters[name])
        gradient = parameters[name].grad
        reference = gradients.get(theirs, zero).view_as(zero)
        tolerance = 1e-3 * float(reference.abs().max()) + 1e-6 * largest
        assert_close(f"gradient of {name} ({theirs})", zero if gradient is None else gradient, reference, tolerance)


def compare(
    golden: dict[str, Any],
    peer: Peer,
    outputs: Callable[[GrounderOutput, bool], dict[str, Tensor]] = grounder_outputs,
    loss_groups: Mapping[str, str] | None = None,
) -> None:
    """Compares outputs, losses and gradients of a golden file; raises AssertionError, naming the first difference.

    Args:
        golden: What `load` returned.
        peer: Converter of the peer whose file it is.
        outputs: Gives our outputs the peer's names; the second argument is whether earlier decoder layers count.
        loss_groups: See `compare_losses`.
    """
    config, state_dict, batch = golden["config"], golden["state_dict"], build_batch(golden)
    model = MODELS.build(peer.config(config, state_dict))
    model.load_state_dict(peer.convert_state_dict(state_dict, config))
    model.eval()
    output = model.ground(batch)
    masks = dict.fromkeys(("saliency_scores", "saliency_scores_neg"), batch["video_mask"])
    compare_outputs(outputs(output, config["aux_loss"]), golden, masks)
    losses = model.loss_of(output, batch)
    compare_losses(losses, golden, loss_groups or {})
    torch.stack(list(losses.values())).sum().backward()
    compare_gradients(model, peer.parameter_names(list(state_dict), config), golden["grads"])
