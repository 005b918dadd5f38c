# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a wheel holds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as setup.py lays it out, built from a copy of the sources."""
    pytest.importorskip("setuptools", reason="setuptools is not installed, so nothing can be built without a download")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("mesm_plugin", "registry", "kernels", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", "out"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "out"


@pytest.mark.parametrize(
    ("folder", "target"),
    [("mesm_plugin", "."), ("registry", "registry"), ("kernels", "kernels"), ("configs", "configs")],
)
def test_wheel_holds_every_source_file(built: Path, folder: str, target: str) -> None:
    files = (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".cpp"))
    sources = {path.relative_to(ROOT / folder) for path in files}
    assert sources
    missing = {path for path in sources if not (built / "mesm_plugin" / target / path).is_file()}
    assert not missing
    assert (built / "mesm_plugin" / "py.typed").is_file()


def test_wheel_works_without_the_checkout(built: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mesm_plugin, mesm_plugin.kernels, mesm_plugin.registry\n"
        "from mesm_plugin.registry import MODELS\n"
        "print(type(MODELS.build(dict(type='MESMAligner'))).__name__, mesm_plugin.kernels.__file__)"
    )
    command = [sys.executable, "-c", script, str(built)]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert out[0] == "MESMAligner"
    assert Path(out[1]).is_relative_to(built)
