# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Cross-attention in plain PyTorch: any dtype, differentiable, the truth that faster backends are held to."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Multi-head attention of queries to masked keys (the softmax term of Eq. 1 of MESM).

    Args:
        query: (B, Lq, H, d).
        key: (B, Lk, H, d).
        value: (B, Lk, H, d).
        mask: (B, Lk) bool, True = valid key.
        dropout_p: Share of the attention weights that is dropped.
        scale: Factor of the dot products, d ** -0.5 by default.

    Returns:
        (B, Lq, H, d) in the dtype of `query`; zeros, with zero gradients, where an item has no valid key.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    logits = (query * scale) @ key.transpose(-1, -2)
    # Added, not filled in: the backward pass of a sum copies nothing. Half of the lowest number leaves the logit room.
    padding = logits.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(logits.dtype).min / 2)
    weights = logits.add_(padding[:, None, None, :]).softmax(dim=-1)
    weights = F.dropout(weights, dropout_p, training=dropout_p > 0)
    attended = (weights @ value).transpose(1, 2)
    # The softmax of a fully masked row is uniform, not zero.
    return attended.masked_fill(~mask.any(dim=1)[:, None, None, None], 0.0)


def bidirectional_cross_attention(
    q_clips: Tensor,
    k_words: Tensor,
    v_words: Tensor,
    words_mask: Tensor,
    q_words: Tensor,
    k_clips: Tensor,
    v_clips: Tensor,
    clips_mask: Tensor,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Both directions of FW-MESM's weight-shared cross-attention: clips attend to words, masked words to clips.

    Args:
        q_clips: (P, Lv, H, d) clips of each pair.
        k_words, v_words: (P, Lw, H, d) words of each pair.
        words_mask: (P, Lw) bool, True = valid.
        q_words: (Q, Mw, H, d) masked words of each query.
        k_clips, v_clips: (Q, Lc, H, d) clips that the query's words are restored from.
        clips_mask: (Q, Lc) bool, True = valid.
        dropout_p: Share of the attention weights that is dropped.
        scale: Factor of the dot products, d ** -0.5 by default.

    Returns:
        (P, Lv, H, d) and (Q, Mw, H, d).
    """
    return (
        cross_attention(q_clips, k_words, v_words, words_mask, dropout_p=dropout_p, scale=scale),
        cross_attention(q_words, k_clips, v_clips, clips_mask, dropout_p=dropout_p, scale=scale),
    )
