# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# The authors' settings. Their step decay at epoch 400 never fires within 200 epochs, so there is no schedule here.
train_cfg = dict(type="ResumableTrainLoop", max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type="GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
)
