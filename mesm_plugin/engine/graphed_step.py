# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A training step that is replayed from CUDA graphs; written without a GPU, and never run on one."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

Key = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
Step = Callable[[dict[str, Any], OptimWrapper], dict[str, Tensor]]


@dataclass
class CapturedStep:
    """A step of one shape of batch.

    Attributes:
        graph: What is replayed.
        inputs: Where the graph reads the batch.
        outputs: Where it leaves the losses.
    """

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class GraphedStep:
    """The `train_step` of a model, whose kernels are launched all at once from a CUDA graph where the shape is known.

    Forward, losses, backward, clipping and the optimiser are captured together. There is a graph for each shape that
    comes up often enough; the first steps of a shape run as usual, on a side stream, and are the warm-up that capturing
    needs. Graphs share one pool of memory, since only one runs at a time. Learning rates are read from the
    optimiser before each step, and PyTorch's generator of the device goes on drawing from where it is.

    Never run on a GPU: the tests replay recorded operations on a CPU instead.

    Args:
        train_step: `BaseModel.train_step`.
        preprocess: Moves a batch to the device.
        max_graphs: So many shapes are kept, those used last.
        warmup: Steps of a shape before it is captured, at least 1.
    """

    def __init__(
        self,
        train_step: Step,
        preprocess: Callable[[dict[str, Any], bool], dict[str, Any]],
        max_graphs: int,
        warmup: int,
    ) -> None:
        self._train_step = train_step
        self._preprocess = preprocess
        self._max_graphs = max_graphs
        self._warmup = warmup
        self._steps: OrderedDict[Key, CapturedStep] = OrderedDict()
        self._seen: Counter[Key] = Counter()
        self._rates: list[Tensor] = []
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Takes a step on a batch as the data loader gives it; returns the losses by name."""
        inputs: dict[str, Tensor] = self._preprocess(data, True)["inputs"]
        key = shape_key(inputs)
        self._seen[key] += 1
        if self._seen[key] <= self._warmup:
            return self._run_aside({"inputs": inputs}, optim_wrapper)
        if key not in self._steps:
            if len(self._steps) == self._max_graphs:
                self._steps.popitem(last=False)
            self._steps[key] = self._capture(inputs, optim_wrapper)
        self._steps.move_to_end(key)
        step = self._steps[key]
        for name, x in inputs.items():
            step.inputs[name].copy_(x, non_blocking=True)
        for rate, group in zip(self._rates, optim_wrapper.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        step.graph.replay()
        # The next replay writes to the same memory.
        return {name: x.clone() for name, x in step.outputs.items()}

    def _run_aside(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._train_step(data, optim_wrapper)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _capture(self, inputs: Mapping[str, Tensor], optim_wrapper: OptimWrapper) -> CapturedStep:
        static = {name: x.clone() for name, x in inputs.items()}
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
            outputs = self._train_step({"inputs": static}, optim_wrapper)
        return CapturedStep(graph, static, outputs)


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
