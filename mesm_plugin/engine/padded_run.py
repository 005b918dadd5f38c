# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which runs may be trained and tested on batches that are padded to a few lengths."""

from typing import Any

from mmengine.runner import IterBasedTrainLoop
from torch import nn


def check_padded_run(hook: str, model: nn.Module, train_loop: Any = None) -> None:
    """Checks that batches which a hook has padded reach the model, and leave its predictions as they are.

    Args:
        hook: Its name, for the error.
        model: That is trained or tested.
        train_loop: The loop that trains it, None in validation and testing.

    Raises:
        ValueError: The loop took its batches before the hook, or a part of the model counts padding.
    """
    if isinstance(train_loop, IterBasedTrainLoop):
        raise ValueError(
            f"{hook} needs training by epochs: IterBasedTrainLoop takes the loader's batches before a hook can pad "
            "them. Set train_cfg.by_epoch=True and max_epochs, or leave the hook out of the config"
        )
    counting = [name or "model" for name, module in model.named_modules() if getattr(module, "count_padding", False)]
    if counting:
        raise ValueError(
            f"{hook} pads batches, which changes the numbers of {', '.join(counting)} with count_padding=True. Set it "
            "to False, or leave the hook out of the config"
        )
