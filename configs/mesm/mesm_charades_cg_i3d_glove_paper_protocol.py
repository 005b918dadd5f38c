# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# The paper's protocol: all training videos, and a best checkpoint chosen on each of the novel test splits.
_base_ = "mesm_charades_cg_i3d_glove.py"
train_dataloader = dict(dataset=dict(holdout=None))
val_dataloader = dict(dataset=dict(ann_file=_base_.novel_files, holdout=None))
val_evaluator = dict(by_split=True)
default_hooks = dict(checkpoint=dict(save_best=["novel_composition/mIoU", "novel_word/mIoU"]))
