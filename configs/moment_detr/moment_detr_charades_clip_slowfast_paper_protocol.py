# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Moment-DETR of Table 1, which MESM's authors trained "under the same training scheme": batches, optimiser, epochs and
# choice of the checkpoint are MESM's. They publish no settings for it; model and losses are those of the config below.
_base_ = "moment_detr_charades_clip_slowfast.py"
train_dataloader = dict(batch_size=12, dataset=dict(holdout=None))
val_dataloader = dict(dataset=dict(**_base_.test_files, text=_base_.test_text, holdout=None))
param_scheduler = None
