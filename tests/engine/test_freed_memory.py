# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import os
import platform
import subprocess
import sys

import pytest

from mesm_plugin.engine import freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

PAGES = """
import resource, sys, torch
from mesm_plugin.engine.freed_memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for round in range(12):
    torch.ones(16 << 20)
    if round == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(choice: str, **settings: str) -> list[str]:
    env = {name: value for name, value in os.environ.items() if name not in freed_memory._SETTINGS}
    command = [sys.executable, "-c", PAGES, choice]
    return subprocess.run(command, env=env | settings, capture_output=True, text=True, check=True).stdout.split()


def test_pages_are_fetched_once():
    assert (kept := run("keep"))[0] == "True"
    given_back = run("default")
    # 64 MiB in each of eight rounds are 16384 pages of 4 KiB, or 32 huge ones.
    assert int(given_back[1]) >= 8 * 32
    # Something small may come to lie in the hole that a tensor left, so that one more block is fetched.
    assert int(kept[1]) <= int(given_back[1]) / 4


def test_settings_of_the_environment_stay():
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


def test_other_c_libraries_are_left_alone(monkeypatch):
    for name in freed_memory._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    assert freed_memory.keep_freed_memory() is False
