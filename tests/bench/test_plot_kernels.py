# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

from bench.kernel_results import Result
from bench.plot_kernels import draw, main
from tests.bench.saved_benchmarks import ENVIRONMENT, saved_benchmarks

RESULTS = [
    Result("loss", case, "float32", backend, passes, seconds, seconds, 1000)
    for case, backend, seconds in (("N32", "reference", 0.004), ("N32", "triton", 0.001), ("N65536", "triton", 0.5))
    for passes in ("forward", "forward + backward")
]


def test_bars_are_shares_of_the_first_backend() -> None:
    figure = draw(RESULTS, "float32", ENVIRONMENT)
    assert len(figure.axes) == 3
    axes = figure.axes[0]
    heights = [bar.get_height() for container in axes.containers for bar in container]
    # Of N65536 there is no reference.
    assert heights == [1.0, 0.25, 0.0]
    assert [text.get_text() for text in axes.texts] == ["4.0", "1.0", "triton\n500"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["N32", "N65536"]
    assert "some CPU, 1 thread(s)" in figure.get_supxlabel()


def test_dtype_without_results() -> None:
    with pytest.raises(ValueError, match="there is no result in float16"):
        draw(RESULTS, "float16", ENVIRONMENT)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "results.json"
    saved.write_text(saved_benchmarks(RESULTS))
    picture = tmp_path / "pictures" / "kernels.png"
    monkeypatch.setattr(sys, "argv", ["plot_kernels", str(saved), str(picture)])
    main()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(picture.parent.iterdir()) == [picture]

    monkeypatch.setattr(sys, "argv", ["plot_kernels", str(saved), str(picture), "--dtype", "int8"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "there is no result in int8" in capsys.readouterr().err
