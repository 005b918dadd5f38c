# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-CD with CLIP + SlowFast clip features and pre-extracted CLIP word features; docs/data.md says where the files
# come from. The videos are those of Charades-STA.
data_root = "{{$MESM_DATA:data}}/charades_cd/"
videos = "{{$MESM_DATA:data}}/charades/"
annotations = data_root + "annotations/"
vocabulary_size = 1111
dataset = dict(
    type="CharadesCDDataset",
    features=dict(
        type="HDF5FeatureStore",
        files=[videos + "clip_image.hdf5", videos + "slowfast.hdf5"],
        dims=[512, 2304],
    ),
    text=dict(
        type="PreExtractedText",
        file=data_root + "clip_text.hdf5",
        vocabulary=annotations + "CLIP_tokenized_count.txt",
        vocabulary_size=vocabulary_size,
        max_words=16,
        dim=512,
    ),
    clip_length=1.0,
    max_clips=194,
)
train_dataloader = dict(
    batch_size=12,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="collate_grounding", training=True),
    dataset=dict(**dataset, ann_file=annotations + "charades_train.json"),
)
val_dataloader = dict(
    batch_size=30,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, ann_file=annotations + "charades_val.json"),
)
test_dataloader = dict(
    batch_size=30,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, ann_file=[annotations + "charades_test_iid.json", annotations + "charades_test_ood.json"]),
)
val_evaluator = dict(type="MomentRetrievalMetric")
test_evaluator = dict(type="MomentRetrievalMetric", by_split=True)
