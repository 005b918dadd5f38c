# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.kernels.philox import attention_dropout, philox, threshold
from tests.kernels.python_philox import philox4x32

SEEDS = [0, 1, -1, 2**31, 2**40 + 5, -(2**63), 2**63 - 1]


# Known answers of the algorithm's authors: counter, key, words.
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    seed = key[1] << 32 | key[0]
    seed -= 2**64 if seed >= 2**63 else 0
    assert philox4x32(counter, seed) == words
    ours = philox(torch.tensor(seed), tuple(torch.tensor(x) for x in counter))
    assert tuple(int(x) for x in ours) == words


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_plain_python(seed: int) -> None:
    axes = (torch.arange(5)[:, None, None], torch.arange(7)[:, None], torch.tensor([0, 1, 2**31, 2**32 - 1]))
    words = philox(torch.tensor(seed), (*axes, torch.tensor(3)))
    for i in range(5):
        for j in range(7):
            for k, last in enumerate((0, 1, 2**31, 2**32 - 1)):
                assert tuple(int(x[i, j, k]) for x in words) == philox4x32((i, j, last, 3), seed)


def test_weights_take_their_words_by_position() -> None:
    kept = attention_dropout(torch.tensor(-9), dropout_p=0.4, first_problem=5, problems=2, heads=3, queries=4, keys=7)
    assert kept.shape == (2, 3, 4, 7)
    for problem in range(2):
        for head in range(3):
            for i in range(4):
                for j in range(7):
                    word = philox4x32((j // 4, i, head, 5 + problem), -9)[j % 4]
                    assert bool(kept[problem, head, i, j]) == (word / 2**32 >= 0.4)


def test_larger_forms_hold_the_smaller_ones() -> None:
    sizes = {"problems": 3, "heads": 2, "queries": 6, "keys": 9}
    small = attention_dropout(torch.tensor(1), 0.5, 2, problems=1, heads=1, queries=5, keys=6)
    large = attention_dropout(torch.tensor(1), 0.5, 0, **sizes)
    assert torch.equal(small[0, 0], large[2, 0, :5, :6])


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
def test_keep_rate(dropout_p: float) -> None:
    kept = attention_dropout(torch.tensor(123), dropout_p, 0, 8, 8, 64, 64)
    deviation = math.sqrt(dropout_p * (1 - dropout_p) / kept.numel())
    assert abs(kept.double().mean().item() - (1 - dropout_p)) < 4 * deviation


def test_weights_are_kept_independently() -> None:
    kept = attention_dropout(torch.tensor(7), 0.5, 0, 8, 8, 64, 64).double() - 0.5
    neighbours = {
        "problem": (kept[1:], kept[:-1]),
        "head": (kept[:, 1:], kept[:, :-1]),
        "query": (kept[:, :, 1:], kept[:, :, :-1]),
        "key": (kept[..., 1:], kept[..., :-1]),
    }
    for name, (a, b) in neighbours.items():
        # Each product is +-1/4, so their mean has standard deviation 1 / 4 / sqrt(n).
        assert abs((a * b).mean().item()) < 4 * 0.25 / math.sqrt(a.numel()), name


@pytest.mark.parametrize(("dropout_p", "expected"), [(0.0, 0), (0.1, 1677722), (0.5, 2**23), (1 - 2**-24, 2**24 - 1)])
def test_threshold(dropout_p: float, expected: int) -> None:
    assert threshold(dropout_p) == expected
