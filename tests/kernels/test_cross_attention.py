# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mesm_plugin.kernels import SharedCrossAttention, bidirectional_cross_attention, cross_attention


def random_inputs(items: int, queries: int, keys: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(items + queries + keys)
    sizes = (queries, keys, keys)
    return [torch.randn(items, size, 2, 16, dtype=dtype, requires_grad=True) for size in sizes]


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 5), (63, 33), (194, 17)])
def test_equals_torch(queries: int, keys: int) -> None:
    query, key, value = random_inputs(3, queries, keys)
    mask = torch.rand(3, keys) < 0.7
    mask[:, 0] = True
    ours = cross_attention(query, key, value, mask)
    heads_first = [t.transpose(1, 2) for t in (query, key, value)]
    reference = F.scaled_dot_product_attention(*heads_first, attn_mask=mask[:, None, None]).transpose(1, 2)
    torch.testing.assert_close(ours, reference)
    upstream = torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, (query, key, value), upstream)
    references = torch.autograd.grad(reference, (query, key, value), upstream)
    for name, gradient, expected in zip(("query", "key", "value"), gradients, references, strict=True):
        torch.testing.assert_close(gradient, expected, msg=lambda m, name=name: f"gradient of {name}: {m}")


def test_gradcheck() -> None:
    query, key, value = random_inputs(2, 3, 4)
    mask = torch.tensor([[True, True, False, True], [False, False, False, False]])
    assert torch.autograd.gradcheck(lambda *t: cross_attention(*t, mask), (query, key, value))


def test_fully_masked_item_gives_zeros_and_zero_gradients() -> None:
    query, key, value = random_inputs(2, 3, 4)
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    out = cross_attention(query, key, value, mask)
    assert (out[1] == 0).all()
    out.sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert (tensor.grad[1] == 0).all()
    assert (value.grad[0, 1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_of_a_fully_masked_item_stay_finite(dtype: torch.dtype) -> None:
    query, key, value = (torch.full((1, 3, 2, 16), x, dtype=dtype, requires_grad=True) for x in (20.0, -20.0, 1.0))
    out = cross_attention(query, key, value, torch.zeros(1, 3, dtype=torch.bool))
    assert (out == 0).all()
    for gradient in torch.autograd.grad(out.sum(), (query, key, value)):
        assert (gradient == 0).all()


def test_scale() -> None:
    query, key, value = random_inputs(1, 2, 3)
    mask = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(
        cross_attention(query, key, value, mask, scale=0.5), cross_attention(query * 2, key, value, mask)
    )


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    weights_of_one = torch.ones(1, 1, 1, 16), torch.ones(1, 4096, 1, 16), torch.ones(1, 4096, 1, 16)
    out = cross_attention(*weights_of_one, torch.ones(1, 4096, dtype=torch.bool), dropout_p=0.25)
    # The mean of 4096 kept-or-dropped weights has standard deviation sqrt(0.25 / 0.75 / 4096) = 0.009.
    assert out.mean().item() == pytest.approx(1.0, abs=0.036)
    assert out.mean().item() != 1.0


def test_both_directions_are_two_attentions() -> None:
    clips = random_inputs(4, 9, 5)
    words = random_inputs(2, 5, 9)
    words_mask, clips_mask = torch.rand(4, 5) < 0.8, torch.rand(2, 9) < 0.8
    out = bidirectional_cross_attention(*clips, words_mask, *words, clips_mask)
    torch.testing.assert_close(out[0], cross_attention(*clips, words_mask))
    torch.testing.assert_close(out[1], cross_attention(*words, clips_mask))


def test_module_loads_multihead_attention() -> None:
    torch.manual_seed(0)
    reference = nn.MultiheadAttention(32, 4, batch_first=True).double()
    nn.init.normal_(reference.in_proj_bias)
    nn.init.normal_(reference.out_proj.bias)
    module = SharedCrossAttention(32, 4).double()
    module.load_state_dict(reference.state_dict())
    x, y, z = (torch.randn(3, n, 32, dtype=torch.float64) for n in (7, 5, 5))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [False, True, False, True, True]])
    expected, _ = reference(x, y, z, key_padding_mask=~mask)
    torch.testing.assert_close(module(x, y, z, mask), expected)
    index = torch.tensor([2, 0, 0])
    expected, _ = reference(x, y[index], z[index], key_padding_mask=~mask[index])
    torch.testing.assert_close(module(x, y, z, mask[index], index), expected)
    both = module.both_directions(x, y, z, mask[index], index, y, x, x, torch.ones(3, 7, dtype=torch.bool), index)
    torch.testing.assert_close(both[0], expected)
    torch.testing.assert_close(both[1], reference(y, x[index], x[index])[0])


def test_heads_must_divide_dims() -> None:
    with pytest.raises(ValueError, match="heads must divide dims, got dims=32 and heads=5"):
        SharedCrossAttention(32, 5)
