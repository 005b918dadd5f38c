# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Replays training steps from CUDA graphs; written without a GPU, and never run on one."""

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.optim import Optimizer

from mesm_plugin.engine.graphed_step import GraphedStep
from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper
from mesm_plugin.engine.padded_run import check_padded_run
from mesm_plugin.registry import FUNCTIONS, HOOKS


@HOOKS.register_module()
class CudaGraphHook(Hook):
    """Captures the whole training step in CUDA graphs (`GraphedStep`), one for each shape of batch.

    Batches are padded to a few lengths chosen from the data set's (`BucketedCollate`); a shape is then a bucket and a
    number of queries. `--cfg-options default_hooks.cuda_graph.type=CudaGraphHook` switches it on. Training only.

    This hook has never run on a GPU. What it refuses it names: runs without a GPU or of several processes, float16,
    accumulated gradients, other optimiser wrappers than `GuardedOptimWrapper`, and optimisers that cannot be captured.

    Args:
        clip_buckets: Most different numbers of clips.
        word_buckets: Most different numbers of words.
        max_graphs: So many shapes have a graph at a time, those used last.
        warmup: Steps of a shape before it is captured.

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(self, clip_buckets: int = 2, word_buckets: int = 1, max_graphs: int = 64, warmup: int = 1) -> None:
        numbers = {
            "clip_buckets": clip_buckets,
            "word_buckets": word_buckets,
            "max_graphs": max_graphs,
            "warmup": warmup,
        }
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name} of CudaGraphHook is {number}, expected at least 1")
        self.clip_buckets = clip_buckets
        self.word_buckets = word_buckets
        self.max_graphs = max_graphs
        self.warmup = warmup

    def before_train(self, runner: Runner) -> None:
        """Prepares the training loader, the optimiser and `model.train_step`.

        Raises:
            ValueError: The run is one of those that are refused.
        """
        model: Any = runner.model
        if is_model_wrapper(model):
            raise ValueError(
                f"CudaGraphHook takes one process, and a model that is not wrapped for several, got "
                f"{type(model).__name__}: start without --nproc and --launcher, or leave the hook out of the config"
            )
        check_capturable(runner.optim_wrapper, next(model.parameters()).device)
        check_padded_run("CudaGraphHook", model, runner.train_loop)
        make_capturable(runner.optim_wrapper.optimizer)
        FUNCTIONS.get("BucketedCollate").install(runner.train_dataloader, self.clip_buckets, self.word_buckets)
        if not isinstance(model.train_step, GraphedStep):
            model.train_step = GraphedStep(model, self.max_graphs, self.warmup)
        runner.logger.warning("Training steps are replayed from CUDA graphs, which was never tried on a GPU.")


def check_capturable(optim_wrapper: OptimWrapper, device: torch.device) -> None:
    """Raises a ValueError that names what keeps a run from being captured."""
    optimizer = optim_wrapper.optimizer
    reason = None
    if device.type != "cuda":
        reason = f"a model on a GPU, but it is on {device.type!r}"
    elif get_world_size() > 1:
        reason = f"one process, got {get_world_size()}: joining their losses is not captured"
    elif not isinstance(optim_wrapper, GuardedOptimWrapper):
        reason = f"optim_wrapper.type='GuardedOptimWrapper', got {type(optim_wrapper).__name__!r}"
    elif optim_wrapper.scaler.is_enabled():
        reason = "float32 or bfloat16, but optim_wrapper.dtype is 'float16', whose loss is scaled on the host"
    elif optim_wrapper._accumulative_counts != 1:
        reason = f"optim_wrapper.accumulative_counts of 1, got {optim_wrapper._accumulative_counts}"
    elif not all({"capturable", "fused"} <= group.keys() for group in optimizer.param_groups):
        reason = (
            f"an optimiser with the options 'capturable' and 'fused', such as AdamW, got {type(optimizer).__name__}"
        )
    if reason is not None:
        raise ValueError(f"CudaGraphHook needs {reason}. Change that, or leave the hook out of the config")


def make_capturable(optimizer: Optimizer) -> None:
    """Lets the optimiser be captured: it counts and leaves out steps on the device, also those of a resumed run."""
    for group in optimizer.param_groups:
        group.update(capturable=True, fused=True, foreach=False)
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if "step" in state:
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=parameter.device)
