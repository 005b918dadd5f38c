# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from mesm_plugin.kernels.tiles import CONTRASTIVE_LOSS, CROSS_ATTENTION, Rule, Tile, find_tile

SMALL, MIDDLE, LARGE = Tile(16, 0, 2, 1), Tile(32, 0, 4, 2), Tile(64, 0, 8, 3)
RULES = (
    Rule(SMALL, kernel=("backward",), architecture=("sm_86", "sm_89")),
    Rule(MIDDLE, precision=("fp32",), head_size=(64,)),
    Rule(LARGE),
)


@pytest.mark.parametrize(
    ("case", "tile"),
    [
        ({"kernel": "backward", "architecture": "sm_89", "precision": "fp32", "head_size": 64}, SMALL),
        ({"kernel": "backward", "architecture": "sm_90", "precision": "fp32", "head_size": 64}, MIDDLE),
        ({"kernel": "forward", "architecture": "sm_86", "precision": "fp32", "head_size": 32}, LARGE),
        ({"kernel": "forward", "architecture": "sm_999", "precision": "fp16", "head_size": 16}, LARGE),
    ],
)
def test_first_rule_that_fits(case: dict[str, str | int], tile: Tile) -> None:
    assert find_tile(RULES, **case) == tile


def test_no_rule_fits() -> None:
    with pytest.raises(LookupError, match="no tile for {'kernel': 'forward', 'precision': 'fp16'}"):
        find_tile(RULES[:1], kernel="forward", precision="fp16")


@pytest.mark.parametrize("rules", [CROSS_ATTENTION, CONTRASTIVE_LOSS], ids=["attention", "loss"])
def test_every_table_ends_with_a_rule_for_everything_else(rules: tuple[Rule, ...]) -> None:
    assert rules[-1] == Rule(rules[-1].tile)


@pytest.mark.parametrize("rules", [CROSS_ATTENTION, CONTRASTIVE_LOSS], ids=["attention", "loss"])
def test_sizes_are_powers_of_two(rules: tuple[Rule, ...]) -> None:
    for tile in (rule.tile for rule in rules):
        for size in (tile.rows, tile.columns, tile.channels, tile.part, tile.warps):
            assert size & (size - 1) == 0, tile
        assert tile.rows >= 16, tile
        assert tile.stages >= 1, tile
