# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# MESM of Table 4 with I3D and GloVe. Its settings are not published: these are those for CLIP + SlowFast on
# Charades-CG, with the widths of these features.
_base_ = [
    "../_base_/models/mesm_model.py",
    "../_base_/datasets/charades_cg_i3d_glove.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
model = dict(
    video_dims=1024 + 2,
    text_dims=300,
    aligner=dict(frame_word=dict(num_word_classes=_base_.vocabulary_size + 1, token_dims=300)),
    # Not rounded to clips, as their rate is not known.
    post_process=dict(max_seconds=150.0),
)
# As in the released code for Charades-CG, not by mAP.
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
