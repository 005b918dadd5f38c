# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A model's function of a batch, compiled as one graph."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from mesm_plugin.engine.inductor_sums import one_form_of_sums


class SingleGraph:
    """A function of the inputs of a batch, compiled by `torch.compile(fullgraph=True)` once for each bucket of lengths.

    The numbers of videos, queries, pairs and sources, and the clips of a source, are symbols of the graph, so that they
    may differ from batch to batch. Clips, words and moments are constants of it. A batch of a single video, query or
    source is compiled on its own, and so is one without negative pairs.

    Args:
        function: Takes `inputs` and returns tensors.
        name: Of the function, for messages.
        graphs: Most graphs that are compiled.
        backend: Of `torch.compile`.
    """

    def __init__(self, function: Callable[[Mapping[str, Tensor]], Any], name: str, graphs: int, backend: str) -> None:
        self.name = name
        self.graphs = graphs
        self.backend = backend
        self._compiled = torch.compile(function, fullgraph=True, backend=backend)

    def __call__(self, inputs: Mapping[str, Tensor]) -> Any:
        """Calls the function; compiles it first where there is no graph for the batch yet.

        Raises:
            RuntimeError: It cannot be compiled as one graph, or more graphs would be needed.
        """
        for name, x in inputs.items():
            for dim in (0, 1) if name.startswith("source_clips") else (0,):
                # PyTorch compiles for lengths of 1 on their own in any case.
                if x.shape[dim] > 1:
                    torch._dynamo.mark_dynamic(x, dim)
        try:
            with (
                torch._dynamo.config.patch(recompile_limit=self.graphs, automatic_dynamic_shapes=False),
                one_form_of_sums() if self.backend == "inductor" else nullcontext(),
            ):
                return self._compiled(inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            lengths = {name: tuple(x.shape) for name, x in inputs.items() if name in ("video", "words", "pair_video")}
            raise RuntimeError(
                f"{self.name} cannot be compiled as one graph for inputs of shapes {lengths}; leave CompileHook out of "
                f"this model's config. PyTorch says: {error}"
            ) from error
