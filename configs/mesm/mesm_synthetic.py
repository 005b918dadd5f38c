# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# The quick start: a small MESM on the embedded synthetic data set, a few minutes on two CPU cores.
_base_ = [
    "../_base_/models/mesm_model.py",
    "../_base_/datasets/synthetic.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
model = dict(
    video_dims=128 + 2,
    text_dims=64,
    dims=128,
    ffn_dims=256,
    projection_dropout=0.1,
    aligner=dict(frame_word=dict(num_word_classes=73 + 1, token_dims=64)),
)
train_cfg = dict(max_epochs=6)
optim_wrapper = dict(optimizer=dict(lr=7e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=50),
    dict(type="MultiStepLR", by_epoch=True, milestones=[5], gamma=0.1),
]
