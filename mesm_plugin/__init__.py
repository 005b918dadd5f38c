# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""MESM's modal-enhanced aligner for DETR-style video grounders, as an MMEngine plugin.

Importing this package registers its components in MMEngine's registries and does nothing else.
"""

from importlib.util import find_spec
from pathlib import Path

# A wheel holds registry/, kernels/ and configs/ inside this folder; in a checkout they lie beside it.
if not Path(__file__).with_name("registry").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

from mesm_plugin.version import __version__

# mesm_plugin.kernels is also of use where only PyTorch is installed.
if find_spec("mmengine") is not None:
    from mesm_plugin import datasets, evaluation, losses, models

__all__ = ["__version__", "datasets", "evaluation", "losses", "models"]
