# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.models import UVCOMAligner
from mesm_plugin.models.aligners import AlignerOutput
from mesm_plugin.models.layers import Prototypes

BATCH = {"pair_video": torch.tensor([0, 1, 1, 0]), "pair_query": torch.tensor([0, 1, 2, 1])}
CLIPS_MASK = torch.tensor([[True, True, True, False], [True] * 4])
WORDS_MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])


def align(clips: torch.Tensor, words: torch.Tensor, **options: bool) -> AlignerOutput:
    torch.manual_seed(0)
    aligner = UVCOMAligner(dims=8, heads=2, ffn_dims=12, dropout=0.0, num_layers=1, num_iterations=1, **options)
    for convolution in aligner.local_convolution.children():
        torch.nn.init.normal_(convolution.bias)
    torch.manual_seed(1)
    return aligner(clips, torch.randn(2, 4, 8), CLIPS_MASK, words, WORDS_MASK, BATCH)


def features() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(2, 4, 8), torch.randn(3, 3, 8)


def test_shapes() -> None:
    output = align(*features())
    output.check(pairs=4, queries=3, clips=4, dims=8, name="UVCOMAligner")
    assert output.token is not None
    assert output.words.shape == (3, 3, 8)


@pytest.mark.parametrize("padding", ["clips", "words"])
@pytest.mark.parametrize("count_padding", [False, True])
def test_padding_has_an_influence_only_if_told_so(padding: str, count_padding: bool) -> None:
    clips, words = features()
    before = align(clips, words, count_padding=count_padding)
    if padding == "clips":
        clips = clips.masked_fill(~CLIPS_MASK[..., None], 10.0)
    else:
        words = words.masked_fill(~WORDS_MASK[..., None], 10.0)
    after = align(clips, words, count_padding=count_padding)
    valid = CLIPS_MASK[BATCH["pair_video"]]
    assert ((after.clips - before.clips)[valid].abs().max() > 1e-3) == count_padding


def test_the_walk_can_be_that_of_lighthouse() -> None:
    clips, words = features()
    assert (align(clips, words).clips - align(clips, words, exact_walk=False).clips).abs().max() > 1e-2


def test_token_is_the_clip_prototype_nearest_to_those_of_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    of_words = torch.tensor([[1.0, 0.0], [0.8, 0.2]])
    of_clips = torch.tensor([[0.0, 9.0], [2.0, 0.5], [-1.0, 0.0]])

    def prototypes(self: Prototypes, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        chosen = of_words if len(self.initial) == 5 else of_clips
        return torch.nn.functional.pad(chosen, (0, 6)).expand(len(x), -1, -1)

    monkeypatch.setattr(Prototypes, "forward", prototypes)
    token = align(*features()).token
    assert token is not None
    assert token[:, :2].tolist() == [[2.0, 0.5]] * 4
