# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QD-DETR of Table 1 with VGG and GloVe, which MESM's authors trained "under the same training scheme": batches,
# optimiser, epochs and choice of the checkpoint are MESM's. They publish no settings for it; the losses are those for
# CLIP + SlowFast.
_base_ = [
    "../_base_/datasets/charades_sta_vgg_glove.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
train_dataloader = dict(dataset=dict(holdout=None))
val_dataloader = dict(dataset=dict(**_base_.test_files, holdout=None))
model = dict(
    type="QDDETR",
    video_dims=4096 + 2,
    text_dims=300,
    saliency_losses=[
        dict(type="SaliencyHingeLoss", loss_weight=4.0),
        dict(type="RankContrastiveLoss", loss_weight=4.0),
        dict(type="NegativePairLoss", loss_weight=4.0),
    ],
    post_process=dict(max_seconds=150.0, round_to=0.17),
)
