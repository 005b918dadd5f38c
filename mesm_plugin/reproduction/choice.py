# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Tables and rows by the names that a user types."""

import re
from collections.abc import Sequence

from mesm_plugin.registry.near_names import suggestion
from mesm_plugin.reproduction.tables import TABLES, Row, Table


def chosen_table(name: str) -> Table:
    """The table of a name such as "table1", "Table 1", "tab-1" or "1".

    Raises:
        ValueError: If there is no such table.
    """
    found = re.fullmatch(r"(?:tab(?:le)?\.?)?[\s_-]*0*(\d+)", name.strip(), re.IGNORECASE)
    if found is None or int(found[1]) not in TABLES:
        raise ValueError(f"there is no table {name!r}; known are {', '.join(table.name for table in TABLES.values())}")
    return TABLES[int(found[1])]


def chosen_rows(table: Table, names: Sequence[str] | None) -> list[Row]:
    """Rows of a table, in its order.

    Args:
        table: The table.
        names: Each the name of a row, its label or its config, in capitals or not, with blanks, `-`, `_` or `+`, or
            words of names, such as "mesm" or "i3d", which stand for all these rows. None = all.

    Raises:
        ValueError: If a name is none of them; near names are listed.
    """
    if names is None:
        return list(table.rows)
    chosen: set[str] = set()
    for name in names:
        typed = _words(name)
        exact = [row for row in table.rows if typed in (_words(row.name), _words(row.label), _words(row.config))]
        mixed = exact or [row for row in table.rows if sorted(typed) == sorted(_words(row.name))]
        found = mixed or [row for row in table.rows if typed and _is_part(typed, _words(row.name))]
        if not found:
            known = [row.name for row in table.rows]
            raise ValueError(f"--rows {name}: {table.name} has no such row; {suggestion('_'.join(typed), known)}")
        chosen |= {row.name for row in found}
    return [row for row in table.rows if row.name in chosen]


def _is_part(typed: list[str], words: list[str]) -> bool:
    return set(typed) <= set(words) or "".join(words).startswith("".join(typed))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower().removesuffix(".py"))
