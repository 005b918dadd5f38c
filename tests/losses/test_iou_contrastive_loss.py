# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mesm_plugin.kernels import iou_positive_contrastive_loss
from mesm_plugin.kernels.backend import TRITON_IS_INSTALLED, interpreting
from mesm_plugin.losses import IoUContrastiveLoss

torch.manual_seed(0)
WORDS, SEGMENT = torch.randn(4, 5, 8), torch.randn(4, 8)
WORDS_MASK = torch.arange(5) < torch.tensor([5, 2, 3, 1])[:, None]
MOMENTS = torch.tensor([[0.0, 4.0], [0.0, 4.0], [1.0, 4.0], [6.0, 9.0]])
SOURCE = torch.tensor([0, 0, 1, 1])


def test_paper_form_sums_dot_products_over_words() -> None:
    words = [WORDS[i, WORDS_MASK[i]] for i in range(4)]
    logits = torch.stack([torch.stack([(w @ s).sum() for s in SEGMENT]) for w in words]) / 0.5
    positive = torch.eye(4, dtype=torch.bool)
    positive[0, 1] = positive[1, 0] = True
    expected = -(logits.softmax(dim=1) * positive).sum(dim=1).log().mean()
    loss = IoUContrastiveLoss(loss_weight=0.1)(WORDS, WORDS_MASK, SEGMENT, MOMENTS, SOURCE)
    assert loss.item() == pytest.approx(0.1 * expected.item(), rel=1e-5)


def test_cosine_of_mean_words_and_positives_of_the_same_source() -> None:
    text = torch.stack([WORDS[i, WORDS_MASK[i]].mean(dim=0) for i in range(4)])
    expected = iou_positive_contrastive_loss(
        F.normalize(text, dim=-1), F.normalize(SEGMENT, dim=-1), MOMENTS, SOURCE, gamma=0.7, iou="giou"
    )
    loss = IoUContrastiveLoss(1.0, gamma=0.7, similarity="cosine", iou="giou", same_source=True)
    assert loss(WORDS, WORDS_MASK, SEGMENT, MOMENTS, SOURCE).item() == pytest.approx(expected.item(), rel=1e-5)
    # Queries 0 and 2 overlap by three quarters, but are not of the same video.
    everywhere = IoUContrastiveLoss(1.0, gamma=0.7, similarity="cosine", iou="giou")
    assert everywhere(WORDS, WORDS_MASK, SEGMENT, MOMENTS, SOURCE).item() != pytest.approx(expected.item(), rel=1e-3)


def test_unknown_similarity_is_named() -> None:
    with pytest.raises(ValueError, match="similarity must be .*, got 'l2'"):
        IoUContrastiveLoss(similarity="l2")  # type: ignore[arg-type]


@pytest.mark.skipif(not TRITON_IS_INSTALLED or not interpreting(), reason="Triton does not interpret kernels here")
@pytest.mark.parametrize(
    "options", [{}, {"similarity": "cosine", "iou": "giou", "same_source": True, "form": "mean_log"}]
)
def test_backends_give_the_same_loss_and_gradients(options: dict[str, Any]) -> None:
    results = []
    for backend in ("reference", "triton"):
        words, segment = WORDS.clone().requires_grad_(), SEGMENT.clone().requires_grad_()
        loss = IoUContrastiveLoss(1.0, gamma=0.7, kernel_backend=backend, **options)  # type: ignore[arg-type]
        value = loss(words, WORDS_MASK, segment, MOMENTS, SOURCE)
        value.backward()
        results.append((value, words.grad, segment.grad))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="backend must be one of .*, got 'cuda'"):
        IoUContrastiveLoss(kernel_backend="cuda")  # type: ignore[arg-type]
