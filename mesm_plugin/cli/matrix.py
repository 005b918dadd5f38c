# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm matrix`."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_plugin.cli.config_arguments import add_config_arguments, checked_config

if TYPE_CHECKING:
    from mesm_plugin.matrix.cells import Cell
    from mesm_plugin.matrix.records import Record
    from mesm_plugin.matrix.table import Provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--grounders",
        metavar="NAME",
        nargs="+",
        help="types of grounders, each with the settings of its shipped config for the kind of data set of CONFIG, or "
        "configs of grounders (default: all that have such a config; that of CONFIG is CONFIG)",
    )
    parser.add_argument("--aligners", metavar="NAME", nargs="+", help="types of aligners (default: all)")
    parser.add_argument("--seeds", metavar="N", type=int, nargs="+", help="of every cell (default: that of CONFIG)")
    parser.add_argument("--epochs", metavar="N", type=int, help="of every cell (default: those of the schedule)")
    parser.add_argument(
        "--schedule",
        choices=("grounder", "config"),
        default="grounder",
        help="whose batch size, optimiser, learning rates and epochs: each grounder's own (default) or CONFIG's",
    )
    parser.add_argument(
        "--sizes-only", action="store_true", help="count parameters and operations of every cell, and train none"
    )
    parser.add_argument(
        "--work-dir",
        metavar="DIR",
        help="where to write; finished cells in it are not run again (default: work_dirs/matrix_CONFIG)",
    )


def run(args: argparse.Namespace) -> int:
    """Counts and trains every cell that is not finished, and writes `matrix.md` and `matrix.json` after each.

    Returns:
        0, or 1 if a cell failed.
    """
    from mesm_plugin.engine.config_loading import ConfigError
    from mesm_plugin.matrix import cells as matrix
    from mesm_plugin.matrix.components import chosen_aligners, chosen_grounders, shipped_grounders
    from mesm_plugin.matrix.records import prepare
    from mesm_plugin.matrix.table import Provenance

    config = checked_config(args)
    if config.get("train_cfg") is None:
        raise ConfigError(f"{config.filename} has no train_dataloader, train_cfg and optim_wrapper to train with")
    if args.epochs is not None and args.epochs < 1:
        raise ConfigError(f"--epochs is {args.epochs}, expected at least 1")
    seeds = args.seeds or [config.get("randomness", {}).get("seed") or 0]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {' '.join(map(str, seeds))} names a seed twice")
    aligners = chosen_aligners(args.aligners)
    shipped = shipped_grounders()
    grounders = chosen_grounders(config, args.grounders, shipped)
    homes = {**chosen_grounders(config, None, shipped), **grounders}
    columns = matrix.build_columns(config, aligners, homes.values())
    recipe = matrix.Recipe(args.schedule == "grounder", args.epochs, tuple(args.cfg_options))
    cells = matrix.build_cells(config, grounders, columns, seeds, recipe)
    name = matrix.config_name(config)
    work_dir = Path(args.work_dir or f"work_dirs/matrix_{name}")
    prepare(work_dir, cells)
    provenance = Provenance(
        data=name,
        rows={grounder: matrix.config_name(row) for grounder, row in grounders.items()},
        schedule="each grounder's own" if recipe.own_schedule else f"those of `{name}` for all",
        epochs={cell.grounder: cell.config["train_cfg"].get("max_epochs") for cell in cells},
        seeds=seeds,
        options=args.cfg_options,
    )
    return _run(cells, work_dir, provenance, train=not args.sizes_only)


def _run(cells: "list[Cell]", work_dir: Path, provenance: "Provenance", train: bool) -> int:
    from mesm_plugin.cli import matrix_cell
    from mesm_plugin.matrix.records import read_record
    from mesm_plugin.matrix.table import score_text

    records = {cell.name: read_record(work_dir, cell) for cell in cells}
    _write(work_dir, list(records.values()), provenance)
    for number, cell in enumerate(cells, 1):
        print(f"[{number}/{len(cells)}] {cell.grounder} with {cell.aligner}, seed {cell.seed}: ", end="", flush=True)
        kept, begin = records[cell.name].finished or (not train and bool(records[cell.name].cost)), time.monotonic()
        if not kept:
            matrix_cell.run_in_process(work_dir / cell.name, provenance.data, train)
        record = records[cell.name] = read_record(work_dir, cell)
        outcome = f"failed: {record.error}" if record.error else score_text([record]) if train else "counted"
        print(outcome + (" (finished before)" if kept else f" ({time.monotonic() - begin:.0f} s)"), flush=True)
        _write(work_dir, list(records.values()), provenance)
    failed = sum(record.error is not None for record in records.values())
    print(f"Matrix: {work_dir / 'matrix.md'}, {work_dir / 'matrix.json'}")
    if failed:
        print(f"{failed} of {len(cells)} cells failed; the same command tries them again")
    return 1 if failed else 0


def _write(work_dir: Path, records: "list[Record]", provenance: "Provenance") -> None:
    from mesm_plugin.matrix.table import matrix_json, matrix_markdown
    from mesm_plugin.utils import atomic_file, write_json

    write_json(work_dir / "matrix.json", matrix_json(records, provenance))
    with atomic_file(work_dir / "matrix.md") as unfinished:
        unfinished.write_text(matrix_markdown(records, provenance), encoding="utf-8")
