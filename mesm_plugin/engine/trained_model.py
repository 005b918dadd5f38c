# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which grounder and which aligner a checkpoint was trained for."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn

from mesm_plugin.registry import MODELS


@dataclass(frozen=True)
class TrainedModel:
    """The classes of a grounder and its aligner, by name; None where there is none, or nothing says which."""

    grounder: str
    aligner: str | None

    def __str__(self) -> str:
        return self.grounder if self.aligner is None else f"{self.grounder} with {self.aligner}"

    def is_other_than(self, model: "TrainedModel") -> bool:
        """Whether grounder or aligner differ from those of `model`, as far as they are known."""
        aligners = {self.aligner, model.aligner} - {None}
        return self.grounder != model.grounder or len(aligners) > 1


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself, without what MMEngine wraps around it to train in several processes."""
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]


def model_in_memory(model: nn.Module) -> TrainedModel:
    """The classes of a model that has been built."""
    aligner = getattr(model, "aligner", None)
    return TrainedModel(_registered_name(model), None if aligner is None else _registered_name(aligner))


def _registered_name(module: nn.Module) -> str:
    # PyTorch gives a sharded module a class of its own, derived from the one that was built.
    names = [base.__name__ for base in type(module).__mro__]
    return next((name for name in names if name in MODELS.module_dict), names[0])


def model_in_checkpoint(checkpoint: Mapping[str, Any]) -> TrainedModel | None:
    """What the config in a checkpoint's `meta` says, which MMEngine writes there as Python text; None without one.

    The text is parsed, not run.
    """
    meta = checkpoint.get("meta")
    text = meta.get("cfg") if isinstance(meta, Mapping) else None
    config = _model_config(text) if isinstance(text, str) else {}
    grounder = _type(config.get("type"))
    if grounder is None:
        return None
    part = config.get("aligner")
    aligner = _type(_items(part).get("type")) if part is not None else None
    if aligner is None:
        parts = getattr(MODELS.module_dict.get(grounder), "default_parts", {})
        aligner = parts.get("aligner", {}).get("type")
    return TrainedModel(grounder, aligner)


def _model_config(text: str) -> dict[str, ast.expr]:
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["model"]:
            return _items(statement.value)
    return {}


def _items(node: ast.expr) -> dict[str, ast.expr]:
    """The items of `dict(key=...)` or `{"key": ...}`."""
    if isinstance(node, ast.Call):
        return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
    if isinstance(node, ast.Dict):
        keys = (key.value if isinstance(key, ast.Constant) else None for key in node.keys)
        return {key: value for key, value in zip(keys, node.values, strict=True) if isinstance(key, str)}
    return {}


def _type(node: ast.expr | None) -> str | None:
    """The name of a class without scope or module."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return None
    return node.value.split(".")[-1]
