# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-STA with CLIP + SlowFast clip features and pre-extracted CLIP word features; docs/data.md says where the files
# come from.
data_root = "{{$MESM_DATA:data}}/charades/"
annotations = data_root + "annotations/"
word_features = dict(
    type="PreExtractedText",
    vocabulary=annotations + "CLIP_tokenized_count.txt",
    vocabulary_size=1111,
    max_words=16,
    dim=512,
)
dataset = dict(
    type="CharadesSTADataset",
    features=dict(
        type="HDF5FeatureStore",
        files=[data_root + "clip_image.hdf5", data_root + "slowfast.hdf5"],
        dims=[512, 2304],
    ),
    clip_length=1.0,
    max_clips=194,
)
train_files = dict(
    ann_file=annotations + "charades_sta_train.txt",
    duration_file=annotations + "Charades_v1_train.csv",
    text=dict(**word_features, file=data_root + "clip_text_train.hdf5"),
)
test_files = dict(
    ann_file=annotations + "charades_sta_test.txt",
    duration_file=annotations + "Charades_v1_test.csv",
    text=dict(**word_features, file=data_root + "clip_text_test.hdf5"),
)

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
