# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Builds and loads the C++ operator `mesm_plugin::dropout` where it is first needed."""

import functools
import hashlib
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tempfile
import threading
import warnings
from pathlib import Path

import torch
from torch import Tensor

SWITCH = "MESM_CPP_DROPOUT"
_SOURCE = Path(__file__).with_name("dropout.cpp")
_NAME = "mesm_plugin_dropout"
_LOCK = threading.Lock()


def operator_is_loaded() -> bool:
    """Whether `torch.ops.mesm_plugin.dropout` can be called.

    The first call of a process loads the operator from PyTorch's folder of extensions (`TORCH_EXTENSIONS_DIR`, by
    default `~/.cache/torch_extensions`), and builds it first if it is not there. Where that fails a warning says why,
    once. `MESM_CPP_DROPOUT=0` in the environment switches the operator off.
    """
    with _LOCK:
        return _try_to_load()


# `torch.compile` asks when it traces. This is what `torch.compiler.assume_constant_result` does, which imports Triton.
operator_is_loaded._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _try_to_load() -> bool:
    if os.environ.get(SWITCH) == "0":
        return False
    try:
        _load()
    except (ImportError, OSError, RuntimeError) as error:
        warnings.warn(
            f"mesm_plugin's C++ dropout is not available, so dropout on the CPU is PyTorch's. "
            f"{error}\n{SWITCH}=0 in the environment switches the C++ dropout off, and this warning too.",
            stacklevel=4,
        )
        return False
    torch.library.register_fake("mesm_plugin::dropout", _fake)
    return True


def _fake(x: Tensor, seed: Tensor, p: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _flags() -> list[str]:
    flags = ["-O3"]
    if sys.platform == "linux":
        flags.append("-fopenmp")
    # AVX-512 gains nothing: a first version took 0.75 ns an element with it and 0.72 ns with AVX2.
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        flags.append("-mavx2")
    return flags


def _load() -> None:
    # Not at the top: only training on a CPU needs it.
    from torch.utils import cpp_extension

    flags = _flags()
    # The folder may be shared between machines and environments.
    machine = [torch.__version__, sys.platform, platform.machine(), *flags]
    version = hashlib.sha256(_SOURCE.read_bytes() + " ".join(machine).encode()).hexdigest()[:16]
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
    library = Path(root, _NAME, version, f"{_NAME}.so")
    if library.is_file():
        torch.ops.load_library(library)
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    # PyTorch's own lock file outlives a process that is killed, and later ones wait for it for ever. Here each process
    # builds in a folder of its own, and a finished library is moved to its place in one step.
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        _build(folder, flags)
        os.replace(Path(folder, library.name), library)


def _build(folder: str, flags: list[str]) -> None:
    from torch.utils import cpp_extension

    compiler = cpp_extension.get_cxx_compiler()
    if shutil.which(shlex.split(compiler)[0]) is None:
        raise OSError(f"It needs a C++ compiler, but {compiler!r} was not found: install g++, or name one in CXX.")
    path = os.environ.get("PATH", "")
    # pip puts ninja beside this Python, which is not on PATH where the environment is not activated.
    os.environ["PATH"] = path + os.pathsep + sysconfig.get_path("scripts")
    try:
        cpp_extension.load(_NAME, [str(_SOURCE)], extra_cflags=flags, build_directory=folder, is_python_module=False)
    finally:
        os.environ["PATH"] = path
