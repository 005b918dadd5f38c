# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which keyword arguments a component takes."""

import difflib
import inspect
from collections.abc import Callable, Collection
from typing import Any

from mesm_plugin.registry.near_names import suggestion

FOLLOWED = ("mesm_plugin", "mmengine")


def accepted_arguments(component: Callable[..., Any]) -> tuple[set[str], bool]:
    """The names of the arguments of a class or function, and whether it may take others as well.

    A class whose `__init__` takes `**kwargs` is followed to its base classes, but only in this package and in MMEngine,
    where they are known to be handed upward; elsewhere they may go anywhere.
    """
    if not inspect.isclass(component):
        return _parameters(component)
    names: set[str] = set()
    for base in component.__mro__:
        if "__init__" not in vars(base):
            continue
        own, is_open = _parameters(vars(base)["__init__"])
        names |= own
        if not is_open or base.__module__.split(".")[0] not in FOLLOWED:
            return names, is_open
    return names, True


def unknown_argument(component: Callable[..., Any], given: Collection[str]) -> str | None:
    """The first of the `given` names that `component` does not take, in words; None if it takes them all.

    Where a component of this package or of MMEngine takes any name, one that is almost that of a documented argument
    counts as a misspelling.
    """
    names, is_open = accepted_arguments(component)
    followed = (getattr(component, "__module__", None) or "").split(".")[0] in FOLLOWED
    if is_open and not followed:
        return None
    for name in given:
        if name not in names and (not is_open or difflib.get_close_matches(name, names, cutoff=0.8)):
            title = getattr(component, "__name__", repr(component))
            return f"{title} has no argument {name!r}; {suggestion(name, names)}"
    return None


def _parameters(function: Any) -> tuple[set[str], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set(), True
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)
