# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
import subprocess
from pathlib import Path

import pytest

from bench import compare

RESULT = {"train_step_s": 2.0, "inference_s": 0.5, "peak_rss_mb": 100.0}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with two commits, whose package tells its version, and a file that is not committed."""
    root = tmp_path / "checkout"
    for name in ("mesm_plugin", *compare.MAPPED):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").write_text("")

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)

    git("init", "-q")
    for version in ("1", "2"):
        (root / "mesm_plugin" / "version.py").write_text(version)
        git("add", "-A")
        git("commit", "-qm", version)
    (root / "mesm_plugin" / "version.py").write_text("3")
    (root / "kernels" / "new.py").write_text("")
    return root


@pytest.mark.parametrize(("revision", "version"), [("HEAD~1", "1"), ("HEAD", "2"), (".", "3")])
def test_the_package_as_it_is_installed(checkout: Path, tmp_path: Path, revision: str, version: str) -> None:
    compare.copy_revision(revision, tmp_path / "copy", checkout)
    assert (tmp_path / "copy" / "mesm_plugin" / "version.py").read_text() == version
    assert (tmp_path / "copy" / "mesm_plugin" / "kernels" / "new.py").exists() == (revision == ".")
    assert (tmp_path / "copy" / "bench" / "end_to_end.py").is_file()


def test_unknown_revision(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="git archive nowhere: .*nowhere"):
        compare.copy_revision("nowhere", tmp_path / "copy", checkout)


def test_ratios_of_medians_and_of_rounds() -> None:
    head = [RESULT | {"train_step_s": seconds} for seconds in (1.0, 1.0, 4.0)]
    row = compare.ratios([RESULT, RESULT, RESULT], head)["train_step_s"]
    assert row == {"base": 2.0, "head": 1.0, "ratio": 2.0, "lowest": 0.5, "highest": 2.0}


def test_rounds_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def measure(folder: Path, workload: str, repeat: int) -> dict[str, float]:
        order.append(folder.name)
        return RESULT if folder.name == "base" else RESULT | {"inference_s": 0.25}

    monkeypatch.setattr(compare, "copy_revision", lambda revision, folder: None)
    monkeypatch.setattr(compare, "measure", measure)
    assert compare.main(["main", "--rounds", "3", "--json", str(tmp_path / "out.json")]) == 0
    assert order == ["base", "head", "head", "base", "base", "head"]
    assert json.loads((tmp_path / "out.json").read_text())["charades-clip-slowfast"]["inference_s"]["ratio"] == 2
    assert "inference, s               0.500       0.250   2.00 (2.00 to 2.00)" in capsys.readouterr().out


def test_failure_is_told(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "end_to_end.py").write_text("raise SystemExit('no such workload')")
    with pytest.raises(RuntimeError, match="no such workload"):
        compare.measure(tmp_path, "x", 1)
