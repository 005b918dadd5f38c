# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Optimisation in mixed precision, without steps from gradients that are not finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_distributed
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mesm_plugin.registry import OPTIM_WRAPPERS

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class StepRecord:
    """What a step on a device leaves there, to be read later.

    Attributes:
        finite: () bool, whether loss and gradients were; if not, the step was left out.
        norm: () norm of the gradients before clipping.
        sound: (parameters,) bool, whether the gradient of each was finite.
        parameters: Those that have gradients.
    """

    finite: Tensor
    norm: Tensor
    sound: Tensor
    parameters: list[nn.Parameter]

    def broken(self) -> set[int]:
        """The parameters whose gradients were not finite, by id; this waits for the device."""
        return {id(p) for p, is_sound in zip(self.parameters, self.sound.tolist(), strict=True) if not is_sound}

    def clone(self) -> "StepRecord":
        """A record that stays as it is when the step's memory is written again."""
        return StepRecord(self.finite.clone(), self.norm.clone(), self.sound.clone(), self.parameters)


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """MMEngine's optimiser wrapper with autocast on CPUs, too, which leaves out steps that would ruin the weights.

    A step is left out if the loss or a gradient is NaN or infinite in any process; `NonFiniteHook` tells of it, and
    ends training when that goes on. On a device that is decided there, and the host does not wait: a fused optimiser
    leaves the step out by itself (Adam and AdamW are made fused), for others what they changed is put back.
    The step count of an optimiser that keeps it on the host counts such steps, too.

    Args:
        dtype: None for float32; "bfloat16" for autocast on a CPU or a GPU; "float16" for autocast with a scaled loss on
            a GPU.
        kwargs: See `mmengine.optim.OptimWrapper`.

    Attributes:
        finite: Whether loss and gradients of the last step were finite; only where `record` is None.
        broken: The parameters whose gradients were not, by id; only where `record` is None.
        record: What the last step left on the device; None after a step on the CPU.

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
        self.record: StepRecord | None = None
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
        if self._loss.is_cuda or self._loss.is_cpu:
            fuse(self.optimizer)
        self.scaler.unscale_(self.optimizer)
        self._clip_grad()
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer, **kwargs)
        elif self.record is not None:
            step_where(self.record.finite, self.optimizer, **kwargs)
        elif self.finite:
            self.optimizer.step(**kwargs)
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
        gradients = [p.grad for p in parameters if p.grad is not None]
        on_host = self._loss.is_cpu
        # Clipping by a norm that is not finite breaks all of them.
        # The largest value would do, but a process may have an empty share of a parameter, which has none.
        sound = None if on_host else _whole(torch.stack(torch._foreach_norm(gradients, 1)).isfinite())
        clips_norm = bool(self.clip_grad_kwargs) and self.clip_func is nn.utils.clip_grad_norm_
        if clips_norm:
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        else:
            norm = nn.utils.get_total_norm(gradients)
        norm = _whole(norm)
        finite = norm.isfinite() & self._loss.isfinite()
        if is_distributed():
            lowest = finite.float()
            all_reduce(lowest, "min")
            finite = lowest.bool()
        if sound is None:
            self._read(finite, norm, parameters)
        else:
            self.record = StepRecord(finite, norm, sound, parameters)
        if self.clip_grad_kwargs and not clips_norm:
            self.clip_func(parameters, **self.clip_grad_kwargs)

    def _read(self, finite: Tensor, norm: Tensor, parameters: list[nn.Parameter]) -> None:
        self.record = None
        self.finite = bool(finite)
        self.broken = set()
        if self.finite:
            self.message_hub.update_scalar("train/grad_norm", float(norm))
        else:
            self.broken = {id(p) for p in parameters if p.grad is not None and not p.grad.isfinite().all()}


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Makes an Adam or AdamW that has taken no step yet fused, unless its config says how it is to be run."""
    if not isinstance(optimizer, torch.optim.Adam) or optimizer.state:
        return
    for group in optimizer.param_groups:
        if group["fused"] is not None or group["foreach"] is not None or group["differentiable"]:
            return
    for group in optimizer.param_groups:
        group["fused"] = True
    # What a GradScaler looks for.
    optimizer._step_supports_amp_scaling = True


def step_where(finite: Tensor, optimizer: Any, **kwargs: Any) -> None:
    """Takes a step of the optimiser where `finite`, () bool, says so, without reading it on the host.

    Args:
        finite: () bool on the device.
        optimizer: A `torch.optim.Optimizer`.
        kwargs: For its `step`.
    """
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = (~finite).float()
        optimizer.step(**kwargs)
        del optimizer.found_inf
        return
    kept = {id(x): (x, x.detach().clone()) for x in _changed_by(optimizer)}
    optimizer.step(**kwargs)
    with torch.no_grad():
        for x in _changed_by(optimizer):
            # State that this step began starts from zeros.
            before = kept[id(x)][1] if id(x) in kept else torch.zeros_like(x)
            x.copy_(torch.where(finite, x, before))


def _changed_by(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters and state of the optimiser on the device."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    states = [x for p in parameters for x in optimizer.state.get(p, {}).values() if isinstance(x, Tensor)]
    return parameters + [x for x in states if x.device == parameters[0].device]
