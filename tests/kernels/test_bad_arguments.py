# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with an argument of a public function, the error names the argument."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mesm_plugin.kernels import (
    Dropout,
    ProblemTable,
    SharedCrossAttention,
    bidirectional_cross_attention,
    iou_positive_contrastive_loss,
    packed_bidirectional_cross_attention,
)
from mesm_plugin.kernels.cross_attention import cross_attention
from mesm_plugin.kernels.dropout import dropout

HEADS = {
    "q_clips": (2, 7),
    "k_words": (2, 5),
    "v_words": (2, 5),
    "q_words": (3, 5),
    "k_clips": (3, 6),
    "v_clips": (3, 6),
}
MASKS = {"words_mask": torch.ones(2, 5, dtype=torch.bool), "clips_mask": torch.ones(3, 6, dtype=torch.bool)}
BOTH: dict[str, Any] = {name: torch.ones(*size, 2, 16) for name, size in HEADS.items()} | MASKS
ATTENTION = {"dropout_p": 0.1, "seed": 1, "scale": 0.25, "backend": "reference"}
ONE = {
    name: BOTH[of]
    for name, of in (("query", "q_clips"), ("key", "k_words"), ("value", "v_words"), ("mask", "words_mask"))
}
PACKED: dict[str, Any] = {name: x.flatten(0, 1) for name, x in BOTH.items()}
PACKED |= {"clip_problems": ProblemTable([(0, 7, 0, 5)]), "word_problems": ProblemTable([(0, 5, 0, 6)])}
LOSS: dict[str, Any] = {
    "text": torch.ones(4, 8),
    "segment": torch.ones(4, 8),
    "moments": torch.tensor([[0.0, 1.0]]).expand(4, 2),
    "group": torch.zeros(4, dtype=torch.int64),
    "gamma": 0.5,
    "tau": 0.5,
    "iou": "iou",
    "form": "log_sum",
    "anchor": "text",
    "eps": 0.0,
    "reduction": "mean",
    "backend": "reference",
}
MODULE = {"dims": 8, "heads": 2, "dropout": 0.1, "backend": "reference"}
FORWARD: dict[str, Any] = {
    "query": torch.ones(4, 7, 8),
    "key": torch.ones(3, 5, 8),
    "value": torch.ones(3, 5, 8),
    "mask": torch.ones(4, 5, dtype=torch.bool),
    "index": torch.tensor([0, 1, 2, 1]),
}
DIRECTIONS: dict[str, Any] = {
    "clips_query": torch.ones(4, 7, 8),
    "words_key": torch.ones(3, 5, 8),
    "words_value": torch.ones(3, 5, 8),
    "words_mask": torch.ones(4, 5, dtype=torch.bool),
    "words_index": torch.tensor([0, 1, 2, 1]),
    "words_query": torch.ones(3, 5, 8),
    "clips_key": torch.ones(2, 7, 8),
    "clips_value": torch.ones(2, 7, 8),
    "clips_mask": torch.ones(3, 7, dtype=torch.bool),
    "clips_index": torch.tensor([0, 0, 1]),
}


def forward(**inputs: Any) -> Tensor:
    output: Tensor = SharedCrossAttention(8, 2)(**inputs)
    return output


def both_directions(**inputs: Any) -> tuple[Tensor, Tensor]:
    return SharedCrossAttention(8, 2).both_directions(**inputs)


# Function, good arguments, and those that may be None.
FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
    "bidirectional": (bidirectional_cross_attention, BOTH | ATTENTION, ("seed", "scale")),
    "one direction": (cross_attention, ONE | ATTENTION, ("seed", "scale")),
    "packed": (
        packed_bidirectional_cross_attention,
        PACKED | ATTENTION,
        ("seed", "scale", "words_mask", "clips_mask"),
    ),
    "loss": (iou_positive_contrastive_loss, LOSS, ("group",)),
    "table": (ProblemTable, {"problems": [(0, 1, 0, 1)]}, ()),
    "table of lengths": (ProblemTable.from_lengths, {"queries": [1, 2], "keys": [2, 1]}, ()),
    "module": (SharedCrossAttention, MODULE, ()),
    "module's one direction": (forward, FORWARD, ()),
    "module's both directions": (both_directions, DIRECTIONS, ()),
    "dropout": (dropout, {"x": torch.ones(2000), "p": 0.5}, ()),
    "dropout module": (Dropout, {"p": 0.5}, ()),
}
# Of a good argument of some type, the bad ones.
BAD_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "a list": lambda x: x.tolist(),
    "rank": lambda x: x[None],
    "lower rank": lambda x: x[0],
    "length": lambda x: torch.cat((x, x)),
    "channels": lambda x: x[..., :-1],
    "dtype": lambda x: x.to(torch.complex64),
    "integers": lambda x: x.to(torch.int16),
    "other floats": lambda x: x.double(),
    "device": lambda x: x.to("meta"),
}
BAD_NUMBERS = {"text": "0.5", "bool": True, "NaN": math.nan, "list": [0.5], "infinite": math.inf, "array": np.ones(2)}
# What is right for the arguments that take more than others.
ALLOWED = {
    ("loss", "moments", "integers"),
    ("loss", "moments", "other floats"),
    ("dropout", "x", "rank"),
    ("dropout", "x", "lower rank"),
    ("dropout", "x", "length"),
    ("dropout", "x", "channels"),
    ("dropout", "x", "dtype"),
    ("dropout", "x", "other floats"),
    ("dropout", "x", "device"),
    # Buffers may have rows after those of the table, but a key's value and mask then do as well.
    ("packed", "q_clips", "length"),
    ("packed", "q_words", "length"),
}


def cases() -> list[Any]:
    found = []
    for function, (_, arguments, optional) in FUNCTIONS.items():
        for name, good in arguments.items():
            bad: dict[str, Any] = {} if name in optional else {"None": None}
            if name.endswith("index"):
                bad = {}
            if isinstance(good, Tensor):
                bad |= {kind: make(good) for kind, make in BAD_TENSORS.items()}
            elif isinstance(good, str):
                bad |= {"text": "nothing", "number": 1}
            elif isinstance(good, list):
                bad |= {"number": 1, "fractions": [[0.0, 1.5, 0.0, 1.0]], "texts": ["abcd"], "negative": [-1, 1]}
            elif isinstance(good, ProblemTable):
                bad |= {"list": good.problems, "too long": ProblemTable([(0, 99, 0, 99)])}
            else:
                bad |= BAD_NUMBERS | {"negative": -(2**64)}
                if isinstance(good, int):
                    bad["fraction"] = 1.5
            if name == "scale":
                del bad["negative"]
            found += [
                pytest.param(function, name, wrong, id=f"{function}-{name}-{kind}")
                for kind, wrong in bad.items()
                if (function, name, kind) not in ALLOWED
            ]
    return found


@pytest.mark.parametrize("function", FUNCTIONS)
def test_good_arguments(function: str) -> None:
    call, arguments, optional = FUNCTIONS[function]
    call(**arguments)
    for name in optional:
        call(**arguments | {name: None})


@pytest.mark.parametrize(("function", "name", "wrong"), cases())
def test_the_argument_is_named(function: str, name: str, wrong: Any) -> None:
    call, arguments, _ = FUNCTIONS[function]
    with pytest.raises((TypeError, ValueError), match=rf"\b{re.escape(name)}\b"):
        call(**arguments | {name: wrong})


@pytest.mark.parametrize("integer", [np.int64(5), np.uint8(5), torch.tensor(5)], ids=["int64", "uint8", "tensor"])
def test_integers_of_other_kinds(integer: Any) -> None:
    expected = bidirectional_cross_attention(**BOTH | ATTENTION | {"seed": 5, "dropout_p": 0.5})
    outputs = bidirectional_cross_attention(**BOTH | ATTENTION | {"seed": integer, "dropout_p": 0.5})
    assert all(torch.equal(x, y) for x, y in zip(outputs, expected, strict=True))
    assert ProblemTable([(0, integer, 0, 1)]).problems == [(0, 5, 0, 1)]
    assert SharedCrossAttention(integer, integer).in_proj_weight.shape == (15, 5)


@pytest.mark.parametrize("position", range(4))
def test_table_that_int32_does_not_hold(position: int) -> None:
    problem = [0, 1, 0, 1]
    problem[position] = 2**31
    with pytest.raises(ValueError, match=r"problems\[0\] is \[.*\], which int32 does not hold"):
        ProblemTable([problem])
