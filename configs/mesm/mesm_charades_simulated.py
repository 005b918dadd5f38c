# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# SIMULATED features for the real annotations of Charades-STA, see docs/simulated_charades.md. Scores on them are not
# results on Charades-STA.
_base_ = "mesm_charades_vgg_glove_paper_protocol.py"
root = "{{$MESM_SIMULATED:data/charades_simulated}}/"
annotations = root + "annotations/"
simulated = dict(
    features=dict(files=[root + "features.hdf5"], dims=[256]),
    text=dict(file=root + "glove.sim.txt", vocabulary=annotations + "GloVe_tokenized_count.txt"),
    clip_length=1.0,
)
test_files = dict(ann_file=annotations + "charades_sta_test.txt", duration_file=annotations + "Charades_v1_test.csv")
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **simulated,
        ann_file=annotations + "charades_sta_train.txt",
        duration_file=annotations + "Charades_v1_train.csv",
    ),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(**simulated, **test_files))
test_dataloader = dict(num_workers=0, dataset=dict(**simulated, **test_files))
model = dict(video_dims=256 + 2, post_process=dict(round_to=1.0))
train_cfg = dict(max_epochs=8)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = dict(type="MultiStepLR", by_epoch=True, milestones=[6], gamma=0.1)
# The scores that count are those of the last epoch.
default_hooks = dict(checkpoint=dict(save_best=None, rule=None))
