# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Philox4x32-10 (Salmon et al., 2011) in plain Python, written from the paper, to hold the fast ones to."""

from collections.abc import Sequence


def philox4x32(counter: Sequence[int], seed: int) -> tuple[int, int, int, int]:
    """Four random 32-bit words for a counter of four such words and a signed 64-bit seed."""
    a, b, c, d = counter
    seed %= 2**64
    low_key, high_key = seed % 2**32, seed // 2**32
    for _ in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b = second // 2**32 ^ b ^ low_key, second % 2**32
        c, d = first // 2**32 ^ d ^ high_key, first % 2**32
        low_key = (low_key + 0x9E3779B9) % 2**32
        high_key = (high_key + 0xBB67AE85) % 2**32
    return a, b, c, d
