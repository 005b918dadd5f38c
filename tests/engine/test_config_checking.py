# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Misspelt keys of configs."""

import subprocess
import sys

import pytest
from mmengine import registry as root
from mmengine.registry import Registry

from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import ConfigError, read_config, shipped_configs


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_configs_are_without_complaint(name, tmp_path):
    config = read_config(name)
    check_config(config)
    config.dump(tmp_path / "dumped.py")
    check_config(read_config(str(tmp_path / "dumped.py")))


def problem_of(option):
    with pytest.raises(ConfigError) as caught:
        check_config(read_config("mesm_synthetic", [option]), [option])
    return str(caught.value).partition("mesm_synthetic.py: ")[2]


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("model.dimms=3", "model: DETRGrounder has no argument 'dimms'; did you mean 'dims' or "),
        (
            "model.aligner.frame_word.num_layer=3",
            "model.aligner.frame_word: FrameWordEnhancer has no argument 'num_layer'; did you mean 'num_layers'",
        ),
        (
            "model.saliency_losses.1.loss_wieght=3",
            "model.saliency_losses.1: NegativePairLoss has no argument 'loss_wieght'; did you mean 'loss_weight'?",
        ),
        ("model.type=DETRGrouner", "model: there is no model 'DETRGrouner'; did you mean 'DETRGrounder'"),
        ("train_dataloader.batch_sise=3", "train_dataloader: DataLoader has no argument 'batch_sise'; did you mean"),
        (
            "test_dataloader.dataset.num_video=3",
            "test_dataloader.dataset: SyntheticDataset has no argument 'num_video'; did you mean 'num_videos'",
        ),
        (
            "val_dataloader.collate_fn.trainin=True",
            "val_dataloader.collate_fn: collate_grounding has no argument 'trainin'; did you mean 'training'?",
        ),
        (
            "test_dataloader.sampler.shufle=True",
            "test_dataloader.sampler: DefaultSampler has no argument 'shufle'; did you mean 'shuffle'?",
        ),
        (
            "test_evaluator.r1_threshold=[0.5]",
            "test_evaluator: MomentRetrievalMetric has no argument 'r1_threshold'; did you mean 'r1_thresholds'",
        ),
        (
            "optim_wrapper.clip_gard.max_norm=1",
            "optim_wrapper: GuardedOptimWrapper has no argument 'clip_gard'; did you mean 'clip_grad'?",
        ),
        ("optim_wrapper.optimizer.lrr=1", "optim_wrapper.optimizer: AdamW has no argument 'lrr'; did you mean 'lr'?"),
        ("train_cfg.max_epoch=1", "train_cfg: ResumableTrainLoop has no argument 'max_epoch'; did you mean"),
        ("default_hooks.logger.intervall=1", "default_hooks.logger: LoggerHook has no argument 'intervall'; did you"),
        ("custom_hooks.0.video=1", "custom_hooks.0: PredictionPlotHook has no argument 'video'; did you mean 'videos'"),
        ("randomness.sede=1", "randomness: set_randomness has no argument 'sede'; did you mean 'seed'?"),
        ("train_dataloder.batch_size=1", "option 'train_dataloder.batch_size=1' changes nothing: 'train_dataloder' is"),
        ("lr=1", "option 'lr=1' changes nothing: 'lr' is read by nothing; did you mean optim_wrapper.optimizer.lr?"),
    ],
)
def test_misspelt_key(option, problem):
    assert problem_of(option).startswith(problem)


def test_keys_that_builders_read_are_known():
    options = [
        "optim_wrapper.paramwise_cfg.norm_decay_mult=0",
        "optim_wrapper.constructor=DefaultOptimWrapperConstructor",
        "default_hooks.logger.priority=LOW",
        "train_dataloader.num_batch_per_epoch=2",
        "param_scheduler.1.convert_to_iter_based=True",
        "env_cfg.cudnn_benchmark=True",
        "find_unused_parameters=True",
        "auto_scale_lr.enable=False",
        "val_cfg.fp16=False",
        "work_dir=x",
    ]
    check_config(read_config("mesm_synthetic", options), options)


def config_of(text, tmp_path):
    path = tmp_path / "some.py"
    path.write_text(text)
    return read_config(str(path))


MODEL = "model = dict(type='DETRGrounder')\n"


def test_misspelt_key_at_the_top(tmp_path):
    with pytest.raises(ConfigError, match=r"some.py: no key 'defualt_hooks' is read; did you mean 'default_hooks'"):
        check_config(config_of(MODEL + "defualt_hooks = dict()\n", tmp_path))


def test_variables_of_a_config_are_left_alone(tmp_path):
    text = MODEL + "data_root = 'x/'\ntest_cfgs = dict()\ntest_cfg = test_cfgs if data_root == 1 else None\n"
    check_config(config_of(text, tmp_path))


def test_option_on_a_variable_of_the_config(tmp_path):
    config = config_of("width = 8\nmodel = dict(type='DETRGrounder', dims=width)\n", tmp_path)
    with pytest.raises(ConfigError, match="'width' is a variable of the config file, which has been read already"):
        check_config(config, ["width=16"])


def test_keys_that_belong_together(tmp_path):
    with pytest.raises(ConfigError, match="'val_cfg' needs 'val_dataloader' and 'val_evaluator' beside it"):
        check_config(config_of(MODEL + "val_cfg = dict()\n", tmp_path))


def test_config_without_a_model(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no 'model'; did you mean 'modle'\?"):
        check_config(config_of("modle = dict(type='DETRGrounder')\n", tmp_path))


FOREIGN = """
from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry
import mesm_plugin
from mesm_plugin.engine.config_checking import check_config

Registry("model", parent=root.MODELS, scope="foreign_check")
check_config(Config(dict(model=dict(type="QDDETR", dimms=3), default_scope="foreign_check")))
"""


def test_misspelt_key_of_a_component_that_is_not_imported_yet():
    run = subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=False)
    assert "ConfigError: config: model: QDDETR has no argument 'dimms'; did you mean 'dims'" in run.stderr


def test_node_of_another_codebase_that_cannot_be_imported():
    Registry("function", parent=root.FUNCTIONS, scope="foreign_broken", locations=["nothing_of_that_name"])
    check_config(read_config("mesm_synthetic", ["default_scope=foreign_broken"]))
    with pytest.raises(ConfigError, match="there is no function 'collate_groundin'; did you mean 'collate_grounding'"):
        check_config(
            read_config(
                "mesm_synthetic",
                ["default_scope=foreign_broken", "train_dataloader.collate_fn.type=collate_groundin"],
            )
        )
