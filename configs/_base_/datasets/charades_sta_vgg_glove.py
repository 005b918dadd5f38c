# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-STA with VGG clip features and GloVe word vectors; docs/data.md says where each file comes from.
data_root = "{{$MESM_DATA:data}}/charades/"
annotations = data_root + "annotations/"
dataset = dict(
    type="CharadesSTADataset",
    features=dict(type="HDF5FeatureStore", files=[data_root + "vgg.hdf5"], dims=[4096]),
    text=dict(
        type="GloVeText",
        file="{{$MESM_DATA:data}}/glove.6B.300d.txt",
        vocabulary=annotations + "GloVe_tokenized_count.txt",
        vocabulary_size=1111,
        max_words=16,
        weighting="content_words",
    ),
    clip_length=0.17,
    max_clips=600,
)
train_files = dict(ann_file=annotations + "charades_sta_train.txt", duration_file=annotations + "Charades_v1_train.csv")
test_files = dict(ann_file=annotations + "charades_sta_test.txt", duration_file=annotations + "Charades_v1_test.csv")

train_dataloader = dict(
    batch_size=12,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="collate_grounding", training=True),
    dataset=dict(**dataset, **train_files, holdout="train"),
)
val_dataloader = dict(
    batch_size=30,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, **train_files, holdout="val"),
)
test_dataloader = dict(
    batch_size=30,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, **test_files),
)
val_evaluator = dict(type="MomentRetrievalMetric")
test_evaluator = dict(type="MomentRetrievalMetric")
