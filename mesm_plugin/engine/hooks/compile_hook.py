# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Compiles the model for the shapes of a data set."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mesm_plugin.engine.padded_run import check_padded_run
from mesm_plugin.engine.single_graph import SingleGraph
from mesm_plugin.engine.trained_model import bare_model
from mesm_plugin.registry import FUNCTIONS, HOOKS

EXTRA_GRAPHS = 4
"""For batches of a single video or source, which have graphs of their own."""


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles forward and losses, and the network of inference, each as one graph (`torch.compile(fullgraph=True)`).

    Batches are padded to a few lengths chosen from the data set's (`BucketedCollate`), so that there are as many graphs
    as buckets, whatever the number of queries in a batch; each is compiled when a batch of its bucket first comes up.
    `--cfg-options default_hooks.compile.type=CompileHook` switches it on.

    Args:
        clip_buckets: Most different numbers of clips.
        word_buckets: Most different numbers of words.
        inference: Whether validation and testing are compiled, too.
        backend: Of `torch.compile`.

    Raises:
        ValueError: A number of buckets is not positive.
    """

    def __init__(
        self, clip_buckets: int = 2, word_buckets: int = 1, inference: bool = True, backend: str = "inductor"
    ) -> None:
        for name, count in (("clip_buckets", clip_buckets), ("word_buckets", word_buckets)):
            if count < 1:
                raise ValueError(f"{name} of CompileHook is {count}, expected at least 1")
        self.clip_buckets = clip_buckets
        self.word_buckets = word_buckets
        self.inference = inference
        self.backend = backend
        # Validation and test data may each add a length to those of the training data.
        self._graphs = (clip_buckets + 2) * (word_buckets + 2) + EXTRA_GRAPHS
        self._buckets: Any = None

    def before_train(self, runner: Runner) -> None:
        """Prepares the training loader and `model.loss`."""
        self._prepare(runner, runner.train_dataloader, "loss", runner.train_loop)

    def before_val(self, runner: Runner) -> None:
        """Prepares the validation loader and `model.score_moments`."""
        if self.inference:
            self._prepare(runner, runner.val_dataloader, "score_moments")

    def before_test(self, runner: Runner) -> None:
        """Prepares the test loader and `model.score_moments`."""
        if self.inference:
            self._prepare(runner, runner.test_dataloader, "score_moments")

    def _prepare(self, runner: Runner, loader: DataLoader, name: str, train_loop: Any = None) -> None:
        """Makes a loader pad its batches, and replaces a method of the model by its compiled form.

        Raises:
            ValueError: There are several processes, no such method, or `check_padded_run` refuses the run.
        """
        if get_world_size() > 1:
            raise ValueError(
                f"CompileHook takes one process, got {get_world_size()}: the losses of several are joined outside of "
                "the graph. Leave it out of the config"
            )
        model: Any = bare_model(runner.model)
        function = getattr(model, name, None)
        if not isinstance(model, nn.Module) or function is None:
            raise ValueError(f"CompileHook needs a grounder with the method {name!r}, got {type(model).__name__}")
        check_padded_run("CompileHook", model, train_loop)
        collate = FUNCTIONS.get("BucketedCollate")
        if not isinstance(function, SingleGraph):
            setattr(model, name, SingleGraph(function, f"{type(model).__name__}.{name}", self._graphs, self.backend))
        if isinstance(loader.collate_fn, collate):
            return
        self._buckets = buckets = collate.install(loader, self.clip_buckets, self.word_buckets, self._buckets).buckets
        runner.logger.info(
            f"{name} is compiled for batches padded to {_listed(buckets.clips)} clips, {_listed(buckets.words)} words "
            f"and {buckets.moments} moments a query; the first batch of each may take minutes."
        )


def _listed(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))
