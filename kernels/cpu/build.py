# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Builds and loads the C++ operators for CPU tensors where they are first needed."""

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

SWITCH = "MESM_CPP_OPERATORS"
_SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_HEADERS = sorted(Path(__file__).parent.glob("*.h"))
_NAME = "mesm_plugin_cpu"
_LOCK = threading.Lock()


def operators_are_loaded() -> bool:
    """Whether the operators of this folder, `torch.ops.mesm_plugin.dropout` and others, can be called.

    The first call of a process loads them from PyTorch's folder of extensions (`TORCH_EXTENSIONS_DIR`, by
    default `~/.cache/torch_extensions`), and builds them first if they are not there. Where that fails a warning says
    why, once. `MESM_CPP_OPERATORS=0` in the environment switches the operators off.
    """
    with _LOCK:
        return _try_to_load()


# `torch.compile` asks when it traces. This is what `torch.compiler.assume_constant_result` does, which imports Triton.
operators_are_loaded._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _try_to_load() -> bool:
    if os.environ.get(SWITCH) == "0":
        return False
    try:
        _load()
    except (ImportError, OSError, RuntimeError) as error:
        warnings.warn(
            f"mesm_plugin's C++ operators are not available, so PyTorch's do their work on the CPU, more slowly. "
            f"{error}\n{SWITCH}=0 in the environment switches the C++ operators off, and this warning too.",
            stacklevel=4,
        )
        return False
    torch.library.register_fake("mesm_plugin::dropout", _fake)
    return True


def _fake(x: Tensor, seed: Tensor | None, p: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _flags() -> list[str]:
    # Comparisons of numbers are vectorised only where they need not trap.
    flags = ["-O3", "-fno-trapping-math", "-fno-math-errno"]
    if sys.platform == "linux":
        flags.append("-fopenmp")
    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ("AVX2", "AVX512"):
        flags += ["-mavx2", "-mfma"]
    if capability == "AVX512":
        # For the products of attention; compilers are left to choose the width of other loops.
        flags += ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    return flags


def _load() -> None:
    # Not at the top: only CPUs need it.
    from torch.utils import cpp_extension

    flags = _flags()
    # The folder may be shared between machines and environments.
    machine = [torch.__version__, sys.platform, platform.machine(), *flags]
    code = b"".join(file.read_bytes() for file in (*_SOURCES, *_HEADERS))
    version = hashlib.sha256(code + " ".join(machine).encode()).hexdigest()[:16]
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
        cpp_extension.load(
            _NAME, list(map(str, _SOURCES)), extra_cflags=flags, build_directory=folder, is_python_module=False
        )
    finally:
        os.environ["PATH"] = path
