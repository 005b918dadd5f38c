# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Maps the top-level folders registry/, kernels/ and configs/ into the package `mesm_plugin`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
MAPPED = ("registry", "kernels", "configs")


def packages_of(folder: str) -> list[str]:
    """Every folder below `folder` that holds Python files, as a package of mesm_plugin."""
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py")} | {Path(folder)}
    return sorted("mesm_plugin." + ".".join(path.parts) for path in folders)


version_file = (ROOT / "mesm_plugin" / "version.py").read_text(encoding="utf-8")
version = re.search(r'__version__ = "(.+)"', version_file)
assert version, "mesm_plugin/version.py has no __version__"

# Not required: PyTorch's builds for GPUs bring the version that they need, that of 2.13 for CUDA needs 3.7.1.
TRITON = 'triton>=3.7.1,<3.10; platform_system == "Linux"'
CLIP = ["transformers>=4.40", "tokenizers>=0.19", "ftfy>=6"]
TEST = [TRITON, *CLIP, "setuptools>=68", "pytest>=8", "pytest-benchmark>=4", "hypothesis>=6", "ruff>=0.6", "mypy>=1.10"]

setup(
    name="mesm_plugin",
    version=version[1],
    description="MESM's modal-enhanced aligner for DETR-style video grounding, as an MMEngine plugin",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={f"mesm_plugin.{folder}": folder for folder in MAPPED},
    packages=find_packages(include=["mesm_plugin", "mesm_plugin.*"])
    + [package for folder in MAPPED for package in packages_of(folder)],
    package_data={"mesm_plugin": ["py.typed"], "mesm_plugin.kernels.cpu": ["*.cpp", "*.h"]},
    install_requires=[
        "torch>=2.6",
        "mmengine>=0.10.4",
        "numpy>=1.24",
        "scipy>=1.10",
        "h5py>=3.8",
        "matplotlib>=3.7",
        "ninja>=1.10",
        "pyyaml>=6",
        "tensorboard>=2.10",
        "rich>=12",
    ],
    extras_require={"triton": [TRITON], "clip": CLIP, "test": TEST},
    entry_points={"console_scripts": ["mesm = mesm_plugin.cli.main:main"]},
)
