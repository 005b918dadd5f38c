# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-STA with CLIP + SlowFast clip features and pre-extracted CLIP word features.
_base_ = "charades_sta.py"
word_features = dict(
    type="PreExtractedText",
    vocabulary=_base_.annotations + "CLIP_tokenized_count.txt",
    vocabulary_size=_base_.vocabulary_size,
    max_words=16,
    dim=512,
)
train_text = dict(**word_features, file=_base_.data_root + "clip_text_train.hdf5")
test_text = dict(**word_features, file=_base_.data_root + "clip_text_test.hdf5")
clips = dict(
    features=dict(
        type="HDF5FeatureStore",
        files=[_base_.data_root + "clip_image.hdf5", _base_.data_root + "slowfast.hdf5"],
        dims=[512, 2304],
    ),
    clip_length=1.0,
    max_clips=194,
)
train_dataloader = dict(dataset=dict(**clips, text=train_text))
val_dataloader = dict(dataset=dict(**clips, text=train_text))
test_dataloader = dict(dataset=dict(**clips, text=test_text))
