# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The folder of a run that is one of many: its config, and its outcome once there is one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mesm_plugin.engine.config_loading import ConfigError
from mesm_plugin.utils import read_json, write_json

CONFIG, RESULT, FAILURE = "cell.json", "result.json", "failure.json"


def keep_settings(settings: Mapping[Path, Mapping[str, Any]], otherwise: str) -> None:
    """Checks that none of the files holds other settings, then writes them.

    Args:
        settings: What each file is to hold, such as the config of a run, as plain data.
        otherwise: What to say of a file with other settings: "this cell belongs to another matrix".

    Raises:
        ConfigError: If a file holds other settings, with the first key that differs.
    """
    for file, content in settings.items():
        known = read_if_there(file)
        difference = None if known is None else next(_differences(known, content), None)
        if difference is not None:
            raise ConfigError(
                f"{file}: {otherwise}, in which {difference}; choose another --work-dir, or delete that folder"
            )
    for file, content in settings.items():
        write_json(file, content)


def plain_config(config: Config, where: str) -> dict[str, Any]:
    """The config as JSON knows it, so that one that was read from a file can be compared with it.

    Raises:
        ConfigError: If it holds a value that cannot be written, naming `where`.
    """
    try:
        return json.loads(json.dumps(config.to_dict()))
    except TypeError as error:
        raise ConfigError(f"{where}: the config holds a value that cannot be written: {error}") from error


def read_if_there(file: Path) -> Any:
    """What a file of a run's folder holds; None if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    return read_json(file, "delete it to run the cell again") if file.is_file() else None


def _differences(known: Any, new: Any, path: str = "") -> Iterator[str]:
    """Sentences such as "train_cfg.max_epochs is 2, and here 3"."""
    if isinstance(known, dict) and isinstance(new, dict):
        for key in {**known, **new}:
            place = f"{path}.{key}" if path else key
            if key not in known or key not in new:
                yield f"{place} is {'set' if key in known else 'absent'}, and here it is not"
            else:
                yield from _differences(known[key], new[key], place)
    elif known != new:
        yield f"{path} is {known!r}, and here {new!r}"
