# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Finds misspelt keys in a config before anything is built from it."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from torch.utils.data import DataLoader

from mesm_plugin.engine.arguments import accepted_arguments, unknown_argument
from mesm_plugin.engine.config_loading import ConfigError
from mesm_plugin.registry.near_names import suggestion

READ_BY_RUNNER = {
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "env_variables",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "sync_bn",
}
READ_BY_BUILDER = {"type", "_scope_", "_delete_"}
READ_BY_BUILD_DATALOADER = {
    "dataset",
    "sampler",
    "batch_sampler",
    "collate_fn",
    "num_batch_per_epoch",
    "worker_init_fn",
    "disable_subprocess_warning",
}


@dataclass(frozen=True)
class Place:
    """What MMEngine builds from the dict at a place of a config.

    Attributes:
        registry: Name of the registry in which its `type` must be found.
        default: What it is when it has no `type`.
        extra: Keys that the builder reads itself.
    """

    registry: str
    default: Callable[..., Any] | None = None
    extra: frozenset[str] = frozenset()


GROUPS = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)
LOADER = Place("", DataLoader, frozenset(READ_BY_BUILD_DATALOADER))
HOOK = Place("hook", extra=frozenset({"priority"}))
SCHEDULER = Place("parameter scheduler", extra=frozenset({"convert_to_iter_based", "epoch_length"}))
# Patterns of dotted paths; list items have their index as a name.
PLACES = {
    r"model|data_preprocessor": Place("model"),
    r"(train|val|test)_dataloader": LOADER,
    r"(train|val|test)_dataloader\.dataset": Place("dataset"),
    r"(train|val|test)_dataloader\.(batch_)?sampler": Place("data sampler"),
    r"(train|val|test)_dataloader\.collate_fn": Place("function"),
    r"(val|test)_evaluator(\.metrics)?(\.\d+)?": Place("metric"),
    r"val_cfg": Place("loop", ValLoop),
    r"test_cfg": Place("loop", TestLoop),
    r"optim_wrapper": Place("optim_wrapper", OptimWrapper, frozenset({"constructor", "paramwise_cfg"})),
    r"optim_wrapper\.optimizer": Place("optimizer"),
    r"param_scheduler(\.\d+)?": SCHEDULER,
    r"default_hooks\.\w+|custom_hooks\.\d+": HOOK,
    r"visualizer": Place("visualizer"),
    r"log_processor": Place("log_processor", LogProcessor),
    r"randomness": Place("", Runner.set_randomness),
}


def check_config(config: Config, options: Iterable[str] = ()) -> None:
    """Checks that every key of a config is one that something reads.

    MMEngine ignores a misspelt key at the top level, and finds one below only when it builds that part, which for the
    test split is after training. Variables that a config file uses itself are left alone.

    Args:
        config: The config, with its `custom_imports` imported.
        options: The `key=value` options merged into it; their first key must be one that MMEngine reads.

    Raises:
        ConfigError: Naming the config, the place in it, the key, what it was meant for and the near names.
    """
    name = config.filename or "config"
    known = _known_keys()
    nodes = list(_dicts(config._cfg_dict.to_dict(), ""))
    for option in options:
        key = re.split(r"[.=]", option)[0]
        if key not in known:
            raise ConfigError(f"{name}: option {option!r} changes nothing: {key!r} {_why_unread(key, config, nodes)}")
    for key in config:
        if key not in known and difflib.get_close_matches(key, known, n=1, cutoff=0.85) and not _is_used(key, config):
            raise ConfigError(f"{name}: no key {key!r} is read; {suggestion(key, known)}")
    for group in GROUPS:
        missing = [key for key in group if config.get(key) is None]
        if missing and len(missing) < len(group):
            present = next(key for key in group if key not in missing)
            raise ConfigError(f"{name}: {present!r} needs {' and '.join(map(repr, missing))} beside it")
    if "model" not in config:
        raise ConfigError(f"{name}: there is no 'model'; {suggestion('model', config.keys())}")
    scope = config.get("default_scope")
    if not (scope is None or isinstance(scope, str)):
        raise ConfigError(f"{name}: default_scope is {scope!r}, expected the name of a package")
    for path, node in nodes:
        try:
            problem = _problem(path, node, scope)
        # Looking up what cannot be a name raises nearly everything.
        except Exception as error:
            raise ConfigError(f"{name}: {path}: {error}") from error
        if problem:
            raise ConfigError(f"{name}: {path}: {problem}")


def _why_unread(key: str, config: Config, nodes: list[tuple[str, dict[str, Any]]]) -> str:
    paths = [f"{path}.{key}" for path, node in nodes if key in node]
    hint = f"; did you mean {' or '.join(paths[:3])}?" if paths else ""
    if re.search(rf"^{re.escape(key)}\s*=", config.text or "", re.MULTILINE):
        return f"is a variable of the config file, which has been read already{hint}"
    return f"is read by nothing{hint or '; ' + suggestion(key, _known_keys())}"


def _known_keys() -> set[str]:
    return (accepted_arguments(Runner.__init__)[0] - {"cfg"}) | READ_BY_RUNNER


def _is_used(variable: str, config: Config) -> bool:
    """Whether the text of the config file, or of one it inherits from, reads a variable."""
    return re.search(rf"\b{re.escape(variable)}\b(?!\s*=(?!=))", config.text or "") is not None


def _dicts(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict) and path:
        yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from _dicts(value, f"{path}.{key}" if path else str(key))


def _problem(path: str, node: dict[str, Any], scope: str | None) -> str | None:
    place = next((place for pattern, place in PLACES.items() if re.fullmatch(pattern, path)), Place(""))
    component = node.get("type", place.default)
    if path == "train_cfg" and "type" not in node:
        component = EpochBasedTrainLoop if node.get("by_epoch", True) else IterBasedTrainLoop
        place = Place("", extra=frozenset({"by_epoch"}))
    if isinstance(component, str):
        found = _component(component, place.registry, scope)
        if found is None and place.registry:
            return f"there is no {place.registry} {component!r}; {_near_components(component, place.registry, scope)}"
        component = found
    if component is None:
        return None
    return unknown_argument(component, [key for key in node if key not in READ_BY_BUILDER | place.extra])


def _registries(name: str, scope: str | None) -> list[Registry]:
    """Registries to look a type up in, those called `name` or else all: of the scope, of this package, the roots."""
    roots = [node for node in vars(mmengine.registry).values() if isinstance(node, Registry)]
    found = []
    for root in roots:
        if not name or root.name == name:
            ours = root.children.get("mesm_plugin")
            if ours is not None:
                # Until then the root has announcements in place of some components (`SharedRegistry.defer`).
                ours.import_from_location()
            with root.switch_scope_and_registry(scope) as registry:
                found += [registry, *([ours] if ours is not None else []), root]
    return found


def _component(name: str, registry: str, scope: str | None) -> Callable[..., Any] | None:
    found = (_registered(name, node) for node in _registries(registry, scope))
    return next((component for component in found if component is not None), None)


def _registered(name: str, registry: Registry) -> Callable[..., Any] | None:
    try:
        return registry.get(name)
    except ImportError:
        # A node of another codebase may name modules that cannot be imported: MMAction2's functions are said to be in
        # one that does not exist. Where it matters, building from it says so.
        return None


def _near_components(name: str, registry: str, scope: str | None) -> str:
    return suggestion(name, {key for node in _registries(registry, scope) for key in node.module_dict})
