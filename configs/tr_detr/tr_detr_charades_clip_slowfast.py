# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# TR-DETR on Charades-STA. These are Lighthouse's settings.
_base_ = [
    "../_base_/datasets/charades_sta_clip_slowfast.py",
    "../_base_/schedules/adamw_200_epochs_decay_40.py",
    "../_base_/default_runtime.py",
]
# An item is a video with all its queries, 2.3 on average: about Lighthouse's 32 pairs a batch.
train_dataloader = dict(batch_size=14)
model = dict(
    type="TRDETR",
    video_dims=512 + 2304 + 2,
    text_dims=512,
    saliency_losses=[
        dict(type="SaliencyHingeLoss", loss_weight=4.0),
        dict(type="RankContrastiveLoss", loss_weight=4.0, negative_pairs=False),
    ],
    post_process=dict(max_seconds=150.0, round_to=1.0),
)
