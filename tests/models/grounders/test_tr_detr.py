# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import torch

from mesm_plugin.models.grounders import TRDETR
from mesm_plugin.registry import MODELS

SIZES = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48, "dropout": 0.0}
MakeBatch = Callable[..., dict[str, Any]]


def build(**parts: Any) -> TRDETR:
    torch.manual_seed(0)
    return MODELS.build({"type": "TRDETR", "projection_dropout": 0.0, **SIZES, **parts})


def test_losses_have_no_negative_pairs(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [2, 1])["inputs"]
    model = build()
    assert model.ground(inputs).saliency.shape == (3, 9)
    names = {f"loss_{name}" for name in ("span", "giou", "label", "span_0", "giou_0", "label_0", "saliency")}
    assert set(model.loss(inputs)) == names | {"loss_clip_sentence", "loss_video_sentence"}


def test_the_best_moment_is_found() -> None:
    model = build()
    logits = torch.tensor([[[0.0, 1.0], [2.0, 0.0]]]).expand(4, -1, -1)
    spans = torch.tensor([[0.5, 0.3], [0.2, 0.6], [0.9, 0.4], [0.55, 0.1]])
    spans = torch.stack((torch.full_like(spans, 0.5), spans), dim=1)
    first, last = model.best_moment(logits, spans, torch.tensor([10, 10, 5, 20]))
    # 3.5 to 6.5 of 10 clips; -1 to 5 of 10; 3.5 to 5.5 of 5; 10 to 12 of 20.
    assert first.tolist() == [3, 0, 3, 10]
    assert last.tolist() == [6, 5, 4, 12]


def test_a_moment_is_read_with_zeros_behind_it() -> None:
    model = build()
    clips = torch.randn(2, 7, 32)
    moment = model.read_moment(clips, torch.tensor([7, 5]), torch.tensor([2, 4]), torch.tensor([3, 4]))
    for row, (first, last, count) in enumerate([(2, 3, 7), (4, 4, 5)]):
        read = torch.zeros(1, count, 32)
        read[0, : last - first + 1] = clips[row, first : last + 1]
        torch.testing.assert_close(moment[row], model.moment_reader(read)[1][0, 0])


def test_a_moment_is_read_in_float32_under_autocast() -> None:
    model = build()
    clips = torch.randn(2, 7, 32).bfloat16()
    place = torch.tensor([7, 5]), torch.tensor([2, 4]), torch.tensor([3, 4])
    with torch.autocast("cpu", torch.bfloat16):
        moment = model.read_moment(clips, *place)
    assert moment.dtype == torch.float32
    assert torch.equal(moment, model.read_moment(clips.float(), *place))


def test_scores_steer_the_second_encoding(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [1, 1], training=False)["inputs"]
    model = build()
    output = model.ground(inputs)
    aligned, position = output.aligned.clips, output.projected.clips_position
    first, _ = model.encoder(aligned, position, inputs["video_mask"])
    scores = model.saliency_head(first, None).masked_fill(~inputs["video_mask"], -torch.inf)
    second, _ = model.encoder(first + aligned * scores.softmax(1)[..., None], position, inputs["video_mask"])
    torch.testing.assert_close(output.encoded.clips, second)
    torch.testing.assert_close(output.encoded.memory, second)


def test_clip_scores_are_refined_by_the_best_moment(make_batch: MakeBatch) -> None:
    inputs = make_batch([9], [2], training=False)["inputs"]
    model = build()
    output = model.ground(inputs)
    best = model.best_moment(output.logits[-1], output.spans[-1], torch.tensor([9, 9]))
    clips = output.projected.clips.expand(2, -1, -1)
    likeness = torch.einsum("qld,qd->ql", clips, model.read_moment(clips, torch.tensor([9, 9]), *best))
    expected = model.saliency_head(output.encoded.clips * (1 + likeness[..., None]), None)
    torch.testing.assert_close(output.saliency, expected)
    total = model.loss(make_batch([9, 5], [2, 1])["inputs"])["loss_saliency"]
    gradient = torch.autograd.grad(total, model.moment_reader.weight_hh_l0)[0]
    assert gradient.abs().sum() > 0


def test_only_positive_pairs_are_refined(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [2, 1])["inputs"]
    model = build(saliency_losses=[{"type": "NegativePairLoss"}])
    output = model.ground(inputs)
    assert output.saliency.shape == (6, 9)
    plain = model.saliency_head(output.encoded.clips, output.encoded.token)
    torch.testing.assert_close(output.saliency[3:], plain[3:])
    assert (output.saliency[:3] - plain[:3]).abs().max() > 1e-4


def test_padding_counts_only_if_told_so(make_batch: MakeBatch) -> None:
    together = make_batch([9, 5], [1, 1], training=False)["inputs"]
    alone = {name: tensor[1:, :5] if name.startswith("video") else tensor for name, tensor in together.items()}
    alone |= {name: together[name][1:] for name in ("words", "words_mask")}
    alone |= dict.fromkeys(("query_video", "pair_video", "pair_query"), torch.zeros(1, dtype=torch.int64))
    for count_padding in (False, True):
        model = build(count_padding=count_padding).eval()
        ours, expected = model.ground(together).saliency[1, :5], model.ground(alone).saliency[0]
        assert ((ours - expected).abs().max() > 1e-4) == count_padding
