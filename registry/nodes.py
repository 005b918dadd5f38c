# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The registry nodes of scope `mesm_plugin`, children of MMEngine's root nodes."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry


class SharedRegistry(Registry):
    """A child node whose components also resolve by their bare name from the root.

    MMEngine searches a node and its ancestors, never its siblings. A config of another codebase can therefore say
    `type="MESMAligner"` only if the root node knows that name; registering here registers there as well.
    """

    def __init__(self, name: str, parent: Registry, locations: list[str] | None = None) -> None:
        super().__init__(name, parent=parent, scope="mesm_plugin", locations=locations or [])
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

    def _register_module(
        self, module: Callable, module_name: str | list[str] | None = None, force: bool = False
    ) -> None:
        super()._register_module(module=module, module_name=module_name, force=force)
        names = [module_name] if isinstance(module_name, str) else module_name or [module.__name__]
        for name in names:
            self.parent._register_module(module=module, module_name=name, force=force or name in self._deferred)
        self._deferred.difference_update(names)


MODELS = SharedRegistry("model", root.MODELS, locations=["mesm_plugin.models", "mesm_plugin.models.grounders"])
DATASETS = SharedRegistry("dataset", root.DATASETS, locations=["mesm_plugin.datasets"])
TRANSFORMS = SharedRegistry("transform", root.TRANSFORMS, locations=["mesm_plugin.datasets"])
FUNCTIONS = SharedRegistry("function", root.FUNCTIONS, locations=["mesm_plugin.datasets"])
METRICS = SharedRegistry("metric", root.METRICS, locations=["mesm_plugin.evaluation"])
HOOKS = SharedRegistry("hook", root.HOOKS, locations=["mesm_plugin.engine.hooks"])

HOOKS.defer("PredictionPlotHook", "mesm_plugin.engine.hooks.prediction_plot_hook")
MODELS.defer("DETRGrounder", "mesm_plugin.models.grounders.detr_grounder")
