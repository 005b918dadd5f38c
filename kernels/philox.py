# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The counter-based random numbers of the kernels' dropout, in plain PyTorch."""

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


def _multiply(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low word of a product; in halves, since int64 does not hold all of it."""
    low = constant * (word & 0xFFFF)
    high = constant * (word >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox(seed: Tensor, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 (Salmon et al., 2011).

    Args:
        seed: () int64, the key.
        counter: Four int64 tensors of 32-bit words, broadcast against each other.

    Returns:
        Four int64 tensors of random 32-bit words.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(10):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3


def threshold(dropout_p: float) -> int:
    """A weight is dropped where its 24 random bits, as a number, lie below this."""
    return round(dropout_p * 2**24)


def attention_dropout(
    seed: Tensor, dropout_p: float, first_problem: int, problems: int, heads: int, queries: int, keys: int
) -> Tensor:
    """Which attention weights the Triton kernels keep.

    Weight (problem, head, i, j) takes the upper 24 bits of word j % 4 at counter (j // 4, i, head, problem).

    Args:
        seed: () int64.
        dropout_p: Share of the weights that is dropped.
        first_problem: Number of the first problem; those of the second direction follow those of the first.
        problems: B.
        heads: H.
        queries: Lq.
        keys: Lk.

    Returns:
        (B, H, Lq, Lk) bool.
    """

    def axis(size: int, dim: int, first: int = 0) -> Tensor:
        index = torch.arange(first, first + size, device=seed.device)
        return index.view(*(-1 if d == dim else 1 for d in range(4)))

    groups = -(-keys // 4)
    words = philox(seed, (axis(groups, 3), axis(queries, 2), axis(heads, 1), axis(problems, 0, first_problem)))
    return torch.stack(words, dim=-1).flatten(-2)[..., :keys] >> 8 >= threshold(dropout_p)
