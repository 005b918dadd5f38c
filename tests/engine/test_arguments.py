# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which arguments a component takes."""

from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper, MultiStepLR

from mesm_plugin.datasets import SyntheticDataset
from mesm_plugin.engine.arguments import accepted_arguments, unknown_argument
from mesm_plugin.registry.near_names import suggestion


class Closed:
    def __init__(self, hidden, layers=2, *, dropout=0.1):
        pass


class ForeignOpen:
    def __init__(self, hidden, **options):
        pass


def test_arguments_of_classes_and_functions():
    assert accepted_arguments(Closed) == ({"hidden", "layers", "dropout"}, False)
    assert accepted_arguments(lambda items, *, training: None) == ({"items", "training"}, False)


def test_arguments_of_base_classes_count():
    names, is_open = accepted_arguments(SyntheticDataset)
    assert {"split", "max_clips", "lazy_init"} <= names
    assert not is_open
    assert {"milestones", "by_epoch"} <= accepted_arguments(MultiStepLR)[0]
    assert {"dtype", "clip_grad"} <= accepted_arguments(AmpOptimWrapper)[0]


def test_unknown_argument_is_named_with_near_ones():
    assert unknown_argument(Closed, ["hidden", "dropout"]) is None
    assert unknown_argument(Closed, ["hiden"]) == "Closed has no argument 'hiden'; did you mean 'hidden'?"
    assert unknown_argument(Closed, ["zzz"]) == "Closed has no argument 'zzz'; known are dropout, hidden, layers"


def test_what_takes_any_argument():
    assert unknown_argument(ForeignOpen, ["hiden"]) is None
    assert unknown_argument(CheckpointHook, ["save_optimizer", "anything"]) is None
    assert "did you mean 'save_best'" in unknown_argument(CheckpointHook, ["save_bset"])


def test_suggestion_without_near_names():
    assert suggestion("x", ["abc", "def"]) == "known are abc, def"
    assert suggestion("x", [f"name{i}" for i in range(100)]) == "no known name is near"
