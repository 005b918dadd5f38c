# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A stand-in for CUDA graphs on a CPU: records operations, and runs them again on the same memory."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class RecordedGraph:
    """What `torch.cuda.CUDAGraph` is to a GPU. Recording computes nothing that counts: `replay` does.

    Python does not run again in a replay, and numbers that it gave to operations stay what they were.
    """

    def __init__(self):
        self.calls = []

    def replay(self):
        for function, args, kwargs, outputs in self.calls:
            again = tree_leaves(function(*args, **kwargs))
            for old, new in zip(outputs, again, strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Recording(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        outputs = function(*args, **kwargs)
        args, kwargs, kept = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs, outputs))
        self.graph.calls.append((function, args, kwargs, tree_leaves(kept)))
        return outputs


@contextmanager
def record(graph, state, **_):
    """Records, and then puts the tensors of `state` back, as capturing runs nothing."""
    before = [x.detach().clone() for x in state()]
    with _Recording(graph):
        yield
    with torch.no_grad():
        for x, value in zip(state(), before, strict=True):
            x.copy_(value)


def replace_cuda(monkeypatch, state):
    """Puts the stand-in where `torch.cuda` was, and a device where the CPU was; returns the graphs that were recorded.

    Args:
        monkeypatch: Of the test.
        state: Returns the tensors that a step changes.
    """
    graphs = []

    def new_graph():
        graphs.append(RecordedGraph())
        return graphs[-1]

    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", new_graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: record(graph, state, **options))
    return graphs
