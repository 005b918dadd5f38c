# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Turns what a registry raises when a part of a config cannot be built into one readable sentence."""

import re
from traceback import walk_tb
from types import FrameType

from mesm_plugin.engine.arguments import accepted_arguments
from mesm_plugin.registry.near_names import suggestion


def explain_build_error(error: BaseException) -> str | None:
    """Says which part of a config could not be built and why; None if `error` is of another kind.

    Explained are a type that no registry has, an argument that a component does not take, and one that it lacks.
    """
    frames = _frames(error)
    builds = [frame for frame in frames if frame.f_code.co_name == "build_from_cfg"]
    if not builds:
        return None
    if isinstance(error, KeyError):
        return _unknown_type(builds[-1])
    if not isinstance(error, TypeError):
        return None
    message = str(error)
    called = re.match(r"([\w.]+)\.__init__\(\) ", message)
    if called is None:
        return None
    title = called[1]
    component = frames[-1].f_locals.get("obj_cls") or frames[-1].f_globals.get(title)
    if unexpected := re.search(r"got an unexpected keyword argument '(\w+)'", message):
        known = accepted_arguments(component)[0] if callable(component) else set()
        hint = f"; {suggestion(unexpected[1], known)}" if known else ""
        return f"{title} has no argument {unexpected[1]!r}{hint}"
    if lacking := re.search(r"missing .* arguments?: (.*)", message):
        return f"{title} needs the argument {lacking[1]}, which the config does not give"
    return None


def _unknown_type(build: FrameType) -> str | None:
    name, registry = build.f_locals["cfg"].get("type"), build.f_locals["registry"]
    if build.f_locals.get("obj_cls") is not None or not isinstance(name, str):
        return None
    known = set(registry.module_dict) | set(registry.parent.module_dict if registry.parent else ())
    return f"there is no {registry.name} {name!r}; {suggestion(name, known)}"


def _frames(error: BaseException) -> list[FrameType]:
    """The frames that an error went through, outermost first."""
    return [frame for frame, _ in walk_tb(error.__traceback__)]
