# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm reproduce`."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_plugin.reproduction.report import Reproduced
    from mesm_plugin.reproduction.runs import Recipe, Run
    from mesm_plugin.reproduction.tables import Row, Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("table", metavar="TABLE", nargs="+", help="a table of the paper: table1 to table7, or 1 to 7")
    parser.add_argument(
        "--features",
        metavar="DIR",
        help="data laid out as docs/data.md says, or a folder of simulated features (default: MESM_DATA, or data)",
    )
    parser.add_argument("--rows", metavar="NAME", nargs="+", help="rows of the table, as --list names them (all)")
    parser.add_argument("--seeds", metavar="N", type=int, nargs="+", help="of every row (default: that of its config)")
    parser.add_argument("--epochs", metavar="N", type=int, help="of every row (default: those of its config)")
    parser.add_argument(
        "--cfg-options",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change keys of every row's config",
    )
    parser.add_argument(
        "--work-dir",
        metavar="DIR",
        help="where to write; finished rows in it, of this or another table, are not run again (default: "
        "work_dirs/reproduce, with simulated features work_dirs/reproduce_simulated)",
    )
    parser.add_argument(
        "--list",
        "--dry-run",
        dest="list",
        action="store_true",
        help="only list the rows, whether they are finished, and which of their files are missing",
    )


def run(args: argparse.Namespace) -> int:
    """Runs every row that is not finished, and writes the table as Markdown and JSON after each.

    Returns:
        0, or 1 if a row failed or could not be run.
    """
    from mesm_plugin.engine.config_loading import ConfigError
    from mesm_plugin.reproduction import runs as reproduction
    from mesm_plugin.reproduction.choice import chosen_rows, chosen_table

    table = chosen_table(" ".join(args.table))
    rows = chosen_rows(table, args.rows)
    if args.epochs is not None and args.epochs < 1:
        raise ConfigError(f"--epochs is {args.epochs}, expected at least 1")
    if len(set(args.seeds or ())) < len(args.seeds or ()):
        raise ConfigError(f"--seeds {' '.join(map(str, args.seeds))} names a seed twice")
    recipe = _recipe(args, table)
    simulated = recipe.simulated is not None
    work_dir = Path(args.work_dir or f"work_dirs/reproduce{'_simulated' if simulated else ''}").resolve()
    reproduction.check_work_dir(work_dir)
    known = {row.name: reproduction.build_runs(row, recipe, work_dir) for row in table.rows}
    chosen = [run for row in rows for run in known[row.name]]
    missing = [run for run in chosen if run.problems and not reproduction.read_outcome(run).metrics]
    print(f"Table {table.number}: {table.title}{', on SIMULATED features' if simulated else ''}")
    if args.list:
        _print_list(rows, known)
        if not recipe.features.is_dir():
            print(f"There is no folder {recipe.features}; --features DIR tells which files of a row are missing")
            return 0
    for run in missing:
        print(f"{run.config_name} cannot be run, seed {run.seed}:")
        print("\n".join(f"  {problem}" for problem in run.problems))
    if args.list:
        return 1 if missing else 0
    runnable = [run for run in chosen if run not in missing]
    reproduction.prepare(work_dir, runnable, simulated)
    return _run(table, rows, known, recipe, work_dir)


def _recipe(args: argparse.Namespace, table: "Table") -> "Recipe":
    from mesm_plugin.datasets.dataset_names import data_folder
    from mesm_plugin.engine.config_loading import read_config
    from mesm_plugin.reproduction.runs import Recipe
    from mesm_plugin.reproduction.simulated import find_simulated

    given = args.features or data_folder()
    features = Path(given).expanduser().resolve()
    simulated = None
    if features.is_dir():
        simulated = find_simulated(features, read_config(table.rows[0].config).train_dataloader.dataset.type)
    elif features.exists():
        raise NotADirectoryError(f"--features {given} is a file, expected a folder laid out as docs/data.md says")
    elif not args.list or args.features:
        raise FileNotFoundError(f"--features {given}: there is no such folder, expected one as docs/data.md says")
    return Recipe(features, simulated, args.seeds or (), args.epochs, tuple(args.cfg_options))


def _print_list(rows: "list[Row]", known: "dict[str, list[Run]]") -> None:
    from mesm_plugin.reproduction.runs import read_outcome

    width = max(len(row.name) for row in rows)
    for row in rows:
        for run in known[row.name]:
            outcome = read_outcome(run)
            state = "finished" if outcome.metrics else "failed" if outcome.error else "to run"
            epochs = run.config["train_cfg"]["max_epochs"]
            print(f"  {row.name.ljust(width)}  {row.config}, seed {run.seed}, {epochs} epochs: {state}")


def _run(table: "Table", rows: "list[Row]", known: "dict[str, list[Run]]", recipe: "Recipe", work_dir: Path) -> int:
    from mesm_plugin.cli import reproduce_run
    from mesm_plugin.reproduction.report import table_markdown
    from mesm_plugin.reproduction.runs import read_outcome

    todo = [(row, run) for row in rows for run in known[row.name]]
    _write(table, known, recipe, work_dir)
    failed = 0
    for number, (row, run) in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {row.label}, seed {run.seed}: ", end="", flush=True)
        kept, begin = bool(read_outcome(run).metrics), time.monotonic()
        if not kept and run.problems:
            print(f"not run: {run.problems[0]}", flush=True)
            failed += 1
            continue
        if not kept:
            reproduce_run.run_in_process(run.folder, run.config_name)
        outcome = read_outcome(run)
        text = ", ".join(f"{name} {_number(outcome.metrics.get(name))}" for name in table.metrics)
        failed += outcome.error is not None
        print(f"failed: {outcome.error}" if outcome.error else text, end="")
        print(" (finished before)" if kept else f" ({time.monotonic() - begin:.0f} s)", flush=True)
        _write(table, known, recipe, work_dir)
    print("\n" + table_markdown(table, _reproduced(table, known), recipe))
    print(f"Written: {work_dir / table.name}.md, {work_dir / table.name}.json")
    if failed:
        print(f"{failed} of {len(todo)} runs failed or could not be run; the same command tries them again")
    return 1 if failed else 0


def _reproduced(table: "Table", known: "dict[str, list[Run]]") -> "list[Reproduced]":
    from mesm_plugin.reproduction.report import Reproduced
    from mesm_plugin.reproduction.runs import read_outcome

    return [Reproduced(row, known[row.name], [read_outcome(run) for run in known[row.name]]) for row in table.rows]


def _write(table: "Table", known: "dict[str, list[Run]]", recipe: "Recipe", work_dir: Path) -> None:
    from mesm_plugin.reproduction.report import table_json, table_markdown
    from mesm_plugin.utils import atomic_file, write_json

    rows = _reproduced(table, known)
    write_json(work_dir / f"{table.name}.json", table_json(table, rows, recipe))
    with atomic_file(work_dir / f"{table.name}.md") as unfinished:
        unfinished.write_text(table_markdown(table, rows, recipe), encoding="utf-8")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
