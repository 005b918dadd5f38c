# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-CG with I3D clip features and GloVe word vectors. The released code names `i3d.hdf5` but publishes no
# settings for it. Their rate is not known either, so the clips of a video are taken to divide it evenly.
_base_ = "charades_cg_clip_slowfast.py"
sources = dict(
    features=dict(type="HDF5FeatureStore", files=[_base_.videos + "i3d.hdf5"], dims=[1024]),
    text=dict(
        _delete_=True,
        type="GloVeText",
        file="{{$MESM_DATA:data}}/glove.6B.300d.txt",
        vocabulary=_base_.videos + "annotations/GloVe_tokenized_count.txt",
        vocabulary_size=_base_.vocabulary_size,
        max_words=16,
        weighting="content_words",
    ),
    clip_length=None,
    max_clips=600,
)
train_dataloader = dict(dataset=sources)
val_dataloader = dict(dataset=sources)
test_dataloader = dict(dataset=sources)
