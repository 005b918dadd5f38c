# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The code of docs/other_codebases.md that puts MESM's aligner into Lighthouse's QD-DETR."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

PAGE = Path(__file__).parents[2] / "docs" / "other_codebases.md"
VIDEO_LENGTH, DIMS = 6, 32
SPANS = [torch.tensor([[0.5, 0.4]]), torch.tensor([[0.25, 0.5], [0.8, 0.2]]), torch.tensor([[0.6, 0.1]])]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(import torch.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


class Transformer(nn.Module):
    """What Lighthouse's transformer does before its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.t2v_encoder: nn.Module = nn.Identity()

    def forward(self, src: Tensor, mask: Tensor, pos_embed: Tensor, video_length: int) -> Tensor:
        src, pos_embed = src.permute(1, 0, 2), pos_embed.permute(1, 0, 2)
        return self.t2v_encoder(src, src_key_padding_mask=mask, pos=pos_embed, video_length=video_length)


@pytest.fixture
def model(example: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.transformer = Transformer()
    example["use_mesm_aligner"](model, DIMS)
    return model


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Three items of a global token, 6, 4 and 6 clips, and 3, 4 and 2 words: features, padding mask, positions."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 1 + VIDEO_LENGTH + 4, DIMS, generator=generator)
    padding = torch.zeros(3, 1 + VIDEO_LENGTH + 4, dtype=torch.bool)
    padding[1, 5:7] = padding[0, 10:] = padding[2, 9:] = True
    return features, padding, torch.randn(features.shape, generator=generator)


def test_clips_are_aligned_and_the_rest_stays(model: nn.Module) -> None:
    features, padding, position = inputs()
    model.eval()
    out = model.transformer(features, padding, position, VIDEO_LENGTH).transpose(0, 1)
    assert out.shape == features.shape
    assert torch.equal(out[:, 0], features[:, 0])
    assert torch.equal(out[:, 7:], features[:, 7:])
    assert (out[:, 1:7] - features[:, 1:7]).abs().amax(dim=-1).min() > 0.1
    assert not model.transformer.t2v_encoder.calls


def test_padding_and_other_items_have_no_influence(model: nn.Module) -> None:
    features, padding, position = inputs()
    model.eval()
    out = model.transformer(features, padding, position, VIDEO_LENGTH)
    changed = torch.where(padding[..., None], torch.full_like(features, 7.0), features)
    changed[2] = 3.0
    other = model.transformer(changed, padding, position, VIDEO_LENGTH)
    torch.testing.assert_close(other[1:7, 0], out[1:7, 0])
    torch.testing.assert_close(other[1:5, 1], out[1:5, 1])
    assert (other[1:7, 2] - out[1:7, 2]).abs().max() > 0.1


def test_targets_are_read_as_centres_and_widths(model: nn.Module) -> None:
    features, padding, position = inputs()
    model.transformer(features, padding, position, VIDEO_LENGTH)
    given: dict[str, Tensor] = {}
    model.transformer.t2v_encoder.aligner.loss = lambda output, batch: given.update(batch) or {"loss": torch.ones(())}
    assert model.transformer.t2v_encoder.loss(SPANS) == 1
    assert given["segment_mask"].int().tolist() == [[0, 0, 1, 1, 0, 0], [1, 1, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert given["moments_mask"].tolist() == [[True, False], [True, True], [True, False]]
    torch.testing.assert_close(given["moments"][1], torch.tensor([[0.0, 0.5], [0.7, 0.9]]))


def test_aligner_learns_by_its_own_loss(model: nn.Module) -> None:
    aligner = model.transformer.t2v_encoder
    optimizer = torch.optim.AdamW(aligner.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        for _ in range(2):  # positive pairs, negative pairs
            model.transformer(*inputs(), VIDEO_LENGTH)
        loss = aligner.loss(SPANS)
        assert not aligner.calls
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_in_lighthouse(example: dict[str, Any]) -> None:
    qd_detr = pytest.importorskip("lighthouse.common.qd_detr", reason="Lighthouse is not installed")
    torch.manual_seed(0)
    # Lighthouse's decoder has 256 channels whatever its options say.
    sizes = {"hidden_dim": 256, "nheads": 8, "dim_feedforward": 64, "enc_layers": 2, "dec_layers": 2, "dropout": 0.0}
    options = Namespace(
        **sizes,
        **{"device": "cpu", "num_queries": 5, "input_dropout": 0.0, "pre_norm": False, "position_embedding": "sine"},
        **{"max_q_l": 8, "max_v_l": 75, "t_feat_dim": 12, "v_feat_dim": 10, "n_input_proj": 2, "use_txt_pos": False},
        **{"aux_loss": True, "span_loss_type": "l1", "eos_coef": 0.1, "saliency_margin": 0.2},
        **{"set_cost_span": 10, "set_cost_giou": 1, "set_cost_class": 4},
        **{"span_loss_coef": 10, "giou_loss_coef": 1, "label_loss_coef": 4, "lw_saliency": 4},
    )
    model, criterion = qd_detr.build_model(options)
    aligner = example["use_mesm_aligner"](model, options.hidden_dim)
    words_mask, clips_mask = torch.ones(3, 4), torch.ones(3, VIDEO_LENGTH)
    words_mask[0, 3:] = clips_mask[1, 4:] = 0
    batch = (torch.randn(3, 4, 12), words_mask, torch.randn(3, VIDEO_LENGTH, 10), clips_mask)
    targets = {
        "span_labels": [{"spans": spans} for spans in SPANS],
        "saliency_pos_labels": torch.tensor([[2, 3], [0, 1], [3, 3]]),
        "saliency_neg_labels": torch.tensor([[0, 5], [2, 2], [0, 1]]),
        "saliency_all_labels": torch.rand(3, VIDEO_LENGTH),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(10):
        parts = criterion(model(*batch), targets)
        total = sum(parts[name] * weight for name, weight in criterion.weight_dict.items())
        total = total + aligner.loss([target["spans"] for target in targets["span_labels"]])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(p.grad.any() for layer in aligner.aligner.layers for p in layer.parameters())
    assert totals[-1] < 0.8 * totals[0]
