# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Inputs of the contrastive loss for the tests of its kernels, and what float64 makes of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mesm_plugin.kernels import iou_positive_contrastive_loss


class Result(NamedTuple):
    """A loss and its gradients."""

    loss: Tensor
    text: Tensor
    segment: Tensor
    tau: Tensor


@dataclass(frozen=True)
class Case:
    """Texts and segments, whose moments are whole numbers so that overlaps are exact.

    Args:
        text, segment: (N, D) and (M, D).
        moments, group: Pairs, for the text first.
        tau: ().
    """

    text: Tensor
    segment: Tensor
    moments: tuple[Tensor, Tensor]
    group: tuple[Tensor, Tensor] | None
    tau: Tensor

    def run(self, dtype: torch.dtype | None = None, upstream: float = 1.0, **options: Any) -> Result:
        """The loss and its gradients; `upstream` is the gradient of the (last) loss, others are smaller.

        Args:
            dtype: Dtype that the features are converted to, their own by default.
            upstream: Gradient of the loss, or of the largest of them with `reduction="none"`.
            options: Of `iou_positive_contrastive_loss`.
        """
        text, segment = (x.detach().to(dtype or x.dtype, copy=True).requires_grad_() for x in (self.text, self.segment))
        tau = self.tau.detach().to(torch.float64 if dtype == torch.float64 else self.tau.dtype, copy=True)
        tau.requires_grad_()
        loss = iou_positive_contrastive_loss(text, segment, self.moments, self.group, tau=tau, **options)
        weights = torch.linspace(-upstream, upstream, len(loss)).to(loss) if loss.dim() else loss.new_tensor(upstream)
        loss.backward(weights)
        assert text.grad is not None
        assert segment.grad is not None
        assert tau.grad is not None
        return Result(loss.detach(), text.grad, segment.grad, tau.grad)

    def truth(self, **options: Any) -> Result:
        """`run` by the reference in float64."""
        return self.run(torch.float64, backend="reference", **options)


def random_case(
    texts: int,
    segments: int,
    channels: int = 40,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    largest_logit: float = 15.0,
    tau: float = 0.5,
    grouped: bool = True,
) -> Case:
    """A case whose logits reach up to `largest_logit`; about one moment in nine is empty, and so without positives."""
    generator = torch.Generator().manual_seed(1000 * texts + segments)

    def annotations(count: int) -> tuple[Tensor, Tensor]:
        start = torch.randint(0, 12, (count,), generator=generator)
        moments = torch.stack((start, start + torch.randint(0, 9, (count,), generator=generator)), dim=1)
        return moments.float().to(device), torch.randint(0, 3, (count,), generator=generator).to(device)

    text, segment = (torch.randn(count, channels, generator=generator) for count in (texts, segments))
    scale = (largest_logit * tau / (text @ segment.T).abs().max()).sqrt()
    moments, group = zip(annotations(texts), annotations(segments), strict=True)
    return Case(
        (text * scale).to(device, dtype),
        (segment * scale).to(device, dtype),
        moments,
        group if grouped else None,
        torch.tensor(tau, device=device),
    )


def error(ours: Tensor, truth: Tensor) -> float:
    """Largest error, relative to the largest true value."""
    assert ours.isfinite().all()
    assert ours.shape == truth.shape
    return float((ours.double() - truth).abs().max() / truth.abs().max())
