# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The runs of a table: a row with a seed."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import ConfigError, merge_options, read_config
from mesm_plugin.engine.run_folder import CONFIG, FAILURE, RESULT, keep_settings, plain_config, read_if_there
from mesm_plugin.reproduction.file_check import problems_of
from mesm_plugin.reproduction.simulated import SimulatedFeatures, Substitution, use_simulated
from mesm_plugin.reproduction.tables import Row
from mesm_plugin.utils import atomic_file

SETTINGS = "reproduction.json"


@dataclass(frozen=True)
class Recipe:
    """What all runs have in common.

    Attributes:
        features: Folder laid out as docs/data.md says.
        simulated: Simulated features that take the place of all rows' own; None for real ones.
        seeds: One run of each row for each; empty = the seed of the config.
        epochs: Of every run; None = those of the config.
        options: `key=value` options of every config.
    """

    features: Path
    simulated: SimulatedFeatures | None = None
    seeds: Sequence[int] = ()
    epochs: int | None = None
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """One training, whose scores may be those of rows of several tables.

    Attributes:
        config_name: The config.
        seed: Of everything random.
        folder: Where it is kept.
        config: What `mesm train` would be given, as plain data; empty if it could not be made.
        problems: Why it cannot be trained, if so.
        notes: What is special about its data.
        files: Files of its data that are to be written before.
    """

    config_name: str
    seed: int | None
    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    files: Mapping[Path, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What the folder of a run holds.

    Attributes:
        metrics: Scores by name; empty if it is not finished.
        data: Of which data the scores are.
        checkpoints: The checkpoint that scores are of; by split where each has its own.
        submission: The archive for the evaluation server, or why there is none.
        error: First line of the error if it failed.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    data: str | None = None
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    submission: str | None = None
    error: str | None = None


def build_runs(row: Row, recipe: Recipe, work_dir: Path) -> list[Run]:
    """The runs of a row, one for each seed.

    Raises:
        ConfigError: If an option does not fit the row's config, naming the row.
    """
    with _data_folder(recipe.features):
        config = read_config(row.config)
    problems, changed = [], Substitution([], {})
    if recipe.simulated is not None:
        prepared = work_dir / "simulated_annotations" / config.train_dataloader.dataset.type
        try:
            changed = use_simulated(config, recipe.simulated, prepared)
        except (FileNotFoundError, ValueError) as error:
            problems = [str(error)]
    try:
        merge_options(config, recipe.options)
        if recipe.epochs is not None:
            config.merge_from_dict({"train_cfg.max_epochs": recipe.epochs})
        check_config(config, recipe.options)
    except ConfigError as error:
        raise ConfigError(f"row {row.name}: {error}") from error
    if recipe.simulated is None:
        problems = problems_of(config)
    plain = plain_config(config, f"row {row.name}")
    runs = []
    for seed in recipe.seeds or [plain.get("randomness", {}).get("seed") or 0]:
        randomness = {**plain.get("randomness", {}), "seed": seed}
        folder = work_dir / "runs" / f"{row.config}-seed{seed}"
        whole = {**plain, "randomness": randomness}
        runs.append(Run(row.config, seed, folder, whole, problems, changed.notes, changed.files))
    return runs


def prepare(work_dir: Path, runs: Sequence[Run], simulated: bool) -> None:
    """Checks that the work directory can take the runs, and writes their configs into it.

    Raises:
        ConfigError: If it is not one of `mesm reproduce`, or holds one of the runs with other settings.
    """
    check_work_dir(work_dir)
    keep_settings({work_dir / SETTINGS: {"simulated": simulated}}, "this folder is of other features")
    keep_settings({run.folder / CONFIG: run.config for run in runs}, "this run was begun with other settings")
    for file, content in {file: content for run in runs for file, content in run.files.items()}.items():
        with atomic_file(file) as unfinished:
            unfinished.write_text(content, encoding="utf-8")


def check_work_dir(work_dir: Path) -> None:
    """Raises ConfigError if the work directory is something else."""
    if work_dir.exists() and not work_dir.is_dir():
        raise ConfigError(f"--work-dir {work_dir} is a file, expected a folder")
    if work_dir.is_dir() and any(work_dir.iterdir()) and not (work_dir / SETTINGS).is_file():
        raise ConfigError(
            f"--work-dir {work_dir} holds other files and no {SETTINGS}, so it is not one of mesm reproduce; "
            "name a new or an empty folder"
        )


def read_outcome(run: Run) -> Outcome:
    """What the folder of a run holds; nothing if it is of a run with other settings."""
    if read_if_there(run.folder / CONFIG) != run.config:
        return Outcome()
    result = read_if_there(run.folder / RESULT)
    if result is not None:
        return Outcome(**result)
    return Outcome(error=(read_if_there(run.folder / FAILURE) or {}).get("error"))


@contextmanager
def _data_folder(folder: Path) -> Iterator[None]:
    """Configs that are read meanwhile find their data in the folder."""
    former = os.environ.get("MESM_DATA")
    os.environ["MESM_DATA"] = str(folder)
    level = logging.root.manager.disable
    # MMEngine tells it for every config.
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)
        if former is None:
            del os.environ["MESM_DATA"]
        else:
            os.environ["MESM_DATA"] = former
