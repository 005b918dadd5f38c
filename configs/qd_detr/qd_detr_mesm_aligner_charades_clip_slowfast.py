# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QD-DETR with MESM's aligner in place of its own cross-attention; everything else is QD-DETR's.
_base_ = "qd_detr_charades_clip_slowfast.py"
model = dict(aligner=dict(type="MESMAligner", frame_word=dict(num_word_classes=_base_.vocabulary_size + 3)))
