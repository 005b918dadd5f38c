# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.peak_memory import peak_memory
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.models.grounders.query_chunks import query_chunks
from mesm_plugin.registry import MODELS

ALIGNERS: dict[str, dict[str, Any]] = {
    "CGDETRAligner": {"num_dummies": 3, "num_prompts": 4},
    "ConcatAligner": {},
    "CrossAttentionAligner": {},
    "MESMAligner": {"frame_word": {"num_word_classes": 21}, "word_position": {"max_words": 32}},
    "TRDETRAligner": {},
    "UVCOMAligner": {"num_iterations": 2, "count_padding": True},
}
GROUNDERS = ["CGDETR", "EaTR", "MomentDETR", "TRDETR", "UVCOM"]
CELLS = [("QDDETR", aligner) for aligner in ALIGNERS] + [(grounder, "MESMAligner") for grounder in GROUNDERS]
MakeBatch = Callable[..., dict[str, Any]]


def build(grounder: str, aligner: dict[str, Any], **options: Any) -> DETRGrounder:
    torch.manual_seed(0)
    sizes = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}
    return MODELS.build({"type": grounder, **sizes, "aligner": aligner, **options}).eval()


def predict(model: DETRGrounder, batch: dict[str, Any]) -> list[np.ndarray]:
    samples = model(**batch, mode="predict")
    return [x for sample in samples for x in (*sample.pred_moments, *sample.pred_saliency)]


def count_calls(module: torch.nn.Module) -> list[int]:
    """Takes the length of what the module is given at each call."""
    lengths: list[int] = []
    module.register_forward_pre_hook(lambda module, args: lengths.append(len(args[0])))
    return lengths


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("grounder", "aligner"), CELLS)
def test_chunks_give_what_one_piece_gives(grounder: str, aligner: str, training: bool, make_batch: MakeBatch) -> None:
    model = build(grounder, {"type": aligner, **ALIGNERS[aligner]})
    batch = make_batch([9, 5, 7], [4, 1, 3], training=training)
    expected = predict(model, batch)
    videos, texts, encoded = (count_calls(x) for x in (model.video_projection, model.text_projection, model.encoder))
    model.max_pair_clips = 30  # three queries of nine clips
    for ours, theirs in zip(predict(model, batch), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert videos == [3]
    assert texts[0] == 8
    passes = 2 if grounder == "TRDETR" else 1
    assert encoded == [size for size in (3, 3, 2) for _ in range(passes)]


def test_queries_that_see_one_another_stay_together(make_batch: MakeBatch) -> None:
    aligner = {"type": "MESMAligner", "segment_sentence": {"context": "attend"}}
    model = build("QDDETR", aligner, max_pair_clips=1)
    encoded = count_calls(model.encoder)
    predict(model, make_batch([9, 5], [2, 1], training=False))
    assert encoded == [3]


def test_a_chunk_has_one_query_at_least(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [2, 1], training=False)["inputs"]
    chunks = list(query_chunks(inputs, 1))
    assert [(rows.start, rows.stop) for rows, _ in chunks] == [(0, 1), (1, 2), (2, 3)]
    for row, (_, chunk) in enumerate(chunks):
        assert chunk["pair_query"].tolist() == [0]
        assert chunk["pair_video"].tolist() == [[0], [0], [1]][row]
        assert torch.equal(chunk["words"][0], inputs["words"][row])
        assert chunk["video"] is inputs["video"]


def test_memory_does_not_grow_with_queries(make_batch: MakeBatch) -> None:
    model = build("QDDETR", {"type": "MESMAligner"}, max_pair_clips=1200)
    peaks = []
    for queries in (30, 120):
        batch = make_batch([400], [queries], training=False)
        peaks.append(peak_memory(lambda batch=batch: predict(model, batch), torch.device("cpu")))
    assert peaks[1] < 1.15 * peaks[0]
    # A row of 32 channels for every clip of every pair.
    assert peaks[1] < 120 * 400 * 32 * 4


def test_bound_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_pair_clips is 0, expected at least 1"):
        build("QDDETR", {"type": "MESMAligner"}, max_pair_clips=0)
