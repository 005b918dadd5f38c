# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.models import CGDETRAligner
from mesm_plugin.models.aligners import AlignerOutput

SIZES = {"dims": 8, "heads": 2, "ffn_dims": 12, "dropout": 0.0, "num_dummies": 3, "num_prompts": 5}
BATCH = {
    "pair_video": torch.tensor([0, 1, 1, 0, 1, 1]),
    "pair_query": torch.tensor([0, 1, 2, 1, 0, 0]),
    "query_video": torch.tensor([0, 1, 1]),
}
CLIPS_MASK = torch.tensor([[True, True, True, False], [True] * 4])
WORDS_MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
TARGETS = {
    "video_mask": CLIPS_MASK,
    "segment_mask": torch.tensor([[True, False, False, False], [False, True, True, False], [True, True, True, True]]),
    "saliency": torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 1.0, 0], [1.0, 1.0, 1.0, 1.0]]),
    "hinge_positive": torch.tensor([[0, 0], [1, 2], [0, 3]]),
    "hinge_negative": torch.tensor([[1, 2], [0, 3], [0, 3]]),
}


def build(**options: int) -> CGDETRAligner:
    torch.manual_seed(0)
    return CGDETRAligner(**{**SIZES, **options})


def features() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 4, 8), torch.randn(2, 4, 8), CLIPS_MASK, torch.randn(3, 3, 8), WORDS_MASK]


def test_shapes() -> None:
    output = build()(*features(), BATCH)
    output.check(pairs=6, queries=3, clips=4, dims=8, name="CGDETRAligner")
    assert output.token is not None
    assert output.extra["attention"].shape == (6, 4, 6)
    torch.testing.assert_close(output.extra["attention"].sum(dim=-1), torch.ones(6, 4))
    assert "moment" not in output.extra


@pytest.mark.parametrize("padding", ["clips", "words"])
def test_padding_has_no_influence(padding: str) -> None:
    aligner = build()
    inputs = features()
    before = aligner(*inputs, BATCH)
    if padding == "clips":
        inputs[0][~CLIPS_MASK] = 100.0
    else:
        inputs[3][~WORDS_MASK] = 100.0
    after = aligner(*inputs, BATCH)
    valid = CLIPS_MASK[BATCH["pair_video"]]
    torch.testing.assert_close(after.clips[valid], before.clips[valid])
    torch.testing.assert_close(after.token, before.token)


def test_targets_change_neither_clips_nor_token() -> None:
    aligner = build()
    without, training = aligner(*features(), BATCH), aligner(*features(), BATCH | TARGETS)
    torch.testing.assert_close(training.clips, without.clips)
    torch.testing.assert_close(training.token, without.token)
    assert training.extra["moment"].shape == training.extra["sentence"].shape == (3, 8)


def test_token_is_made_of_the_prompts_nearest_to_the_clips() -> None:
    aligner = build(num_chosen_prompts=1, num_layers=1)
    clips, position, clips_mask, words, words_mask = features()
    with torch.no_grad():
        aligner.prompts.copy_(torch.eye(8)[:5])
        aligner.token_types.zero_()
        clips.zero_()
        # All but one clip lie along the third prompt, seen from the mean.
        clips[..., 2] = 1.0
        clips[:, 0, 2] = -8.0
    given = []
    aligner.layers[0].update.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    aligner(clips, position, clips_mask, words, words_mask, BATCH)
    token = given[-1][:, 0]
    share = token[:, 2] - torch.stack([clips[0, :3].mean(dim=0), clips[1].mean(dim=0)])[BATCH["pair_video"], 2]
    assert ((share > 0.2) & (share < 1)).all()
    assert token[:, [0, 1, 3, 4, 5, 6, 7]].abs().max() < 1e-6


def test_tokens_see_only_their_own_side_of_the_moment() -> None:
    aligner = build()
    inputs = features()
    before = aligner(*inputs, BATCH | TARGETS).extra
    inputs[0][0, 0] += 5.0  # the only clip inside the first query's moment
    after = aligner(*inputs, BATCH | TARGETS).extra
    assert (after["moment"][0] - before["moment"][0]).abs().max() > 1e-3
    torch.testing.assert_close(after["background"][0], before["background"][0])
    torch.testing.assert_close(after["moment_clips"][0, 1:], before["moment_clips"][0, 1:])


def loss(aligner: CGDETRAligner, output: AlignerOutput) -> dict[str, torch.Tensor]:
    return aligner.loss(output, BATCH | TARGETS)


def test_losses_have_their_weights() -> None:
    one, other = build(), build()
    for part in (other.attention_saliency_loss, other.moment_sentence_loss, other.distillation_loss):
        part.loss_weight = 2.0
    other.orthogonality_loss.loss_weight = 3.0
    inputs = features()
    losses, weighted = (loss(a, a(*inputs, BATCH | TARGETS)) for a in (one, other))
    factors = {name: (weighted[name] / losses[name]).item() for name in losses}
    assert factors == pytest.approx(
        {
            "loss_attention_saliency": 2.0,
            "loss_moment_sentence": 2.0,
            "loss_distillation": 2.0,
            "loss_orthogonality": 3.0,
        }
    )


def test_distillation_teaches_only_the_attention() -> None:
    aligner = build()
    output = aligner(*features(), BATCH | TARGETS)
    loss(aligner, output)["loss_distillation"].backward()
    assert aligner.moment_token.grad is None
    assert aligner.sentence_token.grad is None
    assert aligner.dummies.grad is not None


def test_no_more_prompts_can_be_chosen_than_there_are() -> None:
    with pytest.raises(ValueError, match="num_chosen_prompts=6 is more than num_prompts=5"):
        build(num_chosen_prompts=6)
