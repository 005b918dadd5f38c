# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mesm_plugin.engine.padded_run import check_padded_run
from mesm_plugin.registry import MODELS

SIZES = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}


def test_models_that_count_padding_are_refused() -> None:
    check_padded_run("CompileHook", MODELS.build({"type": "TRDETR", **SIZES}))
    counting = MODELS.build({"type": "TRDETR", **SIZES, "count_padding": True})
    with pytest.raises(ValueError, match="CompileHook pads batches, .* of model.* with count_padding=True"):
        check_padded_run("CompileHook", counting)


def test_loops_that_took_their_batches_before_are_refused() -> None:
    model = MODELS.build({"type": "QDDETR", **SIZES})
    check_padded_run("CudaGraphHook", model, EpochBasedTrainLoop.__new__(EpochBasedTrainLoop))
    with pytest.raises(ValueError, match=r"CudaGraphHook needs training by epochs.*train_cfg\.by_epoch=True"):
        check_padded_run("CudaGraphHook", model, IterBasedTrainLoop.__new__(IterBasedTrainLoop))
