# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Imports point downward only (docs/design.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What modules of a folder may import of the project, besides the folder itself.
ALLOWED = {
    "registry": set(),
    "kernels": set(),
    "mesm_plugin/utils": set(),
    "mesm_plugin/structures": set(),
    "mesm_plugin/losses": {"registry", "kernels", "structures"},
    "mesm_plugin/datasets": {"registry", "structures", "utils"},
    "mesm_plugin/evaluation": {"registry", "structures", "utils"},
    "mesm_plugin/models": {"registry", "kernels", "structures"},
    "mesm_plugin/converters": {"registry", "engine", "utils"},
    "mesm_plugin/visualization": {"structures", "utils"},
    "mesm_plugin/engine": {"registry", "structures", "visualization", "evaluation", "utils"},
    "mesm_plugin/matrix": {"kernels", "registry", "models", "engine", "utils"},
    "mesm_plugin/reproduction": {"registry", "engine", "evaluation", "utils"},
    "mesm_plugin/apis": {"registry", "structures", "datasets", "evaluation", "engine", "visualization", "utils"},
    "mesm_plugin/browsing": {"registry", "datasets"},
    "mesm_plugin/checking": {"registry", "datasets", "engine", "utils"},
    "mesm_plugin/analysis": {"structures", "datasets", "models", "apis"},
}


def imports_of(file: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_downward(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    own = folder.split("/")[-1]
    for file in files:
        imported = {name.split(".")[1] for name in imports_of(file) if name.startswith("mesm_plugin.")}
        assert imported <= ALLOWED[folder] | {own}, f"{file.relative_to(ROOT)} imports {imported - ALLOWED[folder]}"


def test_kernels_need_torch_only() -> None:
    for file in (ROOT / "kernels").rglob("*.py"):
        packages = {name.split(".")[0] for name in imports_of(file)}
        assert packages <= {"torch", "triton", "mesm_plugin"} | set(sys.stdlib_module_names), file.name


def test_kernels_import_without_mmengine_and_do_not_import_triton() -> None:
    code = """
import sys

class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("mmengine", "scipy", "h5py", "matplotlib"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
import importlib.util
importlib.util.find_spec = lambda name, _find=importlib.util.find_spec: None if name == "mmengine" else _find(name)
import mesm_plugin.kernels, torch
query, mask = torch.ones(1, 2, 1, 16), torch.ones(1, 2, dtype=torch.bool)
print(mesm_plugin.kernels.cross_attention.cross_attention(query, query, query, mask).sum().item())
assert "triton" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "32.0\n", run.stderr
