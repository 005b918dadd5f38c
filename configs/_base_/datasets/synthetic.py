# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# The embedded synthetic data set; it needs no file.
dataset = dict(type="SyntheticDataset")
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="collate_grounding", training=True),
    dataset=dict(**dataset, split="train", num_videos=800),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, split="val", num_videos=100),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(**dataset, split="test", num_videos=200),
)
val_evaluator = dict(type="MomentRetrievalMetric")
test_evaluator = dict(type="MomentRetrievalMetric")
