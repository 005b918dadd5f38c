# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A training step that is replayed from CUDA graphs; written without a GPU, and never run on one."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper, StepRecord

Key = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


@dataclass
class StepResult:
    """What a step leaves on the device.

    Attributes:
        losses: () each, as `BaseModel.parse_losses` names them.
        record: As `GuardedOptimWrapper` leaves it.
    """

    losses: dict[str, Tensor]
    record: StepRecord


@dataclass
class CapturedStep:
    """A step of one shape of batch.

    Attributes:
        graph: What is replayed.
        inputs: Where the graph reads the batch.
        result: Where it leaves what it computes.
    """

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    result: StepResult


class GraphedStep:
    """The `train_step` of a model, whose kernels are launched all at once from a CUDA graph where the shape is known.

    Forward, losses, backward, clipping and the optimiser are captured together. There is a graph for each shape that
    comes up often enough; the first steps of a shape run as usual, on a side stream, and are the warm-up that capturing
    needs. Graphs share one pool of memory, since only one runs at a time. Learning rates are read from the optimiser
    before each step, and PyTorch's generator of the device goes on drawing from where it is. The optimiser wrapper's
    `record` is that of the step, as after a step that is not replayed; the host waits for nothing.

    Never run on a GPU: the tests replay recorded operations on a CPU instead.

    Args:
        model: Called with `mode="loss"`; its data preprocessor moves a batch to the device.
        max_graphs: So many shapes are kept, those used last.
        warmup: Steps of a shape before it is captured, at least 1.
    """

    def __init__(self, model: BaseModel, max_graphs: int, warmup: int) -> None:
        self._model = model
        self._max_graphs = max_graphs
        self._warmup = warmup
        self._steps: OrderedDict[Key, CapturedStep] = OrderedDict()
        self._seen: Counter[Key] = Counter()
        self._buffers: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}
        self._rates: list[Tensor] = []
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, data: dict, optim_wrapper: GuardedOptimWrapper) -> dict[str, Tensor]:
        """Takes a step on a batch as the data loader gives it; returns the losses by name."""
        inputs: dict[str, Tensor] = self._model.data_preprocessor(data, True)["inputs"]
        key = shape_key(inputs)
        self._seen[key] += 1
        if self._seen[key] <= self._warmup:
            result = self._run_aside(inputs, optim_wrapper)
        else:
            if key not in self._steps:
                if len(self._steps) == self._max_graphs:
                    self._steps.popitem(last=False)
                self._steps[key] = self._capture(inputs, optim_wrapper)
            self._steps.move_to_end(key)
            result = self._replay(self._steps[key], inputs, optim_wrapper)
        # The next replay writes to the same memory.
        optim_wrapper.record = result.record.clone()
        return {name: x.clone() for name, x in result.losses.items()}

    def _run_aside(self, inputs: Mapping[str, Tensor], optim_wrapper: GuardedOptimWrapper) -> StepResult:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = step_on_device(self._model, inputs, optim_wrapper)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _replay(
        self, step: CapturedStep, inputs: Mapping[str, Tensor], optim_wrapper: GuardedOptimWrapper
    ) -> StepResult:
        for name, x in inputs.items():
            step.inputs[name].copy_(x, non_blocking=True)
        for rate, group in zip(self._rates, optim_wrapper.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        step.graph.replay()
        return step.result

    def _capture(self, inputs: Mapping[str, Tensor], optim_wrapper: GuardedOptimWrapper) -> CapturedStep:
        static = {}
        for name, x in inputs.items():
            # Graphs of as many clips read the features from the same memory, whatever the number of queries.
            static[name] = self._buffers.setdefault((name, tuple(x.shape), x.dtype), torch.empty_like(x)).copy_(x)
        optimizer = optim_wrapper.optimizer
        if not self._rates:
            self._rates = [torch.zeros((), device=inputs["video"].device) for _ in optimizer.param_groups]
        # The graph is to have gradients of its own.
        optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # Loaders' threads pin memory meanwhile, which other modes forbid.
        with (
            _rates_in(optimizer, self._rates),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            result = step_on_device(self._model, static, optim_wrapper)
        return CapturedStep(graph, static, result)


def step_on_device(model: BaseModel, inputs: Mapping[str, Tensor], optim_wrapper: GuardedOptimWrapper) -> StepResult:
    """The step of `BaseModel.train_step`, which reads no number on the host where the model is on a device."""
    with optim_wrapper.optim_context(model):
        losses = model(inputs, mode="loss")
    loss, named = model.parse_losses(losses)
    optim_wrapper.update_params(loss)
    if optim_wrapper.record is None:
        raise RuntimeError(f"a step on {loss.device.type!r} left no record on the device, expected a model on a GPU")
    return StepResult({name: x.detach() for name, x in named.items()}, optim_wrapper.record)


def shape_key(inputs: Mapping[str, Tensor]) -> Key:
    """Names, shapes and dtypes of the inputs, by which graphs are told apart."""
    return tuple((name, tuple(x.shape), x.dtype) for name, x in sorted(inputs.items()))


@contextmanager
def _rates_in(optimizer: torch.optim.Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Makes the optimiser read its learning rates from tensors, as a number would become a constant of the graph."""
    numbers = [group["lr"] for group in optimizer.param_groups]
    for group, rate, number in zip(optimizer.param_groups, rates, numbers, strict=True):
        group["lr"] = rate.fill_(number)
    try:
        yield
    finally:
        for group, number in zip(optimizer.param_groups, numbers, strict=True):
            group["lr"] = number
