# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
default_scope = "mesm_plugin"
default_hooks = dict(
    runtime_info=dict(type="DeferredRuntimeInfoHook"),
    logger=dict(type="LoggerHook", interval=20),
    # The best checkpoint is chosen by mAP, as in the released code.
    checkpoint=dict(type="AtomicCheckpointHook", interval=1, max_keep_ckpts=1, save_best="mAP", rule="greater"),
)
custom_hooks = [
    dict(type="PredictionPlotHook"),
    dict(type="RandomStateHook"),
    dict(type="InterruptionHook"),
    dict(type="NonFiniteHook"),
    dict(type="RunRecordHook"),
]
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
randomness = dict(seed=2019)
log_level = "INFO"
