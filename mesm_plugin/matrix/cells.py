# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The cells of a matrix, each a whole config."""

import copy
import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import ConfigError, merge_options
from mesm_plugin.engine.run_folder import plain_config
from mesm_plugin.matrix.components import aligner_config
from mesm_plugin.registry import DATASETS, MODELS

FROM_DATA = ("video_dims", "text_dims", "post_process")
SCHEDULE = ("train_cfg", "optim_wrapper", "param_scheduler")


@dataclass(frozen=True)
class Cell:
    """One training of a matrix.

    Attributes:
        grounder: Type of the grounder.
        aligner: Type of the aligner.
        seed: Seed of everything random.
        config: What `mesm train` would be given, as plain data.
        own: Whether the aligner is the grounder's own, so that the config of the model is unchanged.
    """

    grounder: str
    aligner: str
    seed: int
    config: dict[str, Any] = field(repr=False)
    own: bool

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        return f"{self.grounder}-{self.aligner}-seed{self.seed}"


@dataclass(frozen=True)
class Recipe:
    """What is common to all cells.

    Attributes:
        own_schedule: Whether batch size, optimiser, learning rates and epochs are those of each grounder's config, or
            else those of the config of the data set.
        epochs: Epochs of every cell; None = those of the schedule.
        options: `key=value` options, which hold in every cell; those of the aligner only where the aligner of the
            config of the data set stands.
    """

    own_schedule: bool = True
    epochs: int | None = None
    options: tuple[str, ...] = ()


def build_columns(data: Config, aligners: Iterable[str], homes: Iterable[Config]) -> dict[str, dict[str, Any]]:
    """The config of each aligner for the grounders that it is not the own aligner of.

    It is as `data` or else the first of `homes` sets it, or with its defaults where none does. What restores masked
    words is fitted to the words of the data set.

    Args:
        data: The config whose data set is used.
        aligners: Types of aligners.
        homes: Configs of grounders.

    Raises:
        ConfigError: If `data` does not give the channels of the features.
    """
    for key in ("video_dims", "text_dims"):
        if key not in data.model:
            raise ConfigError(f"{data.filename}: model.{key} is missing, expected the channels of the features")
    homes, word_classes = list(homes), _word_classes(data)
    return {name: _column(name, data, homes, word_classes) for name in aligners}


def build_cells(
    data: Config,
    grounders: Mapping[str, Config],
    columns: Mapping[str, Mapping[str, Any]],
    seeds: Iterable[int],
    recipe: Recipe,
) -> list[Cell]:
    """The cells of a matrix, grounder by grounder: the config of a grounder, with another aligner, on a data set.

    Args:
        data: The config whose data set, metrics and hooks are used, with the options merged into it.
        grounders: The config of each grounder, by type.
        columns: What `build_columns` returns.
        seeds: One training for each.
        recipe: What is common to all cells.

    Raises:
        ConfigError: If a key of a cell's config is not one that something reads, naming the cell.
    """
    cells = []
    for grounder, row in grounders.items():
        for aligner, column in columns.items():
            own = aligner_config(row)["type"] == aligner
            try:
                config = _cell_config(data, row, None if own else column, recipe)
                check_config(config)
            except ConfigError as error:
                raise ConfigError(f"{grounder} with {aligner}: {error}") from error
            plain = plain_config(config, f"{grounder} with {aligner}")
            for seed in seeds:
                randomness = {**plain.get("randomness", {}), "seed": seed}
                cells.append(Cell(grounder, aligner, seed, {**plain, "randomness": randomness}, own))
    return cells


def _cell_config(data: Config, row: Config, aligner: Mapping[str, Any] | None, recipe: Recipe) -> Config:
    """The config of a cell; `aligner` None leaves the row's own."""
    content = copy.deepcopy(data._cfg_dict)
    model = copy.deepcopy(row._cfg_dict.model)
    model.update({key: copy.deepcopy(data.model[key]) for key in FROM_DATA if key in data.model})
    if aligner is not None:
        model["aligner"] = ConfigDict(copy.deepcopy(dict(aligner)))
    content["model"] = model
    if recipe.own_schedule:
        for key in SCHEDULE:
            content.pop(key, None)
            if row.get(key) is not None:
                content[key] = copy.deepcopy(row._cfg_dict[key])
        content["train_dataloader"]["batch_size"] = row.train_dataloader.batch_size
    config = Config(content, filename=data.filename)
    merge_options(config, [option for option in recipe.options if not option.startswith("model.aligner")])
    if recipe.epochs is not None:
        config.merge_from_dict({"train_cfg.max_epochs": recipe.epochs})
    return config


def _column(name: str, data: Config, homes: Iterable[Config], word_classes: int | None) -> dict[str, Any]:
    component: Any = MODELS.get(name)
    if aligner_config(data)["type"] == name:
        return aligner_config(data)
    column: dict[str, Any] = next(
        (found for home in homes if (found := aligner_config(home))["type"] == name), {"type": name}
    )
    if "frame_word" in inspect.signature(component).parameters and column.get("frame_word", {}) is not None:
        frame_word = dict(column.get("frame_word", {}))
        if word_classes is not None:
            frame_word["num_word_classes"] = word_classes
        if frame_word.get("token_dims") is not None:
            frame_word["token_dims"] = data.model.text_dims
        column = {**column, "frame_word": frame_word}
    return column


def _word_classes(data: Config) -> int | None:
    """Classes of words that the text encoder of the training set knows, if it counts them."""
    dataset: Any = DATASETS.build(copy.deepcopy(data._cfg_dict.train_dataloader.dataset))
    return getattr(getattr(dataset, "text", None), "num_classes", None)


def config_name(config: Config) -> str:
    """A config's name as a table shows it."""
    return Path(os.fspath(config.filename)).stem
