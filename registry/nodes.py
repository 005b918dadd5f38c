# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The registry nodes of scope `mesm_plugin`, one child for each of MMEngine's root nodes."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

from mesm_plugin.registry.near_names import suggestion


class UnknownTypeError(KeyError):
    """No registry knows a `type`. Its message prints as it is, where a KeyError would print it quoted."""

    def __str__(self) -> str:
        return str(self.args[0])


class SharedRegistry(Registry):
    """A child node whose components also resolve by their bare name from the root.

    MMEngine searches a node and its ancestors, never its siblings. A config of another codebase can therefore say
    `type="MESMAligner"` only if the root node knows that name; registering here registers there as well. In turn, what
    is built here is looked up in the node of the default scope first, so that components of another codebase take part.

    Args:
        parent: The root node.
        locations: Modules that register components, imported when the node is first searched.
    """

    def __init__(self, parent: Registry, locations: Sequence[str] = ()) -> None:
        super().__init__(parent.name, parent=parent, scope="mesm_plugin", locations=list(locations))
        self._deferred: set[str] = set()

    def defer(self, name: str, module: str) -> None:
        """Announces a component to the root without importing the module that defines it.

        For components whose base classes are slow to import: the first build imports `module`, whose registration then
        takes the place of this announcement.

        Args:
            name: Name of the class, as configs write it.
            module: Full name of the module that registers it.
        """

        def build(*args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(module), name)(*args, **kwargs)

        build.__name__ = name
        self._deferred.add(name)
        self.parent._register_module(module=build, module_name=name)

    def find(self, name: str) -> Callable[..., Any] | None:
        """The component that a config of the current default scope means by `type=name`; None if there is none."""
        with self.switch_scope_and_registry(None) as node:
            return node.get(name)

    def build(self, cfg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Builds a component from its config.

        Raises:
            UnknownTypeError: No component is called `cfg["type"]`; near names are listed.
        """
        name = cfg.get("type")
        if isinstance(name, str) and "_scope_" not in cfg and self.find(name) is None:
            with self.switch_scope_and_registry(None) as node:
                known = {*node.module_dict, *self.module_dict, *self.parent.module_dict}
            raise UnknownTypeError(f"there is no {self.name} {name!r}; {suggestion(name.split('.')[-1], known)}")
        return super().build(cfg, *args, **kwargs)

    def _register_module(
        self, module: Callable, module_name: str | list[str] | None = None, force: bool = False
    ) -> None:
        super()._register_module(module=module, module_name=module_name, force=force)
        names = [module_name] if isinstance(module_name, str) else module_name or [module.__name__]
        for name in names:
            self.parent._register_module(module=module, module_name=name, force=force or name in self._deferred)
        self._deferred.difference_update(names)


DATASETS = SharedRegistry(root.DATASETS, ["mesm_plugin.datasets"])
DATA_SAMPLERS = SharedRegistry(root.DATA_SAMPLERS, ["mesm_plugin.datasets"])
TRANSFORMS = SharedRegistry(root.TRANSFORMS, ["mesm_plugin.datasets"])
FUNCTIONS = SharedRegistry(root.FUNCTIONS, ["mesm_plugin.datasets"])
MODELS = SharedRegistry(root.MODELS, ["mesm_plugin.models", "mesm_plugin.models.grounders", "mesm_plugin.losses"])
METRICS = SharedRegistry(root.METRICS, ["mesm_plugin.evaluation"])
HOOKS = SharedRegistry(root.HOOKS, ["mesm_plugin.engine.hooks"])

OPTIM_WRAPPERS = SharedRegistry(root.OPTIM_WRAPPERS, ["mesm_plugin.engine.guarded_optim_wrapper"])
LOOPS = SharedRegistry(root.LOOPS, ["mesm_plugin.engine.resumable_train_loop"])
RUNNERS = SharedRegistry(root.RUNNERS, ["mesm_plugin.engine.fully_sharded_runner"])

# Nothing of ours is registered in these; MMEngine warns where a default scope lacks a node.
EVALUATOR = SharedRegistry(root.EVALUATOR)
INFERENCERS = SharedRegistry(root.INFERENCERS)
LOG_PROCESSORS = SharedRegistry(root.LOG_PROCESSORS)
MODEL_WRAPPERS = SharedRegistry(root.MODEL_WRAPPERS)
OPTIMIZERS = SharedRegistry(root.OPTIMIZERS)
OPTIM_WRAPPER_CONSTRUCTORS = SharedRegistry(root.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = SharedRegistry(root.PARAM_SCHEDULERS)
RUNNER_CONSTRUCTORS = SharedRegistry(root.RUNNER_CONSTRUCTORS)
STRATEGIES = SharedRegistry(root.STRATEGIES)
TASK_UTILS = SharedRegistry(root.TASK_UTILS)
VISBACKENDS = SharedRegistry(root.VISBACKENDS)
VISUALIZERS = SharedRegistry(root.VISUALIZERS)
WEIGHT_INITIALIZERS = SharedRegistry(root.WEIGHT_INITIALIZERS)

HOOKS.defer("AtomicCheckpointHook", "mesm_plugin.engine.hooks.atomic_checkpoint_hook")
HOOKS.defer("CheckpointGuardHook", "mesm_plugin.engine.hooks.checkpoint_guard_hook")
HOOKS.defer("CompileHook", "mesm_plugin.engine.hooks.compile_hook")
HOOKS.defer("CudaGraphHook", "mesm_plugin.engine.hooks.cuda_graph_hook")
HOOKS.defer("DeferredRuntimeInfoHook", "mesm_plugin.engine.hooks.deferred_runtime_info_hook")
HOOKS.defer("InterruptionHook", "mesm_plugin.engine.hooks.interruption_hook")
HOOKS.defer("NonFiniteHook", "mesm_plugin.engine.hooks.non_finite_hook")
HOOKS.defer("PredictionPlotHook", "mesm_plugin.engine.hooks.prediction_plot_hook")
HOOKS.defer("RandomStateHook", "mesm_plugin.engine.hooks.random_state_hook")
HOOKS.defer("RunRecordHook", "mesm_plugin.engine.hooks.run_record_hook")
OPTIM_WRAPPERS.defer("GuardedOptimWrapper", "mesm_plugin.engine.guarded_optim_wrapper")
LOOPS.defer("ResumableTrainLoop", "mesm_plugin.engine.resumable_train_loop")
MODELS.defer("CGDETR", "mesm_plugin.models.grounders.cg_detr")
MODELS.defer("DETRGrounder", "mesm_plugin.models.grounders.detr_grounder")
MODELS.defer("EaTR", "mesm_plugin.models.grounders.eatr")
MODELS.defer("MomentDETR", "mesm_plugin.models.grounders.moment_detr")
MODELS.defer("QDDETR", "mesm_plugin.models.grounders.qd_detr")
MODELS.defer("TRDETR", "mesm_plugin.models.grounders.tr_detr")
MODELS.defer("UVCOM", "mesm_plugin.models.grounders.uvcom")
