# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The array types of the scoring functions."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
