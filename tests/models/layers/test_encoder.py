# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
import torch

from mesm_plugin.models import DETREncoder, GlobalTokenEncoder

SIZES: dict[str, Any] = {"dims": 8, "heads": 2, "ffn_dims": 12, "dropout": 0.0}
MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])


def sequences() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 5, 8), torch.randn(2, 5, 8)


@pytest.mark.parametrize("encoder", [DETREncoder(**SIZES), GlobalTokenEncoder(**SIZES)])
def test_padded_clips_have_no_influence(encoder: DETREncoder) -> None:
    x, position = sequences()
    encoded, token = encoder(x, position, MASK)
    x[1, 3:] = 100.0
    other, other_token = encoder(x, position, MASK)
    torch.testing.assert_close(other[MASK], encoded[MASK])
    if token is not None:
        torch.testing.assert_close(other_token, token)


def test_a_given_token_is_one_more_of_the_sequence() -> None:
    encoder = DETREncoder(**SIZES)
    x, position = sequences()
    token = torch.randn(2, 8)
    assert encoder(x, position, MASK)[1] is None
    encoded, encoded_token = encoder(x, position, MASK, token)
    longer, _ = encoder(
        torch.cat((x, token[:, None]), dim=1),
        torch.cat((position, torch.zeros(2, 1, 8)), dim=1),
        torch.cat((MASK, torch.ones(2, 1, dtype=torch.bool)), dim=1),
    )
    torch.testing.assert_close(encoded, longer[:, :5])
    torch.testing.assert_close(encoded_token, longer[:, 5])


@pytest.mark.parametrize("token_is_key", [False, True])
def test_clips_attend_to_the_global_token_where_it_is_a_key(token_is_key: bool) -> None:
    torch.manual_seed(0)
    encoder = GlobalTokenEncoder(**SIZES, token_is_key=token_is_key)
    x, position = sequences()
    encoded, token = encoder(x, position, MASK)
    other, other_token = encoder(x, position, MASK, torch.ones(2, 8))
    assert (token - other_token).abs().max() > 1e-3
    assert ((encoded - other).abs().max() > 1e-3) == token_is_key


def test_a_given_token_takes_the_place_of_the_learned_one() -> None:
    encoder = GlobalTokenEncoder(**SIZES)
    x, position = sequences()
    learned = encoder(x, position, MASK)
    given = encoder(x, position, MASK, encoder.global_token.expand(2, -1))
    torch.testing.assert_close(given, learned)


def test_activations() -> None:
    assert isinstance(DETREncoder(**SIZES).layers[0].activation, torch.nn.ReLU)
    assert isinstance(GlobalTokenEncoder(**SIZES).layers[0].activation, torch.nn.PReLU)
    with pytest.raises(ValueError, match='activation must be "prelu" or "relu", got \'gelu\''):
        DETREncoder(**SIZES, activation="gelu")  # type: ignore[arg-type]


def test_the_global_token_is_added_where_asked_for() -> None:
    x, position = sequences()
    encoder = GlobalTokenEncoder(**SIZES)
    encoded, token = encoder(x, position, MASK)
    encoder.adds_token = True
    added, same = encoder(x, position, MASK)
    torch.testing.assert_close(added, encoded + token[:, None])
    torch.testing.assert_close(same, token)


def test_without_a_learned_token_one_must_be_given() -> None:
    encoder = GlobalTokenEncoder(**SIZES, learned_token=False)
    x, position = sequences()
    assert "global_token" not in dict(encoder.named_parameters())
    encoder(x, position, MASK, torch.zeros(2, 8))
    with pytest.raises(ValueError, match="has learned_token=False, but the aligner gave no token"):
        encoder(x, position, MASK)
