# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QD-DETR on QVHighlights with its authors' settings.
_base_ = [
    "../_base_/datasets/qvhighlights_clip_slowfast.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
optim_wrapper = dict(optimizer=dict(lr=1e-4))
model = dict(
    type="QDDETR",
    video_dims=2304 + 512 + 2,
    text_dims=512,
    post_process=dict(max_seconds=150.0, round_to=2.0),
)
