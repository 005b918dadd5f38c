# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# What Lighthouse trains its grounders with on Charades-STA.
_base_ = "adamw_200_epochs.py"
param_scheduler = [dict(type="StepLR", by_epoch=True, step_size=40, gamma=0.1)]
