# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How a grounder puts its parts together, and what it says of parts that do not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mesm_plugin.models import AlignerOutput, BaseAligner, CrossAttentionAligner, DABDecoder, DETRDecoder, MESMAligner
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS

SIZES = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}
MakeBatch = Callable[..., dict[str, Any]]


def build(grounder: str = "QDDETR", **parts: Any) -> DETRGrounder:
    torch.manual_seed(0)
    return MODELS.build({"type": grounder, **SIZES, **parts})


def test_a_part_without_type_adds_to_the_default_part() -> None:
    model = build(aligner={"num_layers": 3}, encoder={"num_layers": 1}, label_loss={"loss_weight": 2.0})
    assert isinstance(model.aligner, CrossAttentionAligner)
    assert (len(model.aligner.layers), len(model.encoder.layers)) == (3, 1)
    assert model.encoder.token_is_key
    assert model.label_loss.loss_weight == 2.0


def test_a_part_with_type_replaces_the_default_part() -> None:
    model = build("MomentDETR", aligner={"type": "MESMAligner"}, decoder={"type": "DABDecoder", "num_queries": 3})
    assert isinstance(model.aligner, MESMAligner)
    assert isinstance(model.decoder, DABDecoder)
    assert model.decoder.anchors.shape == (3, 2)
    assert isinstance(build("MomentDETR").decoder, DETRDecoder)


@pytest.mark.parametrize(
    ("grounder", "losses"),
    [
        ("DETRGrounder", ["RankContrastiveLoss", "NegativePairLoss"]),
        ("MomentDETR", ["SaliencyHingeLoss"]),
        ("QDDETR", ["SaliencyHingeLoss", "RankContrastiveLoss", "NegativePairLoss"]),
    ],
)
def test_default_losses_of_clip_scores(grounder: str, losses: list[str]) -> None:
    assert [type(loss).__name__ for loss in build(grounder).saliency_losses] == losses
    assert len(build(grounder, saliency_losses=[]).saliency_losses) == 0


def test_negative_pairs_pass_only_where_they_are_used(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [2, 1])["inputs"]
    assert build("QDDETR").ground(inputs).saliency.shape == (6, 9)
    assert build("MomentDETR").ground(inputs).saliency.shape == (3, 9)
    rank = {"type": "RankContrastiveLoss", "negative_pairs": False}
    assert build("QDDETR", saliency_losses=[rank]).ground(inputs).saliency.shape == (3, 9)
    model = build("MomentDETR")
    model.aligner.uses_negative_pairs = True
    assert not model.uses_negative_pairs, "decided when the model is built"


def test_context_reaches_encoder_and_decoder(make_batch: MakeBatch) -> None:
    inputs = make_batch([9, 5], [2, 1])["inputs"]
    words = inputs["words"].shape[1]
    output = build("MomentDETR").ground(inputs)
    assert output.encoded.memory.shape == (3, 9 + words, 32)
    assert output.encoded.clips.shape == (3, 9, 32)
    assert output.encoded.token is None
    torch.testing.assert_close(output.encoded.mask[:, 9:], inputs["words_mask"])
    assert not output.encoded.position[:, 9:].any()
    # Other words of the same length change the moments through the context alone.
    other = build("MomentDETR").ground({**inputs, "words": inputs["words"].flip(2)})
    assert (other.spans - output.spans).abs().max() > 1e-4


class WrongAligner(BaseAligner):
    """Returns what it is told to."""

    def __init__(self, **changes: tuple[int, ...]) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, clips: Any, position: Any, mask: Any, words: Any, words_mask: Any, batch: Any, **_: Any) -> Any:
        output = AlignerOutput(clips[batch["pair_video"]], words, words_mask)
        for name, shape in self.changes.items():
            setattr(output, name, torch.zeros(shape))
        return output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": (3, 9, 16)}, r"WrongAligner returned clips of shape \(3, 9, 16\), expected \(3, 9, 32\)"),
        ({"clips": (2, 9, 32)}, r"clips of shape \(2, 9, 32\), expected \(3, 9, 32\)"),
        ({"context": (3, 4, 32)}, r"context_mask of shape None, expected \(3, 4\)"),
        ({"context": (4, 32)}, r"context of shape \(4, 32\), expected \(3, -1, 32\)"),
        ({"context": (3, 4, 32), "context_mask": (3, 5)}, r"context_mask of shape \(3, 5\), expected \(3, 4\)"),
        (
            {"context": (3, 4, 32), "context_mask": (3, 4), "context_position": (4, 32)},
            r"context_position of shape \(4, 32\)",
        ),
        ({"token": (3, 16)}, r"token of shape \(3, 16\), expected \(3, 32\)"),
    ],
)
def test_wrong_shapes_of_an_aligner_are_named(
    changes: dict[str, tuple[int, ...]], message: str, make_batch: MakeBatch
) -> None:
    model = build(aligner={"type": WrongAligner, **changes})
    with pytest.raises(ValueError, match=message):
        model.ground(make_batch([9, 5], [2, 1], training=False)["inputs"])


@pytest.mark.parametrize("part", ["aligner", "encoder", "decoder", "saliency_head"])
def test_a_part_of_another_width_is_named(part: str) -> None:
    with pytest.raises(ValueError, match=f"the {part} has dims=64, but the grounder has dims=32: leave dims out"):
        build(**{part: {"dims": 64}})


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(KeyError, match="MESMAlinger is not in the mesm_plugin::model registry"):
        build(aligner={"type": "MESMAlinger"})


def test_a_head_without_its_token_is_named(make_batch: MakeBatch) -> None:
    model = build("MomentDETR", saliency_head={"type": "GlobalTokenSaliencyHead"})
    with pytest.raises(ValueError, match="needs a global token: use GlobalTokenEncoder as the encoder"):
        model.ground(make_batch([9], [1], training=False)["inputs"])
