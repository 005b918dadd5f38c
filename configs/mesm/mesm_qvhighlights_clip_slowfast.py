# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
_base_ = [
    "../_base_/models/mesm_model.py",
    "../_base_/datasets/qvhighlights_clip_slowfast_sources.py",
    "../_base_/schedules/adamw_200_epochs.py",
    "../_base_/default_runtime.py",
]
# CLIP comes first, as in the authors' checkpoint.
clips = dict(
    features=dict(files=[_base_.data_root + "clip_image.hdf5", _base_.data_root + "slowfast.hdf5"], dims=[512, 2304])
)
train_dataloader = dict(dataset=clips)
val_dataloader = dict(dataset=clips)
test_dataloader = dict(dataset=clips)
model = dict(
    video_dims=512 + 2304 + 2,
    text_dims=512,
    aligner=dict(
        frame_word=dict(num_word_classes=_base_.vocabulary_size + 3, token_dims=512),
        masked_word_loss=dict(loss_weight=0.5),
    ),
    saliency_losses=[
        dict(type="RankContrastiveLoss"),
        dict(type="NegativePairLoss"),
        dict(type="SaliencyHingeLoss"),
    ],
    post_process=dict(max_seconds=150.0, round_to=2.0),
)
