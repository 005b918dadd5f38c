# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QD-DETR of Table 4, which MESM's authors trained "under the same training scheme": batches, optimiser, epochs and
# choice of the checkpoints are MESM's. They publish no settings for it; model and losses are those for Charades-STA.
_base_ = [
    "../_base_/datasets/charades_cg_clip_slowfast.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
train_dataloader = dict(dataset=dict(holdout=None))
val_dataloader = dict(dataset=dict(ann_file=_base_.novel_files, holdout=None))
val_evaluator = dict(by_split=True)
default_hooks = dict(checkpoint=dict(save_best=["novel_composition/mIoU", "novel_word/mIoU"]))
model = dict(
    type="QDDETR",
    video_dims=512 + 2304 + 2,
    text_dims=512,
    saliency_losses=[
        dict(type="SaliencyHingeLoss", loss_weight=4.0),
        dict(type="RankContrastiveLoss", loss_weight=4.0),
        dict(type="NegativePairLoss", loss_weight=4.0),
    ],
    post_process=dict(max_seconds=150.0, round_to=1.0),
)
