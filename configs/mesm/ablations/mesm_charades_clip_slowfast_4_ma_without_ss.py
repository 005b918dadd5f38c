# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Table 6: four layers of the modality aligner in place of FW-MESM, without SS-MESM.
_base_ = "../mesm_charades_clip_slowfast_paper_protocol.py"
model = dict(aligner=dict(num_layers=4, frame_word=None, segment_sentence=None))
