# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How a grounder puts its parts together, and what it says of parts that do not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine import registry as root
from mmengine.registry import DefaultScope, Registry

from mesm_plugin.models import AlignerOutput, BaseAligner, CrossAttentionAligner, DABDecoder, DETRDecoder, MESMAligner
from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS, UnknownTypeError

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
    """Returns what it is told to: shapes stand for tensors of zeros, masks among them of bools."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, clips: Any, position: Any, mask: Any, words: Any, words_mask: Any, batch: Any, **_: Any) -> Any:
        output = AlignerOutput(clips[batch["pair_video"]], words, words_mask)
        for name, value in self.changes.items():
            dtype = torch.bool if name.endswith("_mask") else torch.float32
            setattr(output, name, torch.zeros(value, dtype=dtype) if isinstance(value, tuple) else value)
        return output


CONTEXT = {"context": (3, 4, 32), "context_mask": (3, 4)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": (3, 9, 16)}, r"WrongAligner returned clips of shape \(3, 9, 16\), expected \(3, 9, 32\)"),
        ({"clips": (2, 9, 32)}, r"clips of shape \(2, 9, 32\), expected \(3, 9, 32\)"),
        ({"clips": (3, 9)}, r"clips of shape \(3, 9\), expected \(3, 9, 32\)"),
        ({"clips": None}, r"clips of shape None, expected \(3, 9, 32\)"),
        ({"words": (3, 7, 16)}, r"words of shape \(3, 7, 16\), expected \(3, any, 32\)"),
        ({"words": (2, 7, 32)}, r"words of shape \(2, 7, 32\), expected \(3, any, 32\)"),
        ({"words": (3, 7, 32), "words_mask": (3, 6)}, r"words_mask of shape \(3, 6\), expected \(3, 7\)"),
        ({"context": (3, 4, 32)}, r"context_mask of shape None, expected \(3, 4\)"),
        ({"context": (4, 32)}, r"context of shape \(4, 32\), expected \(3, any, 32\)"),
        ({**CONTEXT, "context_mask": (3, 5)}, r"context_mask of shape \(3, 5\), expected \(3, 4\)"),
        ({**CONTEXT, "context_position": (4, 32)}, r"context_position of shape \(4, 32\), expected \(3, 4, 32\)"),
        ({"context_mask": (3, 4)}, "WrongAligner returned a context_mask or context_position, but no context"),
        ({"context_position": (3, 4, 32)}, "a context_mask or context_position, but no context"),
        ({"token": (3, 16)}, r"token of shape \(3, 16\), expected \(3, 32\)"),
    ],
)
def test_wrong_shapes_of_an_aligner_are_named(changes: dict[str, Any], message: str, make_batch: MakeBatch) -> None:
    model = build(aligner={"type": WrongAligner, **changes})
    with pytest.raises(ValueError, match=message):
        model.ground(make_batch([9, 5], [2, 1], training=False)["inputs"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": torch.zeros(3, 9, 32).long()}, r"clips of torch.int64, expected floating-point numbers"),
        ({"clips": [1.0]}, r"clips as a list, expected a tensor"),
        ({"words": torch.zeros(3, 7, 32).bool()}, r"words of torch.bool, expected floating-point numbers"),
        ({"words_mask": "all"}, r"words_mask as a str, expected a tensor"),
        (
            {"words": (3, 7, 32), "words_mask": torch.ones(3, 7)},
            r"words_mask of torch.float32, expected torch.bool, True = valid",
        ),
        ({**CONTEXT, "context": torch.zeros(3, 4, 32).int()}, r"context of torch.int32, expected floating-point"),
        ({**CONTEXT, "context_mask": torch.ones(3, 4).long()}, r"context_mask of torch.int64, expected torch.bool"),
        ({**CONTEXT, "context_position": torch.ones(3, 4, 32).long()}, r"context_position of torch.int64, expected"),
        ({"token": torch.zeros(3, 32).long()}, r"token of torch.int64, expected floating-point numbers"),
        ({"extra": torch.zeros(3)}, r"extra as a Tensor, expected a dict of tensors"),
        ({"extra": None}, r"extra as a NoneType, expected a dict of tensors"),
    ],
)
def test_wrong_dtypes_of_an_aligner_are_named(changes: dict[str, Any], message: str, make_batch: MakeBatch) -> None:
    model = build(aligner={"type": WrongAligner, **changes})
    with pytest.raises(TypeError, match=f"WrongAligner returned {message}"):
        model.ground(make_batch([9, 5], [2, 1], training=False)["inputs"])


def test_an_aligner_that_returns_no_output_is_named(make_batch: MakeBatch) -> None:
    model = build()
    model.aligner.forward = lambda clips, *_, **__: (clips, None)
    with pytest.raises(TypeError, match="CrossAttentionAligner returned a tuple, expected an AlignerOutput"):
        model.ground(make_batch([9], [1], training=False)["inputs"])


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("aligner", "CrossAttentionAligner"),
        ("encoder", "GlobalTokenEncoder"),
        ("decoder", "DABDecoder"),
        ("saliency_head", "GlobalTokenSaliencyHead"),
    ],
)
def test_a_part_of_another_width_is_named(part: str, name: str) -> None:
    message = f"the {part} {name} has dims=64, but its grounder QDDETR has dims=32: leave dims out of the {part}'s"
    with pytest.raises(ValueError, match=message):
        build(**{part: {"dims": 64}})
    with pytest.raises(ValueError, match="MESMAligner has dims=64, but its grounder QDDETR has dims=32"):
        build(aligner={"type": "MESMAligner", "dims": 64})


FOREIGN = Registry("model", parent=root.MODELS, scope="foreign_parts")
UNKNOWN = [
    ({"aligner": {"type": "MESMAlinger"}}, "there is no model 'MESMAlinger'; did you mean 'MESMAligner'"),
    ({"aligner": {"type": "MESMAligner", "frame_word": {"type": "FrameWord"}}}, "did you mean 'FrameWordEnhancer'"),
    (
        {"aligner": {"type": "MESMAligner", "segment_sentence": {"type": "SegmentSentence"}}},
        "'SegmentSentenceEnhancer'",
    ),
    ({"aligner": {"type": "MESMAligner", "masked_word_loss": {"type": "MaskedLoss"}}}, "'MaskedWordLoss'"),
    ({"encoder": {"type": "DETREncodr"}}, "there is no model 'DETREncodr'; did you mean 'DETREncoder'"),
    ({"decoder": {"type": "DABDecodr"}}, "did you mean 'DABDecoder'"),
    ({"saliency_head": {"type": "MLPSaliency"}}, "'MLPSaliencyHead'"),
    ({"matcher": {"type": "MomentMatch"}}, "'MomentMatcher'"),
    ({"span_loss": {"type": "SpanLoss"}}, "'SpanL1Loss'"),
    ({"saliency_losses": [{"type": "RankContrastLoss"}]}, "'RankContrastiveLoss'"),
    ({"aligner": {"type": "mesm_plugin.MESMAlinger"}}, "'MESMAligner'"),
]


@pytest.mark.parametrize(("parts", "message"), UNKNOWN)
@pytest.mark.parametrize("scope", [None, FOREIGN.scope])
def test_an_unknown_type_is_named_with_near_names(parts: dict[str, Any], message: str, scope: str | None) -> None:
    with DefaultScope.overwrite_default_scope(scope), pytest.raises(UnknownTypeError, match=message) as caught:
        build(**parts)
    assert str(caught.value).startswith("there is no model")


def test_a_head_without_its_token_is_named(make_batch: MakeBatch) -> None:
    model = build("MomentDETR", saliency_head={"type": "GlobalTokenSaliencyHead"})
    with pytest.raises(ValueError, match="needs a global token: use GlobalTokenEncoder as the encoder"):
        model.ground(make_batch([9], [1], training=False)["inputs"])
