# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Table 5: the encoder's loss alone; Table 6: two layers of the modality aligner, without SS-MESM.
_base_ = "../mesm_charades_clip_slowfast_paper_protocol.py"
model = dict(aligner=dict(frame_word=None, segment_sentence=None))
