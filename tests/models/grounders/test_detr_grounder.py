# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.kernels.contrastive_loss import operator as loss_operator
from mesm_plugin.kernels.cpu.suitable import plain_operators
from mesm_plugin.kernels.cross_attention import operator as attention_operator
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS

LOSSES = ["loss_contrastive", "loss_giou", "loss_giou_0", "loss_label", "loss_label_0", "loss_masked_word"]
LOSSES += ["loss_saliency", "loss_span", "loss_span_0"]
MakeBatch = Callable[..., dict[str, Any]]


def build(config: dict[str, Any], **changes: Any) -> DETRGrounder:
    torch.manual_seed(0)
    return MODELS.build({**config, **changes})


def gradients_of(model: DETRGrounder, batch: dict[str, Any]) -> dict[str, torch.Tensor | None]:
    torch.stack(list(model(**batch, mode="loss").values())).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_parameter_learns(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    model = build(grounder_config)
    batch = make_batch([9, 5], [2, 1])
    batch["inputs"]["unknown_words"] = batch["inputs"]["words_mask"] & ~batch["inputs"]["masked_words"]
    assert sorted(model(**batch, mode="loss")) == LOSSES
    without = [name for name, gradient in gradients_of(model, batch).items() if gradient is None or not gradient.any()]
    # The first decoder layer starts from zeros, so its content projections learn from their bias only.
    allowed = {"decoder.layers.0.self_query_content.weight", "decoder.layers.0.self_key_content.weight"}
    allowed |= {"decoder.layers.0.self_value.weight"}
    assert set(without) <= allowed


@pytest.mark.parametrize(
    ("part", "loss"), [("frame_word", "loss_masked_word"), ("segment_sentence", "loss_contrastive")]
)
def test_enhancements_can_be_switched_off(
    grounder_config: dict[str, Any], make_batch: MakeBatch, part: str, loss: str
) -> None:
    batch = make_batch([9, 5], [2, 1])
    full = build(grounder_config)(**batch, mode="loss")
    aligner = {**grounder_config["aligner"], part: None}
    losses = build(grounder_config, aligner=aligner)(**batch, mode="loss")
    assert set(full) - set(losses) == {loss}


def test_losses_are_float32_under_autocast(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    model, batch = build(grounder_config).eval(), make_batch([9, 5], [2, 1])
    expected = model(**batch, mode="loss")
    kinds = []
    model.span_loss.register_forward_pre_hook(lambda module, args: kinds.extend(arg.dtype for arg in args[:2]))
    # The C++ operators for CPUs return float32 all the same.
    with plain_operators(), torch.autocast("cpu", torch.bfloat16):
        assert model(**batch, mode="tensor").logits.dtype == torch.bfloat16
        losses = model(**batch, mode="loss")
    assert set(kinds) == {torch.float32}
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0.02)


def test_triton_kernels_under_autocast(
    grounder_config: dict[str, Any],
    make_batch: MakeBatch,
    interpreter: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aligner = grounder_config["aligner"]
    aligner["num_layers"] = aligner["frame_word"]["num_layers"] = aligner["segment_sentence"]["num_layers"] = 1
    # The kernels have no head size 8.
    grounder_config["heads"] = 2
    batch = make_batch([5, 4], [1, 1])
    kinds: set[tuple[Callable[..., Any], torch.dtype]] = set()

    def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any) -> Any:
            kinds.add((function, tree_leaves(args)[0].dtype))
            return function(*args)

        return record

    attend, contrast = attention_operator.attend, loss_operator.contrast
    monkeypatch.setattr(attention_operator, "attend", recorded(attend))
    monkeypatch.setattr(loss_operator, "contrast", recorded(contrast))
    results = {}
    for backend in ("triton", "reference"):
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
        model = build(grounder_config)
        # On a GPU the rest is PyTorch's.
        with plain_operators(), torch.autocast(interpreter.type, torch.bfloat16):
            losses = model(**batch, mode="loss")
        # The gradient of the generalised IoU jumps where the ends of two moments change their order.
        smooth = torch.stack([loss for name, loss in losses.items() if "giou" not in name]).sum()
        gradients = torch.autograd.grad(smooth, list(model.parameters()), materialize_grads=True)
        results[backend] = losses, torch.cat([x.flatten() for x in gradients])
    assert kinds == {(attend, torch.bfloat16), (contrast, torch.float32)}
    (losses, gradient), (expected_losses, expected) = results.values()
    torch.testing.assert_close(losses, expected_losses, rtol=0.02, atol=0.01)
    assert (gradient - expected).norm() <= 0.05 * expected.norm()


def test_encoder_loss_can_be_switched_off(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    losses = build(grounder_config, saliency_losses=[])(**make_batch([9, 5], [2, 1]), mode="loss")
    assert "loss_saliency" not in losses


def test_paper_forms_train(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    aligner = {"type": "MESMAligner", "frame_word": {"num_word_classes": 21}, "segment_sentence": {"context": "attend"}}
    changes = {
        "aligner": aligner,
        "saliency_head": {"type": "MLPSaliencyHead"},
        "saliency_losses": [{"type": "ClipBCELoss"}],
    }
    model = build(grounder_config, **changes)
    batch = make_batch([9, 5], [2, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(30):
        total = torch.stack(list(model(**batch, mode="loss").values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_predictions_do_not_depend_on_batch_companions(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    model = build(grounder_config).eval()
    together = model(**make_batch([9, 5], [2, 1], training=False), mode="predict")
    alone = model(**make_batch([9], [2], training=False), mode="predict")
    for ours, expected in zip(together[0].pred_moments, alone[0].pred_moments, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    for ours, expected in zip(together[0].pred_saliency, alone[0].pred_saliency, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_predictions_are_in_seconds_and_ranked(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    model = build(grounder_config).eval()
    batch = make_batch([9, 5], [2, 1], training=False)
    samples = model(**batch, mode="predict")
    assert [len(sample.pred_moments) for sample in samples] == [2, 1]
    for sample, clips in zip(samples, (9, 5), strict=True):
        for moments, saliency in zip(sample.pred_moments, sample.pred_saliency, strict=True):
            assert moments.shape == (6, 3)
            assert (np.diff(moments[:, 2]) <= 0).all()
            assert (moments[:, :2] >= 0).all()
            assert (moments[:, :2] <= sample.duration).all()
            assert saliency.shape == (clips,)
    output = model(**batch)
    best = output.logits[-1][2].softmax(-1)[:, 0].argmax()
    centre, width = output.spans[-1][2, best].tolist()
    expected = np.clip([5 * (centre - width / 2), 5 * (centre + width / 2)], 0, 5)
    np.testing.assert_allclose(samples[1].pred_moments[0][0, :2], expected, rtol=1e-5)


def test_one_video_batch_has_no_negative_pairs_and_trains(
    grounder_config: dict[str, Any], make_batch: MakeBatch
) -> None:
    batch = make_batch([9], [2])
    assert len(batch["inputs"]["pair_video"]) == 2
    losses = build(grounder_config)(**batch, mode="loss")
    assert sorted(losses) == LOSSES
    assert torch.stack(list(losses.values())).isfinite().all()


@pytest.mark.parametrize("what", ["words_mask", "video_mask", "segment_mask"])
def test_all_masked_rows_stay_finite(grounder_config: dict[str, Any], make_batch: MakeBatch, what: str) -> None:
    model = build(grounder_config)
    batch = make_batch([9, 5], [2, 1])
    batch["inputs"][what][1] = False
    if what == "video_mask":
        batch["inputs"]["source_clips_mask"][1] = False
    for name, gradient in gradients_of(model, batch).items():
        assert gradient is None or gradient.isfinite().all(), name
    model.eval()
    for sample in model(**batch, mode="predict"):
        assert all(np.isfinite(moments).all() for moments in sample.pred_moments)


def test_several_moments_a_query(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    losses = build(grounder_config)(**make_batch([19, 15], [2, 1], moments_a_query=3), mode="loss")
    assert torch.stack(list(losses.values())).isfinite().all()


def test_wrong_feature_width_is_named(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    model = build(grounder_config)
    with pytest.raises(ValueError, match="the clip features have 12 channels, but the model was built for 10"):
        model(**make_batch([9], [2], video_dims=12), mode="loss")


def test_missing_vocabulary_is_named(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    batch = make_batch([9, 5], [2, 1])
    del batch["inputs"]["words_label"]
    with pytest.raises(ValueError, match="no words_label: give the text encoder a vocabulary"):
        build(grounder_config)(**batch, mode="loss")


def test_unknown_mode_is_named(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match="mode must be .*, got 'train'"):
        build(grounder_config)(**make_batch([9], [1]), mode="train")


def test_step_decides_nothing_on_the_device(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    # On the meta device whatever needs a value (an item, a boolean index, a nonzero) raises.
    model = build(grounder_config).to("meta")
    batch = make_batch([19, 15], [2, 1], moments_a_query=3)["inputs"]
    losses = model.loss({name: tensor.to("meta") for name, tensor in batch.items()})
    torch.stack(list(losses.values())).sum().backward()
    assert model.video_projection[2].weight.grad is not None
