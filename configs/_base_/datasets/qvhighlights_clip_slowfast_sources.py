# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QVHighlights for MESM's aligner: all clip sequences of a source video in one batch, and words to be restored.
_base_ = "qvhighlights_clip_slowfast.py"
vocabulary_size = 5000
sources = dict(batch_sampler=dict(type="SourceBatchSampler"))
words = dict(
    text=dict(vocabulary=_base_.annotations + "CLIP_tokenized_count.txt", vocabulary_size=vocabulary_size),
)
# Sources, of 3.2 sequences on average.
train_dataloader = dict(**sources, batch_size=12, dataset=words)
val_dataloader = dict(**sources, batch_size=30, dataset=words)
test_dataloader = dict(**sources, batch_size=30, dataset=words)
