# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# TACoS with C3D clip features and GloVe word vectors; docs/data.md says where the files come from.
data_root = "{{$MESM_DATA:data}}/tacos/"
annotations = data_root + "annotations/"
vocabulary_size = 1111
dataset = dict(
    type="TACoSDataset",
    features=dict(type="HDF5FeatureStore", files=[data_root + "c3d.hdf5"], dims=[4096]),
    text=dict(
        type="GloVeText",
        file="{{$MESM_DATA:data}}/glove.6B.300d.txt",
        vocabulary=annotations + "GloVe_tokenized_count.txt",
        vocabulary_size=vocabulary_size,
        max_words=16,
        weighting="content_words",
    ),
    clip_length=None,
    max_clips=600,
    max_queries=10,
)
train_dataloader = dict(
    batch_size=3,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="collate_grounding", training=True),
    dataset=dict(**dataset, ann_file=annotations + "train.json"),
)
val_dataloader = dict(
    batch_size=5,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, ann_file=annotations + "val.json"),
)
test_dataloader = dict(
    batch_size=5,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, ann_file=annotations + "test.json"),
)
val_evaluator = dict(type="MomentRetrievalMetric", r1_thresholds=[0.1, 0.3, 0.5, 0.7])
test_evaluator = val_evaluator
