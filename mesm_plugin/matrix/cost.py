# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Parameters and floating-point operations of a model."""

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from mesm_plugin.kernels.cpu.suitable import plain_operators
from mesm_plugin.registry import MODELS

INFERENCE_VIDEOS = 32
TRAINING_VIDEOS = 8


def model_cost(config: Config) -> dict[str, float | int]:
    """Counts the parameters and the operations of the model of a config on the real items of its data set.

    Operations are those of matrix products and convolutions, as PyTorch's counter counts them (a multiplication and an
    addition are two); solving and inverting matrices is not among them. They are counted on the CPU.

    Args:
        config: With a `train_dataloader`, and a `test_dataloader` or `val_dataloader`.

    Returns:
        `parameters` and `aligner_parameters`; `inference_flops`, of one query: the mean over the queries of the first
        32 test videos, each in a batch of its own, so that there is no padding; `training_flops`, of one query: forward
        and backward of the first 8 training videos as a batch. The keys `inference_queries` and `training_queries`
        tell how many queries were counted.
    """
    init_default_scope(config.get("default_scope", "mesm_plugin"))
    torch.manual_seed(0)
    model: Any = MODELS.build(copy.deepcopy(config._cfg_dict.model))
    queries = flops = 0
    # The counter cannot follow a module that is given a parameter while gradients are merely switched off.
    frozen = copy.deepcopy(model).requires_grad_(False).eval()
    tested = config.get("test_dataloader") or config.val_dataloader
    for number, batch in enumerate(_loader(tested, batch_size=1)):
        if number == INFERENCE_VIDEOS:
            break
        with plain_operators(), FlopCounterMode(display=False) as counter:
            frozen(**frozen.data_preprocessor(batch), mode="tensor")
        flops += counter.get_total_flops()
        queries += len(batch["inputs"]["query_video"])
    model.train()
    batch = model.data_preprocessor(next(iter(_loader(config.train_dataloader, TRAINING_VIDEOS))), True)
    with plain_operators(), FlopCounterMode(display=False) as counter:
        torch.stack(list(model(**batch, mode="loss").values())).sum().backward()
    trained = len(batch["inputs"]["query_video"])
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "aligner_parameters": sum(parameter.numel() for parameter in model.aligner.parameters()),
        "inference_flops": flops / queries,
        "inference_queries": queries,
        "training_flops": counter.get_total_flops() / trained,
        "training_queries": trained,
    }


def _loader(config: Any, batch_size: int) -> Any:
    """A loader of the data set in its order, in this process."""
    kept = {key: copy.deepcopy(config[key]) for key in ("dataset", "collate_fn") if key in config}
    sampler = {"type": "DefaultSampler", "shuffle": False}
    return Runner.build_dataloader({**kept, "batch_size": batch_size, "num_workers": 0, "sampler": sampler}, seed=0)
