# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""TR-DETR gives the same outputs, losses and gradients as Lighthouse's code.

Where the best moment begins before the video, the peer reads from as many clips before its end, which is nothing where
the moment ends earlier. Ours begins at the first clip. Everything is compared given the peer's reading; ours leaves all
but the refined clip scores of such items as they are.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.converters import TR_DETR
from mesm_plugin.models.grounders import TRDETR, GrounderOutput
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import cxw_to_xx

sys.path.append(str(Path(__file__).parent))
from golden_peer import (
    assert_close,
    build_batch,
    compare,
    compare_outputs,
    each_perturbation,
    golden_files,
    grounder_outputs,
    load,
    perturbed,
)

FILES = golden_files("tr_detr")
LOSS_GROUPS = {"loss_clip_sentence": "loss_ctc", "loss_video_sentence": "loss_vtc"}


needs_files = pytest.mark.skipif(not FILES, reason="no tr_detr*.pt; set MESM_GOLDEN to their folder")
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def first_clip(logits: Tensor, spans: Tensor, length: int) -> Tensor:
    """(Q,) first clip of the best moment, negative before the video."""
    best = logits.softmax(dim=-1)[..., 0].argmax(dim=1)
    return (cxw_to_xx(spans)[torch.arange(len(best)), best, 0] * length).floor().long()


def outputs(output: GrounderOutput, auxiliary: bool) -> dict[str, Tensor]:
    projected = output.projected
    return {
        **grounder_outputs(output, auxiliary),
        "src_vid_ed": projected.clips,
        "src_txt_ed": projected.words,
        "src_vid_cls_ed": projected.clips.mean(dim=1),
        "src_txt_cls_ed": projected.words.mean(dim=1),
    }


def check(golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = TRDETR.best_moment

    def peers(self: TRDETR, logits: Tensor, spans: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        length = int(count[0])
        first = first_clip(logits.detach(), spans.detach(), length)
        return torch.where(first < 0, (first + length).clamp(min=0), first), ours(self, logits, spans, count)[1]

    monkeypatch.setattr(TRDETR, "best_moment", peers)
    compare(golden, TR_DETR, outputs, LOSS_GROUPS)


@needs_files
@each_file
def test_golden(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(load(file), monkeypatch)


@needs_files
@each_file
def test_golden_where_the_best_moment_begins_in_the_video(file: Path) -> None:
    golden = load(file)
    config, state_dict, batch = golden["config"], golden["state_dict"], build_batch(golden)
    model = MODELS.build(TR_DETR.config(config, state_dict))
    model.load_state_dict(TR_DETR.convert_state_dict(state_dict, config))
    output = model.eval().ground(batch)
    reference = golden["outputs"]["saliency_scores"]
    begins = first_clip(golden["outputs"]["pred_logits"], golden["outputs"]["pred_spans"], reference.shape[1]) >= 0
    if not begins.any():
        pytest.skip("every best moment begins before its video")
    mask = batch["video_mask"] & begins[:, None]
    compare_outputs(outputs(output, config["aux_loss"]), golden, {"saliency_scores": mask})


@needs_files
@each_file
def test_without_padding_an_item_has_the_numbers_that_it_has_alone(file: Path) -> None:
    golden = load(file)
    config, state_dict, batch = golden["config"], golden["state_dict"], build_batch(golden)
    peers = TR_DETR.config(config, state_dict)
    models = [MODELS.build({**peers, "count_padding": count}).eval() for count in (True, False)]
    for model in models:
        model.load_state_dict(TR_DETR.convert_state_dict(state_dict, config))
    together = models[1].ground(batch)
    for i, (length, words) in enumerate(zip(batch["video_mask"].sum(1), batch["words_mask"].sum(1), strict=True)):
        item = {
            "video": batch["video"][i : i + 1, :length],
            "video_mask": batch["video_mask"][i : i + 1, :length],
            "words": batch["words"][i : i + 1, :words],
            "words_mask": batch["words_mask"][i : i + 1, :words],
            **dict.fromkeys(("query_video", "pair_video", "pair_query"), torch.zeros(1, dtype=torch.int64)),
        }
        alone = models[0].ground(item)
        assert_close("pred_spans", together.spans[-1, i], alone.spans[-1, 0], 1e-5)
        scores = alone.saliency[0].detach()
        assert_close("saliency_scores", together.saliency[i, :length], scores, 1e-4 * float(scores.abs().max()))


@needs_files
@each_perturbation
def test_a_perturbed_file_fails(kind: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=message):
        check(perturbed(load(FILES[0]), kind), monkeypatch)
