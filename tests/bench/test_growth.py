# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import pytest

from bench import growth
from bench.growth import Point, draw, exponent, workload_of


def test_exponent_is_that_of_the_last_doubling() -> None:
    points = [Point("clips", size, "inference", 0.5 * size**2, 3 * size) for size in (8, 16, 32)]
    assert exponent(points, "seconds") == pytest.approx(2)
    assert exponent(points, "peak_bytes") == pytest.approx(1)


@pytest.mark.parametrize(
    ("axis", "video", "words"),
    [
        ("queries per video", (4, 64), (8, 12)),
        ("clips", (4, 2), (16, 12)),
        ("words", (4, 64), (16, 2)),
        ("videos", (2, 64), (8, 12)),
    ],
)
def test_one_size_changes(axis: str, video: tuple[int, int], words: tuple[int, int]) -> None:
    inputs = workload_of(axis, 2).batch(training=False)["inputs"]
    assert inputs["video"].shape[:2] == video
    assert inputs["words"].shape[:2] == words


def test_writes_numbers_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"video_dims": 18, "dims": 32, "heads": 4, "ffn_dims": 48}
    base = dataclasses.replace(growth.BASE, videos=2, queries=2, clips=(8, 8), video_dims=18, changes=small)
    monkeypatch.setattr(growth, "BASE", base)
    monkeypatch.setattr(growth, "SIZES", {"clips": (16, 32), "N of the contrastive loss": (256, 512)})
    assert growth.main(["--out", str(tmp_path), "--repeat", "1"]) == 0
    content = json.loads((tmp_path / "growth.json").read_text())
    assert [(row["axis"], row["what"]) for row in content["exponents"]] == [
        ("clips", "training step"),
        ("clips", "inference"),
        ("N of the contrastive loss", "contrastive loss"),
    ]
    assert len(content["points"]) == 6
    assert all(point["seconds"] > 0 for point in content["points"])
    # N x N numbers beside N x D ones.
    assert 1 < content["exponents"][2]["peak_bytes"] < 2.1
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_time_and_memory_stand_one_above_the_other() -> None:
    points = [Point("clips", size, "inference", 0.5 * size**2, size << 20) for size in (8, 16)]
    figure = draw(points)
    lines = [axes.get_lines()[0] for axes in figure.axes]
    assert [list(line.get_ydata()) for line in lines] == [[32.0, 128.0], [8.0, 16.0]]
    assert [line.get_label() for line in lines] == ["inference, exponent 2.00", "inference, exponent 1.00"]
