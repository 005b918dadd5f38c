# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
_base_ = [
    "../_base_/models/mesm_model.py",
    "../_base_/datasets/charades_cd_clip_slowfast.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
model = dict(
    video_dims=512 + 2304 + 2,
    text_dims=512,
    aligner=dict(frame_word=dict(num_word_classes=_base_.vocabulary_size + 3, token_dims=512)),
    post_process=dict(max_seconds=150.0, round_to=1.0),
)
# As on the other divisions of Charades. The paper has no numbers for Charades-CD.
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
