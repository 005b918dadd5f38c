# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# MESM in the form of the released code (docs/paper_vs_code.md). video_dims, text_dims, num_word_classes and token_dims
# belong to the features and are set in configs/mesm/.
model = dict(
    type="DETRGrounder",
    dims=256,
    heads=8,
    ffn_dims=1024,
    dropout=0.1,
    projection_dropout=0.5,
    aligner=dict(
        type="MESMAligner",
        num_layers=2,
        frame_word=dict(
            type="FrameWordEnhancer",
            num_layers=2,
            update="add_norm_ffn",
            use_position=True,
            masked_word_clips="moment",
            word_head="projection",
            word_head_dropout=0.5,
        ),
        segment_sentence=dict(type="SegmentSentenceEnhancer", num_layers=4, normalize=True),
        masked_word_loss=dict(type="MaskedWordLoss", loss_weight=0.1, label_smoothing=0.1),
        contrastive_loss=dict(
            type="IoUContrastiveLoss",
            loss_weight=0.1,
            gamma=0.9,
            tau=0.5,
            similarity="cosine",
            iou="giou",
            same_source=True,
            form="mean_log",
            anchor="segment",
            eps=1e-6,
        ),
    ),
    encoder=dict(type="GlobalTokenEncoder", num_layers=2),
    # The released code draws its anchors; evenly spread ones depend less on the seed (docs/simulated_charades.md).
    decoder=dict(type="DABDecoder", num_layers=2, num_queries=10, anchors="even"),
    saliency_head=dict(type="GlobalTokenSaliencyHead"),
    matcher=dict(type="MomentMatcher", cost_span=10.0, cost_giou=1.0, cost_class=4.0),
    span_loss=dict(type="SpanL1Loss", loss_weight=10.0),
    giou_loss=dict(type="SpanGIoULoss", loss_weight=1.0),
    label_loss=dict(type="LabelLoss", loss_weight=4.0, background_weight=0.1),
    saliency_losses=[
        dict(type="RankContrastiveLoss", loss_weight=4.0, divisor=12.0),
        dict(type="NegativePairLoss", loss_weight=4.0),
    ],
    post_process=dict(),
)
