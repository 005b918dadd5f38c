# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.utils.device import checked_device


def test_devices_by_name() -> None:
    assert checked_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:999"):
        with pytest.raises(ValueError, match=f"device '{name}' cannot be used: "):
            checked_device(name)
