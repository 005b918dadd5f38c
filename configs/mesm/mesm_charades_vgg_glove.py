# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
_base_ = [
    "../_base_/models/mesm_model.py",
    "../_base_/datasets/charades_sta_vgg_glove.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
model = dict(
    video_dims=4096 + 2,
    text_dims=300,
    aligner=dict(frame_word=dict(num_word_classes=_base_.vocabulary_size + 1, token_dims=300)),
    post_process=dict(max_seconds=150.0, round_to=0.17),
)
