# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The table of docs/runs.md names the environment variables that the code reads."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Values = dict[str, list[Any]]


def is_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ"


def literal(node: ast.AST, known: Values) -> list[Any]:
    """What an expression can be; nothing where that is not written out."""
    if isinstance(node, ast.Name):
        return known.get(node.id, [])
    if isinstance(node, ast.JoinedStr):
        parts = [literal(part.value if isinstance(part, ast.FormattedValue) else part, known) for part in node.values]
        return ["".join(texts) for texts in itertools.product(*parts)]
    try:
        return [ast.literal_eval(node)]
    except ValueError:
        return []


def bound(target: ast.AST, iterable: ast.AST, known: Values) -> Values:
    """The values of the names that a loop binds."""
    items = [item for values in literal(iterable, known) if isinstance(values, tuple) for item in values]
    if isinstance(target, ast.Tuple):
        columns = zip(*items, strict=True) if items else iter(())
        return {
            name.id: list(column)
            for name, column in zip(target.elts, columns, strict=False)
            if isinstance(name, ast.Name)
        }
    return {target.id: items} if isinstance(target, ast.Name) else {}


def keys(node: ast.AST) -> Iterator[ast.expr]:
    """The expression of the name, if a node reads one variable."""
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr="get" | "pop" | "setdefault"), args=[key, *_]):
            if is_environment(value):
                yield key
        case ast.Call(func=ast.Attribute(attr="getenv"), args=[key, *_]):
            yield key
        case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if is_environment(value):
            yield key
        case ast.Compare(left=key, comparators=[value]) if is_environment(value):
            yield key


def read_by(node: ast.AST, known: Values) -> Iterator[tuple[int, list[str]]]:
    """Line and names of every place where a variable is read."""
    loops = [node] if isinstance(node, ast.For) else getattr(node, "generators", [])
    for loop in loops:
        known = known | bound(loop.target, loop.iter, known)
    for key in keys(node):
        yield key.lineno, literal(key, known)
    for child in ast.iter_child_nodes(node):
        yield from read_by(child, known)


def variables(folder: str) -> dict[str, list[str]]:
    """The variables that are read below a folder, with the places, also by `{{$NAME:default}}` in configs.

    Places where the name cannot be told have the key "".
    """
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        known: Values = {}
        tree = ast.parse(text)
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                known[statement.targets[0].id] = literal(statement.value, known)
        for line, names in read_by(tree, known):
            for name in names or [""]:
                found.setdefault(name, []).append(f"{path.relative_to(ROOT)}:{line}")
        for name in re.findall(r"\{\{\$(\w+):", text):
            found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


def test_table_is_complete() -> None:
    read: dict[str, list[str]] = {}
    for folder in ("mesm_plugin", "kernels", "registry", "configs"):
        for name, places in variables(folder).items():
            read.setdefault(name, []).extend(places)
    assert "" not in read, f"whose name is that of no variable in sight: {read['']}"
    for folder in ("tests", "bench"):
        read |= {name: places for name, places in variables(folder).items() if name.startswith("MESM_")}
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Environment variables\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    rows = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("| `")]
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(listed) == sorted(read), read


def test_every_way_to_read_is_seen() -> None:
    code = """
NAME = "A"
os.environ.get(NAME, "") or os.getenv("B")
os.environ["C"] = os.environ["D"] + os.environ.pop("E")
"F" in os.environ and os.environ.setdefault("G", "1")
any(name in os.environ for name in ("H", "I"))
for name, part in (("J", "K"), ("L", "M")):
    os.environ[name] = os.environ[f"OF_{part}"]
os.environ.get(unknown)
"""
    tree = ast.parse(code)
    found = [names for _, names in read_by(tree, {"NAME": ["A"]})]
    assert found == [["A"], ["B"], ["D"], ["E"], ["F"], ["G"], ["H", "I"], ["OF_K", "OF_M"], []]
