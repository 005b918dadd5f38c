# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# Charades-STA; docs/data.md says where the files come from. Features and text are set in charades_sta_*.py.
data_root = "{{$MESM_DATA:data}}/charades/"
annotations = data_root + "annotations/"
vocabulary_size = 1111
train_files = dict(ann_file=annotations + "charades_sta_train.txt", duration_file=annotations + "Charades_v1_train.csv")
test_files = dict(ann_file=annotations + "charades_sta_test.txt", duration_file=annotations + "Charades_v1_test.csv")

train_dataloader = dict(
    batch_size=12,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="collate_grounding", training=True),
    dataset=dict(type="CharadesSTADataset", **train_files, holdout="train"),
)
val_dataloader = dict(
    batch_size=30,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(type="CharadesSTADataset", **train_files, holdout="val"),
)
test_dataloader = dict(
    batch_size=30,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="collate_grounding", training=False),
    dataset=dict(type="CharadesSTADataset", **test_files),
)
val_evaluator = dict(type="MomentRetrievalMetric")
test_evaluator = dict(type="MomentRetrievalMetric")
