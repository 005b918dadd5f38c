# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which grounders and aligners there are, and which configs of grounders belong to a data set."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mesm_plugin.engine.config_loading import ConfigError, read_config, shipped_configs
from mesm_plugin.models.aligners import BaseAligner
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS
from mesm_plugin.registry.near_names import suggestion


def grounder_types() -> list[str]:
    """Registered names of all grounders."""
    return _types(DETRGrounder)


def aligner_types() -> list[str]:
    """Registered names of all aligners."""
    return _types(BaseAligner)


def aligner_config(config: Config) -> dict[str, Any]:
    """The aligner of a grounder's config, with the grounder's default where the config names no type."""
    aligner = dict(config.model.get("aligner") or {})
    default = default_aligner(config.model.type)
    return aligner if "type" in aligner else {**default, **aligner}


def default_aligner(grounder: str) -> Mapping[str, Any]:
    """Config of the aligner that a grounder has by default."""
    component: Any = MODELS.get(grounder)
    return component.default_parts["aligner"]


def chosen_aligners(names: Iterable[str] | None) -> list[str]:
    """The aligners named on the command line, all if none is.

    Raises:
        ConfigError: If there is no such aligner, with the near names, or one is named twice.
    """
    known = aligner_types()
    chosen = known if names is None else list(names)
    for name in chosen:
        if name not in known:
            raise ConfigError(f"--aligners {name}: there is no such aligner; {suggestion(name, known)}")
        if chosen.count(name) > 1:
            raise ConfigError(f"--aligners names {name} twice")
    return chosen


def shipped_grounders() -> dict[str, Config]:
    """The shipped configs of grounders, by name."""
    known = grounder_types()
    configs = {name: read_config(str(path)) for name, path in shipped_configs().items()}
    return {name: config for name, config in configs.items() if config.get("model", {}).get("type") in known}


def chosen_grounders(data: Config, names: Iterable[str] | None, shipped: Mapping[str, Config]) -> dict[str, Config]:
    """The config of each grounder, by the grounder's type.

    Args:
        data: The config whose data set is used. It is itself the config of its grounder.
        names: Types of grounders, whose shipped config for the same kind of data set is taken, or configs of
            grounders, by path or shipped name. None = every grounder with a shipped config for it.
        shipped: What `shipped_grounders` returns.

    Raises:
        ConfigError: If a name is neither (near names are listed), a grounder has no shipped config for the kind of
            data set (its configs for others are listed), or one is named twice.
    """
    known = grounder_types()
    if names is None:
        found = {name: _config_for(data, name, shipped) for name in known}
        return {name: config for name, config in found.items() if config is not None}
    chosen: dict[str, Config] = {}
    for name in names:
        if name in known:
            config = _config_for(data, name, shipped)
            if config is None:
                raise ConfigError(f"--grounders {name}: {_no_config(data, name, shipped)}")
        elif name in shipped or Path(name).is_file():
            config = read_config(name)
            if config.get("model", {}).get("type") not in known:
                raise ConfigError(f"--grounders {name}: the config's model is not one of {', '.join(known)}")
        else:
            known_names = [*known, *shipped]
            raise ConfigError(
                f"--grounders {name}: there is no such grounder or config; {suggestion(name, known_names)}"
            )
        if config.model.type in chosen:
            raise ConfigError(f"--grounders names {config.model.type} twice")
        chosen[config.model.type] = config
    return chosen


def _types(base: type) -> list[str]:
    MODELS.import_from_location()
    named: Mapping[str, Callable[..., Any]] = MODELS.module_dict
    return sorted(
        name for name, component in named.items() if isinstance(component, type) and issubclass(component, base)
    )


def _data_type(config: Config) -> str | None:
    return (config.get("train_dataloader") or {}).get("dataset", {}).get("type")


def _config_for(data: Config, grounder: str, shipped: Mapping[str, Config]) -> Config | None:
    """The config of a grounder with its own aligner for the kind of data set, the nearest by its feature channels."""
    if data.model.type == grounder:
        return data
    own = default_aligner(grounder)["type"]
    fitting = {
        name: config
        for name, config in shipped.items()
        if config.model.type == grounder
        and _data_type(config) == _data_type(data)
        and aligner_config(config)["type"] == own
        # Those train other grounders as MESM was trained.
        and not name.endswith("_paper_protocol")
    }

    def distance(name: str) -> tuple[bool, bool, int, str]:
        model = fitting[name].model
        return model.video_dims != data.model.video_dims, model.text_dims != data.model.text_dims, len(name), name

    return fitting[min(fitting, key=distance)] if fitting else None


def _no_config(data: Config, grounder: str, shipped: Mapping[str, Config]) -> str:
    others = [name for name, config in shipped.items() if config.model.type == grounder]
    remedy = f"name one of its configs in its place ({', '.join(others)})" if others else "name a config of it instead"
    return f"no shipped config of it is for {_data_type(data)}; {remedy}"
