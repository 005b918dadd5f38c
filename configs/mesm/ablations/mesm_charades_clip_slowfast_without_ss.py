# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Table 5: without SS-MESM; Table 6: two layers of FW-MESM and two of the modality aligner, without SS-MESM.
_base_ = "../mesm_charades_clip_slowfast_paper_protocol.py"
model = dict(aligner=dict(segment_sentence=None))
