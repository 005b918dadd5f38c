# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Devices to compute on, by name."""

import torch


def checked_device(name: str) -> torch.device:
    """The device of a name such as "cpu" or "cuda:1".

    Raises:
        ValueError: There is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
