# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-STA with VGG clip features and GloVe word vectors.
_base_ = "charades_sta.py"
sources = dict(
    features=dict(type="HDF5FeatureStore", files=[_base_.data_root + "vgg.hdf5"], dims=[4096]),
    text=dict(
        type="GloVeText",
        file="{{$MESM_DATA:data}}/glove.6B.300d.txt",
        vocabulary=_base_.annotations + "GloVe_tokenized_count.txt",
        vocabulary_size=_base_.vocabulary_size,
        max_words=16,
        weighting="content_words",
    ),
    clip_length=0.17,
    max_clips=600,
)
train_dataloader = dict(dataset=sources)
val_dataloader = dict(dataset=sources)
test_dataloader = dict(dataset=sources)
