# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What measurements depend on."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch


def _revision() -> str:
    """The commit of the source tree, marked where files differ from it."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def environment() -> dict[str, str | int]:
    """Versions, devices and the revision of the source, by name."""
    facts: dict[str, str | int] = {
        "revision": _revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cpu": _processor(),
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "device": properties.name,
            "device_memory_mb": properties.total_memory // 2**20,
            "device_multiprocessors": properties.multi_processor_count,
            "architecture": gpu_architecture(),
            "runtime": f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}",
            "driver": _driver(),
        }
    return facts


def gpu_architecture() -> str:
    """The first GPU's architecture, as `bench.aot_report` names it."""
    from mesm_plugin.kernels.specialisation import architecture_of

    return architecture_of(torch.device("cuda", 0))


def _driver() -> str:
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.splitlines()[0].strip()
