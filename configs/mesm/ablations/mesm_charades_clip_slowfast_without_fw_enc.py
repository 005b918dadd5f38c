# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Table 5: SS-MESM alone.
_base_ = "../mesm_charades_clip_slowfast_paper_protocol.py"
model = dict(
    aligner=dict(frame_word=None),
    # No loss of clip scores, so nothing supervises the encoder directly.
    saliency_losses=[],
)
