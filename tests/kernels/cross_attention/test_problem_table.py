# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.kernels import ProblemTable


def test_attributes() -> None:
    table = ProblemTable([(4, 3, 10, 2), (0, 4, 0, 7), (9, 0, 8, 1)])
    assert table.problems == [(4, 3, 10, 2), (0, 4, 0, 7), (9, 0, 8, 1)]
    assert len(table) == 3
    assert table.table.dtype == torch.int32
    assert table.table.tolist() == [[4, 3, 10, 2], [0, 4, 0, 7], [9, 0, 8, 1]]
    assert (table.query_rows, table.key_rows) == (7, 12)
    assert (table.max_queries, table.max_keys) == (4, 7)


def test_lengths_lie_back_to_back() -> None:
    table = ProblemTable.from_lengths([3, 0, 2], [1, 4, 0])
    assert table.problems == [(0, 3, 0, 1), (3, 0, 1, 4), (3, 2, 5, 0)]
    assert (table.query_rows, table.key_rows) == (5, 5)


def test_no_problems() -> None:
    for table in (ProblemTable([]), ProblemTable.from_lengths([], [])):
        assert table.table.shape == (0, 4)
        assert (len(table), table.query_rows, table.key_rows, table.max_queries, table.max_keys) == (0, 0, 0, 0, 0)


def test_device() -> None:
    assert ProblemTable([(0, 1, 0, 1)], device="meta").table.device == torch.device("meta")


def test_numbers_become_integers() -> None:
    assert ProblemTable([torch.tensor([0, 1, 2, 3])]).problems == [(0, 1, 2, 3)]


@pytest.mark.parametrize("position", range(4))
def test_negative_numbers(position: int) -> None:
    problem = [0, 1, 0, 1]
    problem[position] = -1
    with pytest.raises(ValueError, match=r"problems\[1\] is \[.*-1.*\], expected .* each at least 0"):
        ProblemTable([(5, 1, 5, 1), problem])


def test_negative_length() -> None:
    with pytest.raises(ValueError, match=r"problems\[1\] is .* each at least 0"):
        ProblemTable.from_lengths([4, -2], [1, 1])


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        ([(0, 4, 0, 1), (3, 2, 1, 1)], "problems 0 and 1 share query rows 3 to 3"),
        ([(5, 1, 2, 6), (0, 1, 0, 3)], "problems 1 and 0 share key rows 2 to 2"),
        ([(0, 1, 0, 9), (1, 1, 2, 3)], "problems 0 and 1 share key rows 2 to 4"),
        ([(0, 2, 0, 1), (0, 2, 1, 1)], "problems 0 and 1 share query rows 0 to 1"),
        ([(0, 9, 0, 1), (1, 1, 1, 1), (5, 1, 2, 1)], "problems 0 and 1 share query rows 1 to 1"),
    ],
    ids=["last row", "other order", "inside", "same", "first of two"],
)
def test_shared_rows(problems: list[tuple[int, int, int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: repeat the rows"):
        ProblemTable(problems)


def test_empty_stretches_share_nothing() -> None:
    table = ProblemTable([(0, 4, 0, 4), (2, 0, 3, 0), (2, 0, 2, 0)])
    assert (table.query_rows, table.key_rows) == (4, 4)


@pytest.mark.parametrize(("queries", "keys"), [([1, 2], [1]), ([], [1])])
def test_numbers_of_problems_differ(queries: list[int], keys: list[int]) -> None:
    message = f"queries and keys must have one length per problem, got {len(queries)} and {len(keys)}"
    with pytest.raises(ValueError, match=message):
        ProblemTable.from_lengths(queries, keys)


@pytest.mark.parametrize("problem", [(0, 1, 0), (0, 1, 0, 1, 2), ()])
def test_wrong_number_of_numbers(problem: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"problems\[0\] is \[.*\], expected first query row, queries, first key row and keys"
    ):
        ProblemTable([problem])
