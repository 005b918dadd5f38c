# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss of SS-MESM (Eq. 4 and 5)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels import Backend, iou_positive_contrastive_loss
from mesm_plugin.kernels.backend import check_backend
from mesm_plugin.losses.gather_rows import apart, gather_rows
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class IoUContrastiveLoss(nn.Module):
    """Contrasts enhanced sentences with segments; segments that overlap enough are positives (Eq. 5).

    Args:
        loss_weight: lambda_ss of Eq. 8.
        gamma: IoU above which two moments are positives of each other.
        tau: Temperature.
        similarity: "sum" = sum over words of dot products (Eq. 5), "cosine" = cosine of mean-pooled words and segment
            (released code).
        iou: "iou" = IoU > gamma (Eq. 5), "giou" = generalised IoU >= gamma (released code).
        same_source: Whether positives come from the same source video only (released code) or from the whole batch
            (Eq. 5).
        form: "log_sum" (Eq. 5) or "mean_log" (released code).
        anchor: "text" (Eq. 5) or "segment" (released code).
        eps: Added inside the logarithm and to the count of positives (released code: 1e-6).
        gather: Whether, in a run of several processes, the sentences and segments of all of them are contrasted; or
            else those of each process.
        kernel_backend: Implementation of the loss: "auto" = Triton on GPUs, "triton" or "reference".

    Raises:
        ValueError: `similarity` or `kernel_backend` has an unknown value.
    """

    def __init__(
        self,
        loss_weight: float = 0.1,
        gamma: float = 0.9,
        tau: float = 0.5,
        similarity: Literal["sum", "cosine"] = "sum",
        iou: Literal["iou", "giou"] = "iou",
        same_source: bool = False,
        form: Literal["log_sum", "mean_log"] = "log_sum",
        anchor: Literal["text", "segment"] = "text",
        eps: float = 0.0,
        gather: bool = True,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if similarity not in ("sum", "cosine"):
            raise ValueError(f'similarity must be "sum" or "cosine", got {similarity!r}')
        check_backend(kernel_backend)
        self.loss_weight = loss_weight
        self.gamma = gamma
        self.tau = tau
        self.similarity = similarity
        self.iou: Literal["iou", "giou"] = iou
        self.same_source = same_source
        self.form: Literal["log_sum", "mean_log"] = form
        self.anchor: Literal["text", "segment"] = anchor
        self.eps = eps
        self.gather = gather
        self.kernel_backend = kernel_backend

    def forward(self, words: Tensor, words_mask: Tensor, segment: Tensor, moments: Tensor, source: Tensor) -> Tensor:
        """Computes the weighted loss.

        Args:
            words: (Q, Lw, D) words with the generated token.
            words_mask: (Q, Lw) bool, True = valid.
            segment: (Q, D) mean of the clips inside the moment (Eq. 4).
            moments: (Q, 2) start and end; the hull, where a query has several moments.
            source: (Q,) int64 source video of each query.

        Returns:
            A scalar.
        """
        text = words.masked_fill(~words_mask[..., None], 0.0).sum(dim=1)
        if self.similarity == "cosine":
            # The sum of the words has the direction of their mean.
            text, segment = F.normalize(text, dim=-1), F.normalize(segment, dim=-1)
        if self.gather:
            text, segment, moments, source = gather_rows(text, segment, moments, apart(source))
        return self.loss_weight * iou_positive_contrastive_loss(
            text,
            segment,
            moments,
            source if self.same_source else None,
            gamma=self.gamma,
            tau=self.tau,
            iou=self.iou,
            form=self.form,
            anchor=self.anchor,
            eps=self.eps,
            backend=self.kernel_backend,
        )
