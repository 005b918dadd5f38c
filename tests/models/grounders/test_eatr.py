# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mesm_plugin.models.grounders import EaTR
from mesm_plugin.models.grounders.eatr import pseudo_events
from mesm_plugin.registry import MODELS

SIZES = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48, "dropout": 0.0}
MakeBatch = Callable[..., dict[str, Any]]


def build(**parts: Any) -> EaTR:
    torch.manual_seed(0)
    return MODELS.build({"type": "EaTR", "projection_dropout": 0.0, **SIZES, **parts})


def scenes(*lengths: int) -> torch.Tensor:
    """A video whose clips are alike within scenes of these lengths, up to noise."""
    torch.manual_seed(0)
    clips = torch.eye(8)[: len(lengths)].repeat_interleave(torch.tensor(lengths), dim=0)
    return clips + 0.01 * torch.rand(clips.shape)


def test_events_by_hand() -> None:
    # A change lies between clips 4 and 5, and the contrast of clip 4, with two alike on either side, is as large as
    # that of clip 5 but for the noise.
    events, mask = pseudo_events(scenes(5, 7)[None], torch.ones(1, 12, dtype=torch.bool))
    assert mask.sum() == 2
    boundary = events[0, 0, 1] * 12
    assert boundary.round() in (4, 5)
    torch.testing.assert_close(events[0, :2] * 12, torch.tensor([[0.0, boundary], [boundary, 11.0]]))


def test_events_are_those_of_the_contrast_kernel() -> None:
    torch.manual_seed(0)
    video = torch.randn(1, 24, 6)
    clips = F.normalize(video[0], dim=1)
    similarity = F.pad(clips @ clips.T, (2, 2, 2, 2))
    sign = torch.tensor([1.0, 1.0, 0.0, -1.0, -1.0])
    kernel = sign[:, None] * sign
    score = torch.stack([(similarity[i : i + 5, i : i + 5] * kernel).sum() for i in range(24)])
    inside = range(2, 22)
    peaks = [i for i in inside if score[i] >= max(score[i - 1], score[i + 1], score.mean())]
    # Beside the ends there is no boundary: the ends are ones.
    boundaries = torch.tensor([0, *[i for i in peaks if i not in (1, 22)], 23])
    events, mask = pseudo_events(video, torch.ones(1, 24, dtype=torch.bool))
    expected = torch.stack((boundaries[:-1], boundaries[1:]), dim=1) / 24
    torch.testing.assert_close(events[mask], expected)


def test_events_cover_the_video_and_ignore_companions() -> None:
    torch.manual_seed(1)
    video, lengths = torch.randn(5, 21, 6), [21, 20, 7, 3, 1]
    mask = torch.arange(21) < torch.tensor(lengths)[:, None]
    events, is_event = pseudo_events(video, mask)
    assert events.shape == (5, 10, 2)
    for i, length in enumerate(lengths):
        spans = events[i, is_event[i]] * length
        alone, valid = pseudo_events(video[i : i + 1, :length], mask[i : i + 1, :length])
        torch.testing.assert_close(spans, alone[valid] * length)
        if length > 1:
            assert (spans[0, 0], spans[-1, 1]) == (0, length - 1)
        torch.testing.assert_close(spans[1:, 0], spans[:-1, 1])
    assert is_event.sum(dim=1)[3:].tolist() == [1, 0]


def test_threshold_counts_padding_only_if_told_so() -> None:
    torch.manual_seed(0)
    video, mask = torch.randn(40, 60, 6), torch.arange(60).expand(40, -1) < 20
    number = [pseudo_events(video, mask, count_padding)[1].sum() for count_padding in (False, True)]
    assert number[1] > number[0], "padding lowers the threshold"


def test_a_video_without_any_change_is_one_event() -> None:
    events, mask = pseudo_events(torch.ones(1, 8, 3), torch.ones(1, 8, dtype=torch.bool))
    assert mask.sum() <= 4, "there is room for no more"
    assert (events[0, 0, 0], mask[0, 0]) == (0, True)


def test_losses_of_events(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [2, 1])["inputs"]
    model = build()
    losses = model.loss(inputs)
    assert {"loss_event_span", "loss_event_giou"} <= set(losses)
    more = build(event_weight=6.0).loss(inputs)
    torch.testing.assert_close(more["loss_event_span"], 2 * losses["loss_event_span"])
    torch.testing.assert_close(more["loss_span"], losses["loss_span"])
    gradient = torch.autograd.grad(losses["loss_event_span"], model.decoder.event_head[-1].bias)[0]
    assert gradient.abs().sum() > 0


def test_events_are_weighted_by_queries(make_batch: MakeBatch) -> None:
    batch = make_batch([9, 5], [2, 1])
    model = build()
    both = model.loss(batch["inputs"])["loss_event_span"]
    output = model.ground(batch["inputs"])
    events, mask = model.events_of(batch["inputs"])
    distance = (output.extra["event_spans"][:, :1] - torch.stack((events.mean(2), events.diff(dim=2)[..., 0]), 2)).abs()
    # All event spans are alike before training, so the matching does not matter.
    each = distance.mean(dim=2).masked_fill(~mask, 0.0).sum(dim=1)
    expected = (2 * each[0] + each[1]) / (2 * mask[0].sum() + mask[1].sum())
    torch.testing.assert_close(both, 30 * expected)


def test_moments_start_at_the_events(make_batch: MakeBatch) -> None:
    spans = build().ground(make_batch([9, 5], [2, 1])["inputs"]).spans
    torch.testing.assert_close(spans, torch.full_like(spans, 0.5))


def test_another_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="EaTR's decoder must find events, got DABDecoder: leave the decoder's type"):
        build(decoder={"type": "DABDecoder"})
