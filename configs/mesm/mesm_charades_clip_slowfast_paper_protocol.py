# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# The paper's protocol: all training videos, and the best checkpoint chosen on the test split.
_base_ = "mesm_charades_clip_slowfast.py"
train_dataloader = dict(dataset=dict(holdout=None))
val_dataloader = dict(dataset=dict(**_base_.test_files, text=_base_.test_text, holdout=None))
