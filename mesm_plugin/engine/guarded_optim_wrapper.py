# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Optimisation in mixed precision, without steps from gradients that are not finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_distributed
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mesm_plugin.registry import OPTIM_WRAPPERS

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """MMEngine's optimiser wrapper with autocast on CPUs, too, which leaves out steps that would ruin the weights.

    A step is left out if the loss or a gradient is NaN or infinite in any process; `NonFiniteHook` tells of it, and
    ends training when that goes on.

    Args:
        dtype: None for float32; "bfloat16" for autocast on a CPU or a GPU; "float16" for autocast with a scaled loss on
            a GPU.
        kwargs: See `mmengine.optim.OptimWrapper`.

    Attributes:
        finite: Whether loss and gradients of the last step were finite.
        broken: The parameters whose gradients were not, by id.

    Raises:
        ValueError: `dtype` is another one, or "float16" where there is no GPU.
    """

    def __init__(self, dtype: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device = "cuda" if get_device() == "cuda" else "cpu"
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"optim_wrapper.dtype is {dtype!r}, expected None, 'bfloat16' or 'float16'")
        if dtype == "float16" and self.device == "cpu":
            raise ValueError("optim_wrapper.dtype is 'float16', which needs a GPU; use 'bfloat16' on a CPU")
        self.dtype = None if dtype is None else DTYPES[dtype]
        self.scaler = torch.amp.GradScaler(self.device, enabled=dtype == "float16")
        self.finite = True
        self.broken: set[int] = set()
        self._loss = torch.zeros(())

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The forward pass, under autocast if there is a `dtype`."""
        with super().optim_context(model), torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Computes the gradients of the scaled loss."""
        self._loss = loss.detach()
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clips the gradients, and takes the step if all of them are finite."""
        self.scaler.unscale_(self.optimizer)
        self._clip_grad()
        if self.finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimiser, and that of the scaler if there is one."""
        state = super().state_dict()
        return {**state, "loss_scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        state = dict(state_dict)
        scaler = state.pop("loss_scaler", None)
        if scaler is not None and self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state)

    def _clip_grad(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        clips_norm = bool(self.clip_grad_kwargs) and self.clip_func is nn.utils.clip_grad_norm_
        if clips_norm:
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = norm.isfinite() & self._loss.isfinite()
        if is_distributed():
            finite = finite.float()
            all_reduce(finite, "min")
        self.finite = bool(finite)
        self.broken = set()
        if self.finite:
            self.message_hub.update_scalar("train/grad_norm", float(norm))
        else:
            self.broken = {id(p) for p in parameters if p.grad is not None and not p.grad.isfinite().all()}
        if self.clip_grad_kwargs and not clips_norm:
            self.clip_func(parameters, **self.clip_grad_kwargs)
