# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Table 7: 3 layers of SS-MESM.
_base_ = "../mesm_charades_clip_slowfast_paper_protocol.py"
model = dict(aligner=dict(segment_sentence=dict(num_layers=3)))
