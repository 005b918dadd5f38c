# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Finds the code base that a checkpoint is of, by which model its options describe and its parameters fill."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.converters.cg_detr import CG_DETR
from mesm_plugin.converters.eatr import EATR
from mesm_plugin.converters.moment_detr import MOMENT_DETR
from mesm_plugin.converters.peer import Peer, rename
from mesm_plugin.converters.qd_detr import QD_DETR
from mesm_plugin.converters.released_mesm import RELEASED_MESM
from mesm_plugin.converters.tr_detr import TR_DETR
from mesm_plugin.converters.uvcom import UVCOM
from mesm_plugin.registry import MODELS
from mesm_plugin.registry.near_names import suggestion

PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "mesm": RELEASED_MESM,
        "cg_detr": CG_DETR,
        "eatr": EATR,
        "moment_detr": MOMENT_DETR,
        "qd_detr": QD_DETR,
        "tr_detr": TR_DETR,
        "uvcom": UVCOM,
    }
)
"""Converters by the names that configs begin with."""

_SHOWN = 3


@dataclass(frozen=True)
class Converted:
    """A checkpoint under our names, which fits its model.

    Attributes:
        name: Key in `PEERS`.
        code: Name of the code, for messages.
        model: Config of the model.
        state_dict: Its parameters.
    """

    name: str
    code: str
    model: dict[str, Any]
    state_dict: dict[str, Tensor]


def find_peer(state_dict: Mapping[str, Tensor], options: Mapping[str, Any], name: str | None = None) -> Converted:
    """Converts parameters by the one converter that they and their options fit.

    Args:
        state_dict: Parameters under the authors' names.
        options: Training options under the authors' names.
        name: Key in `PEERS`, in any spelling such as "QD-DETR"; None tries all.

    Raises:
        ValueError: There is no such converter, or none fits, with the reasons of those that come nearest, or several
            fit.
    """
    peers = PEERS if name is None else {(key := _key(name)): PEERS[key]}
    found, reasons = [], {}
    for key, peer in peers.items():
        try:
            found.append(_convert(key, peer, state_dict, options))
        except ValueError as error:
            reasons[key] = str(error)
    if len(found) > 1:
        fitting = ", ".join(converted.name for converted in found)
        raise ValueError(f"options and parameters fit several codes ({fitting}): name one with --peer")
    if found:
        return found[0]
    if name is not None:
        raise ValueError(next(iter(reasons.values())))
    raise ValueError(_why_none(state_dict, reasons))


def _key(name: str) -> str:
    plain = {re.sub("[-_ ]", "", key): key for key in PEERS}
    key = plain.get(re.sub("[-_ ]", "", name).lower())
    if key is None:
        raise ValueError(f"peer {name!r} is not known; {suggestion(name, PEERS)}")
    return key


def _why_none(state_dict: Mapping[str, Tensor], reasons: Mapping[str, str]) -> str:
    known = {key: sum(rename(name, PEERS[key].names) is not None for name in state_dict) for key in reasons}
    most = max(known.values())
    if most < len(state_dict) / 2:
        names = ", ".join(list(state_dict)[:_SHOWN])
        return (
            f"the parameters ({len(state_dict)}, such as {names}) are of none of the grounders that can be imported, "
            f"which are {', '.join(PEERS)}"
        )
    nearest = [f"as {key}: {reason}" for key, reason in reasons.items() if known[key] == most]
    return f"cannot be imported {'; '.join(nearest)}"


def _convert(name: str, peer: Peer, state_dict: Mapping[str, Tensor], options: Mapping[str, Any]) -> Converted:
    for option, value in options.items():
        # Before a model is built, which would take very long.
        if option.endswith(("_layers", "n_input_proj")) and isinstance(value, int) and value > len(state_dict):
            raise ValueError(f"option {option}={value} of {peer.code}: there are {len(state_dict)} parameters only")
    model = peer.config(options, state_dict)
    converted = peer.convert_state_dict(state_dict, options)
    _check_weights(model, converted, peer, options)
    theirs = {ours: original for original, ours in peer.parameter_names(list(state_dict), options).items()}
    for ours, value in converted.items():
        called = theirs.get(ours, ours)
        if not value.is_floating_point():
            raise ValueError(f"parameter {called!r} is of {value.dtype}, expected floating-point numbers")
        bad = value.numel() - int(torch.isfinite(value).sum())
        if bad:
            raise ValueError(f"parameter {called!r} has {bad} of {value.numel()} numbers that are NaN or infinite")
    return Converted(name, peer.code, model, {key: value.float() for key, value in converted.items()})


def _check_weights(
    model: Mapping[str, Any], converted: Mapping[str, Tensor], peer: Peer, options: Mapping[str, Any]
) -> None:
    """Checks that parameters are exactly those of a model, which is built without memory for them.

    Raises:
        ValueError: With the first that are missing, unexpected or of another shape, or why there is no such model.
    """
    try:
        with torch.device("meta"):
            needed = MODELS.build(dict(model)).state_dict()
    # What a module makes of options that no model can have is of any kind.
    except Exception as error:
        raise ValueError(f"the options of {peer.code} describe a model that cannot be built: {error}") from error
    reshaped = [
        f"{name} is {tuple(converted[name].shape)}, expected {tuple(value.shape)}"
        for name, value in needed.items()
        if name in converted and converted[name].shape != value.shape
    ]
    problems = {
        "missing": [name for name in needed if name not in converted],
        "unexpected": [name for name in converted if name not in needed],
        "of another shape": reshaped,
    }
    found = [
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise ValueError(
            f"the parameters do not fill the model that the options of {peer.code} describe ({len(needed)} parameters, "
            f"by the names of this package): {'; '.join(found)}"
        )
