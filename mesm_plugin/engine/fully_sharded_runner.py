# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Training with parameters, gradients and state of the optimiser split over the processes."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from mesm_plugin.registry import RUNNERS


@RUNNERS.register_module()
class FullyShardedRunner(Runner):
    """MMEngine's runner with PyTorch's `fully_shard` in the place of DistributedDataParallel.

    Each process keeps its share of every parameter and of the optimiser's state. All parameters are gathered once a
    step and kept until their gradients are reduced, part of the model by part, while backward goes on. Checkpoints hold
    whole tensors: they are those of a run in one process or with DistributedDataParallel, and each resumes the others.
    In one process it is MMEngine's runner.
    """

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Gives all processes the weights of the first, and shards the model.

        Raises:
            ValueError: There is a `model_wrapper_cfg`.
        """
        if not self.distributed:
            return super().wrap_model(model_wrapper_cfg, model)
        if model_wrapper_cfg is not None:
            raise ValueError("runner_type is 'FullyShardedRunner', which takes no model_wrapper_cfg; leave it out")
        model = model.to(get_device())
        if self._train_loop is not None and hasattr(model, "init_weights"):
            model.init_weights()  # type: ignore[operator]
        for tensor in model.state_dict().values():
            broadcast(tensor)
        return fully_sharded(model)

    def _init_model_weights(self) -> None:
        # A share cannot be drawn as the whole is: `wrap_model` does it before there are shares.
        if not self.distributed:
            super()._init_model_weights()

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """As MMEngine's; the optimiser takes the whole tensors of a checkpoint."""
        built = super().build_optim_wrapper(optim_wrapper)
        if built is not optim_wrapper and isinstance(built, OptimWrapper):
            built.optimizer.register_load_state_dict_pre_hook(_shard_state)
        return built

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """As MMEngine's, which runs in the first process alone; all of them bring their shares."""
        self._whole = {"state_dict": whole(self.model.state_dict())}
        if kwargs.get("save_optimizer", True) and isinstance(self.optim_wrapper, OptimWrapper):
            self._whole["optimizer"] = whole(self.optim_wrapper.state_dict())
        super().save_checkpoint(*args, **kwargs)
        del self._whole

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """As MMEngine's, with whole tensors in a checkpoint and all parameters in every process for an evaluation."""
        if fn_name == "before_save_checkpoint":
            kwargs["checkpoint"].update(self._whole)
        elif fn_name in ("before_val_epoch", "before_test_epoch"):
            # Processes may have different numbers of batches, so none may wait for others in a batch.
            for module in self.model.modules():
                if isinstance(module, FSDPModule):
                    module.unshard()
        super().call_hook(fn_name, **kwargs)


def fully_sharded(model: nn.Module) -> nn.Module:
    """Shards the parameters of `model` over all processes, those of each of its parts together.

    The model becomes an `FSDPModule` in place; it loads state dicts of whole tensors. Parts that it names in
    `parts_used_in_pieces` are sharded with what belongs to no part: a part of its own is whole only while it is called.
    """
    mesh = init_device_mesh(get_device(), (get_world_size(),))
    in_pieces = getattr(model, "parts_used_in_pieces", ())
    parts = [
        part
        for name, part in model.named_children()
        if name not in in_pieces and next(part.parameters(), None) is not None
    ]
    for module in (*parts, model):
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=False)
        if get_device() == "cpu":
            # Gloo has no mean. Early versions of PyTorch's fully_shard lack the method.
            sharded.set_force_sum_reduction_for_comms(True)
    model.register_load_state_dict_pre_hook(_shard_weights)
    return model


def whole(state: Any) -> Any:
    """Sharded tensors anywhere in `state` as whole ones on the CPU; has to be called in all processes."""
    return tree_map(lambda value: value.full_tensor().cpu() if isinstance(value, DTensor) else value, state)


def _share(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    # All processes have read the same file: nothing has to be sent.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _shard_weights(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, present in module.state_dict().items():
        if prefix + name in state_dict:
            state_dict[prefix + name] = _share(state_dict[prefix + name], present)


def _shard_state(optimizer: torch.optim.Optimizer, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    state = dict(state_dict["state"])
    for number, parameter in zip(numbers, parameters, strict=False):
        if number in state:
            state[number] = {
                name: _share(value, parameter) if isinstance(value, Tensor) else value
                for name, value in state[number].items()
            }
    return {**state_dict, "state": state}
