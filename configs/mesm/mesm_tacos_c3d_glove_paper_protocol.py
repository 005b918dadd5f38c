# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# The paper's protocol: the best checkpoint chosen on the test split.
_base_ = "mesm_tacos_c3d_glove.py"
val_dataloader = dict(dataset=dict(ann_file=_base_.annotations + "test.json"))
