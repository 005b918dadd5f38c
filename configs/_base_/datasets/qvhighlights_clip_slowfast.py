# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# QVHighlights with CLIP + SlowFast clip features and pre-extracted CLIP word features; docs/data.md says where the
# files come from. SlowFast comes first, as in the checkpoints of the grounders' authors.
# Checkpoints are chosen and scored on the validation split, as in the papers; docs/datasets/qvhighlights.md says how to
# predict the test split.
data_root = "{{$MESM_DATA:data}}/qvhighlights/"
annotations = data_root + "annotations/"
dataset = dict(
    type="QVHighlightsDataset",
    features=dict(
        type="HDF5FeatureStore",
        files=[data_root + "slowfast.hdf5", data_root + "clip_image.hdf5"],
        dims=[2304, 512],
    ),
    text=dict(type="PreExtractedText", file=data_root + "clip_text.hdf5", max_words=32, dim=512),
    clip_length=2.0,
    max_clips=75,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="collate_grounding", training=True, max_moments=5),
    dataset=dict(**dataset, ann_file=annotations + "highlight_train_release.jsonl"),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, ann_file=annotations + "highlight_val_release.jsonl"),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, ann_file=annotations + "highlight_val_release.jsonl"),
)
val_evaluator = [
    dict(type="MomentRetrievalMetric", r1_thresholds=[0.5, 0.7]),
    dict(type="HighlightDetectionMetric"),
]
test_evaluator = val_evaluator
