# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# EaTR on QVHighlights with its authors' settings.
_base_ = [
    "../_base_/datasets/qvhighlights_clip_slowfast.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type="StepLR", by_epoch=True, step_size=150, gamma=0.1)]
model = dict(
    type="EaTR",
    video_dims=2304 + 512 + 2,
    text_dims=512,
    encoder=dict(num_layers=3),
    decoder=dict(num_layers=3),
    post_process=dict(max_seconds=150.0, round_to=2.0),
)
