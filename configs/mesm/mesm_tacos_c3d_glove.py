# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
_base_ = [
    "../_base_/models/mesm_model.py",
    "../_base_/datasets/tacos_c3d_glove.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
model = dict(
    video_dims=4096 + 2,
    text_dims=300,
    aligner=dict(
        frame_word=dict(num_word_classes=_base_.vocabulary_size + 1, token_dims=300, separate_ffn=True),
    ),
    matcher=dict(cost_class=6.0),
    label_loss=dict(loss_weight=6.0),
    saliency_losses=[
        dict(type="RankContrastiveLoss", divisor=1.0),
        dict(type="NegativePairLoss"),
        dict(type="SaliencyHingeLoss", margin=0.2),
    ],
    post_process=dict(max_seconds=1000.0),
)
# As in the released code, not by mAP.
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
