# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QD-DETR with MESM's aligner in place of its own cross-attention, and batches as that needs them; everything else is
# QD-DETR's.
_base_ = [
    "../_base_/datasets/qvhighlights_clip_slowfast_sources.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
optim_wrapper = dict(optimizer=dict(lr=1e-4))
model = dict(
    type="QDDETR",
    video_dims=2304 + 512 + 2,
    text_dims=512,
    aligner=dict(type="MESMAligner", frame_word=dict(num_word_classes=_base_.vocabulary_size + 3)),
    post_process=dict(max_seconds=150.0, round_to=2.0),
)
