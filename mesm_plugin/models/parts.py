# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Parts of models, each chosen by a config."""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mesm_plugin.registry import MODELS

ConfigType = Mapping[str, Any]
DEFAULTS: ConfigType = MappingProxyType({})
"""The config of a part that is as it is by default."""


def build_part(config: ConfigType, default_type: str, **default_args: Any) -> Any:
    """Builds a part from its config, with the default type and arguments where the config does not set them."""
    return MODELS.build(dict(config), default_args={"type": default_type, **default_args})


def build_grounder_part(part: str, config: ConfigType, shared: Mapping[str, Any], grounder: str) -> Any:
    """Builds a part of a grounder, with those of the shared arguments that it takes and its config does not set.

    Raises:
        ValueError: The config sets another `dims` than the grounder's.
    """
    if config.get("dims", shared["dims"]) != shared["dims"]:
        name = getattr(config["type"], "__name__", config["type"])
        raise ValueError(
            f"the {part} {name} has dims={config['dims']}, but its grounder {grounder} has "
            f"dims={shared['dims']}: leave dims out of the {part}'s config, or set the grounder's"
        )
    component = MODELS.find(config["type"]) if isinstance(config["type"], str) else config["type"]
    # An unknown type is left to the registry, whose message lists near names.
    taken = inspect.signature(component).parameters if component is not None else {}
    return MODELS.build(dict(config), default_args={name: shared[name] for name in shared if name in taken})
