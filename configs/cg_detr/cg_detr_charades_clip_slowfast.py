# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# CG-DETR on Charades-STA with its authors' settings; dropout is of single values, not of whole residual branches.
_base_ = [
    "../_base_/datasets/charades_sta_clip_slowfast.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
# An item is a video with all its queries, 2.3 on average: about the authors' 32 pairs a batch.
train_dataloader = dict(batch_size=14)
model = dict(
    type="CGDETR",
    video_dims=512 + 2304 + 2,
    text_dims=512,
    aligner=dict(attention_saliency_loss=dict(loss_weight=4.0)),
    encoder=dict(num_layers=3),
    decoder=dict(num_layers=3),
    saliency_losses=[
        dict(type="SaliencyHingeLoss", loss_weight=4.0),
        dict(type="RankContrastiveLoss", loss_weight=4.0),
        dict(type="NegativePairLoss", loss_weight=4.0),
    ],
    post_process=dict(max_seconds=150.0, round_to=1.0),
)
