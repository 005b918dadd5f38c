# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import importlib
import pkgutil
from types import ModuleType

import pytest

import mesm_plugin.kernels

PACKAGES = ["", ".contrastive_loss", ".cross_attention", ".cpu", ".dropout"]


@pytest.mark.parametrize("name", PACKAGES)
def test_no_public_name_hides_a_module(name: str) -> None:
    package = importlib.import_module(f"mesm_plugin.kernels{name}")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules
    assert not modules & set(package.__all__)
    for module in modules - {"triton_kernels"}:
        importlib.import_module(f"{package.__name__}.{module}")
        assert isinstance(getattr(package, module), ModuleType), module


def test_all_packages_are_looked_at() -> None:
    packages = {f".{module.name}" for module in pkgutil.iter_modules(mesm_plugin.kernels.__path__) if module.ispkg}
    assert packages | {""} == set(PACKAGES)
