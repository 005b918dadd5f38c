# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What holds for each of the operators."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as nn_module

from mesm_plugin.kernels import add_norm, feed_forward, masked_attention, perceptron, projected_attention
from mesm_plugin.kernels.cpu.suitable import plain_operators
from mesm_plugin.kernels.cross_attention.reference import attend

DIMS, HEADS = 8, 2
MASK = torch.tensor([[True, True, False, True, False], [True] * 5, [False, True, True, False, False]])


def run_with_ours(kind: str, layers: nn.ModuleDict, x: Tensor, y: Tensor, more: nn.ParameterList) -> Tensor:
    match kind:
        case "feed_forward":
            names = ("linear1", "activation", "dropout", "linear2", "norm")
            return feed_forward(x, y, *(layers[name] for name in names))
        case "perceptron":
            return perceptron(x, [layers["linear1"], layers["relu"], layers["linear2"]])
        case "add_norm":
            return torch.cat(add_norm(x, y, layers["dropout"], layers["norm"]))
        case "attention":
            query, key = (t.unflatten(-1, (HEADS, -1)) for t in (x, y))
            return masked_attention(query, key, key, MASK)
        case _:
            options = (MASK, *more, layers["out"], HEADS, 0.0)
            out = projected_attention(x, y, None, None, *options)
            return run_with_pytorch(kind, layers, x, y, more) if out is None else out


def run_with_pytorch(kind: str, layers: nn.ModuleDict, x: Tensor, y: Tensor, more: nn.ParameterList) -> Tensor:
    match kind:
        case "feed_forward":
            dropout = layers["dropout"]
            hidden = dropout(layers["activation"](layers["linear1"](x)))
            return layers["norm"](y + dropout(layers["linear2"](hidden)))
        case "perceptron":
            return layers["linear2"](layers["relu"](layers["linear1"](x)))
        case "add_norm":
            total = x + layers["dropout"](y)
            return torch.cat((total, layers["norm"](total)))
        case "attention":
            query, key = (t.unflatten(-1, (HEADS, -1)) for t in (x, y))
            return attend(query, key, key, MASK, query.shape[-1] ** -0.5)
        case _:
            weight, bias = more
            sources = (x + y, x + y, x)
            heads = (
                F.linear(source, w, b).unflatten(-1, (HEADS, -1))
                for source, w, b in zip(sources, weight.chunk(3), bias.chunk(3), strict=True)
            )
            return layers["out"](attend(*heads, MASK, (DIMS // HEADS) ** -0.5).flatten(-2))


LAYERS = {
    "feed_forward": ["linear1", "activation", "dropout", "linear2", "norm"],
    "perceptron": ["linear1", "relu", "linear2"],
    "add_norm": ["dropout", "norm"],
    "attention": [],
    "projected_attention": ["out"],
}
each_operator = pytest.mark.parametrize("kind", LAYERS)


class Block:
    """An operator with its inputs and layers, and PyTorch's of the same."""

    def __init__(self, kind: str, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        known: dict[str, Callable[[], nn.Module]] = {
            "linear1": lambda: nn.Linear(DIMS, 12),
            "activation": lambda: nn.PReLU(init=0.3),
            "relu": nn.ReLU,
            "dropout": lambda: nn.Dropout(0.0),
            "linear2": lambda: nn.Linear(12, DIMS),
            "norm": lambda: nn.LayerNorm(DIMS),
            "out": lambda: nn.Linear(DIMS, DIMS),
        }
        self.kind = kind
        self.layers = nn.ModuleDict({name: known[name]() for name in LAYERS[kind]}).to(dtype)
        self.x, self.y = (torch.randn(3, 5, DIMS, dtype=dtype, requires_grad=True) for _ in range(2))
        more = (torch.randn(3 * DIMS, DIMS) / DIMS**0.5, torch.randn(3 * DIMS)) if kind == "projected_attention" else ()
        self.more = nn.ParameterList(more).to(dtype)
        for name, parameter in self.layers.named_parameters():
            if "norm" in name:
                nn.init.normal_(parameter)

    def inputs(self) -> list[Tensor]:
        inputs = [self.x] if self.kind == "perceptron" else [self.x, self.y]
        return [*inputs, *self.layers.parameters(), *self.more]

    def ours(self) -> Tensor:
        return run_with_ours(self.kind, self.layers, self.x, self.y, self.more)

    def truth(self) -> Tensor:
        return run_with_pytorch(self.kind, self.layers, self.x, self.y, self.more)

    def gradients(self, out: Tensor, **options: bool) -> tuple[Tensor, ...]:
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        return torch.autograd.grad((out * weights).sum(), self.inputs(), **options)

    def check(self) -> None:
        """Outputs and gradients are those of PyTorch."""
        ours, truth = self.ours(), self.truth()
        torch.testing.assert_close(ours, truth)
        torch.testing.assert_close(self.gradients(ours), self.gradients(truth))


def strided(x: Tensor) -> Tensor:
    """The same numbers, with others between them."""
    return torch.stack((x.detach(), torch.full_like(x, 7.0)), dim=-1)[..., 0]


@each_operator
def test_strided_inputs_and_parameters(kind: str) -> None:
    block = Block(kind)
    block.check()
    block.x, block.y = (strided(x).requires_grad_() for x in (block.x, block.y))
    for layer in (*block.layers.values(), block.more):
        for name, parameter in list(layer.named_parameters()):
            setattr(layer, name, nn.Parameter(strided(parameter)))
    assert not any(x.is_contiguous() for x in block.inputs() if x.numel() > 1)
    block.check()


@each_operator
def test_gradients_of_gradients_are_refused(kind: str) -> None:
    block = Block(kind)
    with pytest.raises(
        RuntimeError, match=r"cannot be differentiated once more, got create_graph=True; with MESM_CPP_OPERATORS=0"
    ):
        block.gradients(block.ours(), create_graph=True)
    # PyTorch's fused attention refuses them, too.
    with plain_operators(), sdpa_kernel(SDPBackend.MATH):
        out = block.ours()
    second = [
        torch.autograd.grad(sum(g.square().sum() for g in block.gradients(x, create_graph=True)), block.x)[0]
        for x in (out, block.truth())
    ]
    torch.testing.assert_close(*second)


@each_operator
def test_tangents_go_through_pytorch(kind: str) -> None:
    block = Block(kind)
    tangent = torch.randn_like(block.x)
    # PyTorch's fused attention has none, and says so.
    with forward_ad.dual_level(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        block.x = forward_ad.make_dual(block.x.detach(), tangent)
        ours, truth = (forward_ad.unpack_dual(out).tangent for out in (block.ours(), block.truth()))
    assert ours is not None
    torch.testing.assert_close(ours, truth)


@each_operator
def test_autocast_does_not_reach_the_backward_pass(kind: str) -> None:
    block = Block(kind, torch.float32)
    expected = block.gradients(block.ours())
    out = block.ours()
    with torch.autocast("cpu", torch.bfloat16):
        gradients = block.gradients(out)
    torch.testing.assert_close(gradients, expected)


@each_operator
def test_forward_under_autocast_and_backward_without(kind: str) -> None:
    block = Block(kind, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = block.ours()
    truth = block.truth()
    torch.testing.assert_close(ours.float(), truth, atol=0.1, rtol=0.02)
    for a, b in zip(block.gradients(ours), block.gradients(truth), strict=True):
        assert a.dtype == b.dtype
        assert float((a - b).abs().max()) < 0.03 * float(b.abs().max())


def doubled_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type("Doubled", (kind,), {"forward": lambda self, x: 2 * kind.forward(self, x)})


CHANGES: dict[str, Callable[[Any], Any]] = {
    "forward hook": lambda layer: layer.register_forward_hook(lambda _layer, _args, out: 2 * out),
    "forward pre-hook": lambda layer: layer.register_forward_pre_hook(lambda _layer, args: (2 * args[0],)),
    "backward hook": lambda layer: layer.register_full_backward_hook(lambda _layer, of_x, _of_out: (2 * of_x[0],)),
    "backward pre-hook": lambda layer: layer.register_full_backward_pre_hook(lambda _layer, of_out: (2 * of_out[0],)),
    "subclass": lambda layer: setattr(layer, "__class__", doubled_class(type(layer))),
    "own forward": lambda layer: setattr(layer, "forward", lambda x: 2 * type(layer).forward(layer, x)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in LAYERS.items() for name in names])
def test_changed_layers_are_called(kind: str, name: str, change: str) -> None:
    block = Block(kind)
    before = block.gradients(block.ours())
    CHANGES[change](block.layers[name])
    block.check()
    changed = [not torch.allclose(a, b) for a, b in zip(before, block.gradients(block.ours()), strict=True)]
    assert any(changed)


@pytest.mark.parametrize("kind", [kind for kind, names in LAYERS.items() if names])
def test_hooks_of_all_modules_are_called(kind: str) -> None:
    block = Block(kind)
    called = []
    handle = nn_module.register_module_forward_hook(lambda layer, _args, _out: called.append(layer))
    try:
        block.ours()
    finally:
        handle.remove()
    assert set(called) == set(block.layers.values())
