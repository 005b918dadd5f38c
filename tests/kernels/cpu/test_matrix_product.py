# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Under autocast to bfloat16 factors of matrix products are rounded, the products, and what is hidden between them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mesm_plugin.kernels import feed_forward, perceptron, projected_attention
from tests.kernels.conftest import needs_bfloat16

pytestmark = needs_bfloat16
DIMS, HEADS = 32, 2
# Items and rows of each: 1, 63, 65 and 130 in all, of which none is a multiple of 16.
SHAPES = [(1, 1), (3, 21), (5, 13), (2, 65)]
Linear = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Each thread rounds the products of its own rows, which are then added up.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).to(x.dtype)


class RoundedProduct(torch.autograd.Function):
    """x weight^T of rounded factors, rounded; of the weight's gradient each stretch of rows is a product of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stretch: int) -> Tensor:
        ctx.save_for_backward(rounded(x), rounded(weight))
        ctx.stretch = stretch
        return rounded(rounded(x) @ rounded(weight).T)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        above = rounded(gradient)
        rows = (part.flatten(0, -2).split(ctx.stretch) for part in (above, x))
        of_weight = [rounded(a.T @ b) for a, b in zip(*rows, strict=True)]
        return rounded(above @ weight), torch.stack(of_weight).sum(dim=0), None


def rounded_linear(stretch: int = 512) -> Linear:
    return lambda x, weight, bias: RoundedProduct.apply(x, weight, stretch) + bias


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype).requires_grad_()


class Case:
    """Inputs of an operator: x and what is like it in bfloat16 or float32, parameters in float32."""

    def __init__(self, shape: tuple[int, int], masked: bool) -> None:
        torch.manual_seed(0)
        self.mask = torch.rand(shape) < 0.7 if masked else torch.ones(shape, dtype=torch.bool)
        self.mask[:, 0] = True
        self.named: dict[str, Tensor] = {}

    def ours(self) -> Tensor:
        raise NotImplementedError

    def truth(self, linear: Linear, **named: Tensor) -> Tensor:
        """The same at valid rows, by PyTorch."""
        raise NotImplementedError


class FeedForwardCase(Case):
    def __init__(self, shape: tuple[int, int], masked: bool, hidden: int = 48) -> None:
        super().__init__(shape, masked)
        self.linear1, self.activation = nn.Linear(DIMS, hidden), nn.PReLU(init=0.3)
        self.linear2, self.norm = nn.Linear(hidden, DIMS), nn.LayerNorm(DIMS)
        self.dropout = nn.Dropout(0.0)
        nn.init.normal_(self.norm.weight)
        self.named = {
            "x": normal(*shape, DIMS, dtype=torch.bfloat16),
            "residual": normal(*shape, DIMS),
            "weight1": self.linear1.weight,
            "bias1": self.linear1.bias,
            "slope": self.activation.weight,
            "weight2": self.linear2.weight,
            "bias2": self.linear2.bias,
            "gamma": self.norm.weight,
            "beta": self.norm.bias,
        }

    def ours(self) -> Tensor:
        layers = (self.linear1, self.activation, self.dropout, self.linear2, self.norm)
        return feed_forward(self.named["x"], self.named["residual"], *layers, self.mask)[self.mask]

    def truth(self, linear: Linear, **named: Tensor) -> Tensor:
        before = linear(named["x"][self.mask], named["weight1"], named["bias1"])
        if linear is not F.linear:
            before = before + (rounded(before) - before).detach()
        hidden = F.prelu(before, named["slope"])
        total = named["residual"][self.mask] + linear(hidden, named["weight2"], named["bias2"])
        return F.layer_norm(total, (DIMS,), named["gamma"], named["beta"])


class PerceptronCase(Case):
    def __init__(self, shape: tuple[int, int], masked: bool) -> None:
        super().__init__(shape, masked)
        self.layers = [nn.Linear(DIMS, 48), nn.Linear(48, 40), nn.Linear(40, 24)]
        self.named = {"x": normal(*shape, DIMS, dtype=torch.bfloat16)}
        for i, layer in enumerate(self.layers):
            self.named |= {f"weight{i}": layer.weight, f"bias{i}": layer.bias}

    def ours(self) -> Tensor:
        first, second, third = self.layers
        modules = [first, nn.ReLU(), second, nn.ReLU(), third]
        return perceptron(self.named["x"], modules)[self.mask]

    def truth(self, linear: Linear, **named: Tensor) -> Tensor:
        x = named["x"]
        for i in range(3):
            x = linear(x if i == 0 else x.relu(), named[f"weight{i}"], named[f"bias{i}"])
        return x[self.mask]


class AttentionCase(Case):
    """Queries that attend to one another, or to as many keys that are not their values."""

    def __init__(self, shape: tuple[int, int], masked: bool, crosses: bool = False) -> None:
        super().__init__(shape, masked)
        self.out = nn.Linear(DIMS, DIMS)
        self.named = {"query": normal(*shape, DIMS, dtype=torch.bfloat16), "position": normal(*shape, DIMS)}
        if crosses:
            self.named |= {"key": normal(*shape, DIMS), "value": normal(*shape, DIMS, dtype=torch.bfloat16)}
        parameters = {"in_weight": nn.Parameter(0.3 * torch.randn(3 * DIMS, DIMS)), "in_bias": normal(3 * DIMS)}
        self.named |= {**parameters, "out_weight": self.out.weight, "out_bias": self.out.bias}

    def ours(self, dropout_p: float = 0.0) -> Tensor:
        sources = (self.named.get(name) for name in ("query", "position", "key", "value"))
        parameters = (self.named["in_weight"], self.named["in_bias"], self.out, HEADS, dropout_p)
        out = projected_attention(*sources, self.mask, *parameters, self.mask)
        assert out is not None
        return out[self.mask]

    def truth(self, linear: Linear, **named: Tensor) -> Tensor:
        query = named["query"] + named["position"]
        sources = (query, named.get("key", query), named.get("value", named["query"]))
        q, k, v = (
            linear(x, weight, bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for x, weight, bias in zip(sources, named["in_weight"].chunk(3), named["in_bias"].chunk(3), strict=True)
        )
        products = (q @ k.mT * (DIMS // HEADS) ** -0.5).masked_fill(~self.mask[:, None, None], -torch.inf)
        attended = (products.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return linear(attended, named["out_weight"], named["out_bias"])[self.mask]


def cross_attention_case(shape: tuple[int, int], masked: bool) -> AttentionCase:
    return AttentionCase(shape, masked, crosses=True)


Make = Callable[[tuple[int, int], bool], Any]
each_operator = pytest.mark.parametrize("make", [FeedForwardCase, PerceptronCase, AttentionCase, cross_attention_case])


def autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def gradients(out: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    above = torch.randn(out.shape, generator=generator).to(out.dtype)
    return dict(zip(inputs, torch.autograd.grad((out * above).sum(), list(inputs.values())), strict=True))


def results(case: Case) -> dict[str, Tensor]:
    with autocast():
        out = case.ours()
    return {"out": out, **gradients(out, case.named)}


def expected(case: Case, linear: Linear) -> dict[str, Tensor]:
    named = {name: x.detach().double().requires_grad_() for name, x in case.named.items()}
    out = case.truth(linear, **named)
    return {"out": out, **gradients(out, named)}


def error(a: Tensor, b: Tensor) -> float:
    """Of `a`, relative to the length of `b`, which may be a zero but for rounding."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm()) / max(float(b.norm()), 1.0)


def check(ours: dict[str, Tensor], case: Case, stretch: int = 512) -> None:
    """Outputs and gradients are those of rounded products, in the dtypes that are due."""
    truth, exact = expected(case, rounded_linear(stretch)), expected(case, F.linear)
    assert ours["out"].dtype == torch.float32
    for name, x in ours.items():
        assert name == "out" or x.dtype == case.named[name].dtype, name
        # A sum in another order is now and then rounded to the other side.
        of_rounded, of_exact = (error(x, other[name].to(x.dtype)) for other in (truth, exact))
        assert of_rounded < 2e-3, (name, of_rounded)
        if name == "out" or "weight" in name:
            assert of_rounded < 0.2 * of_exact, (name, of_rounded, of_exact)


@each_operator
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_factors_and_products_are_rounded(make: Make, shape: tuple[int, int], masked: bool) -> None:
    case = make(shape, masked)
    check(results(case), case)


def test_several_stretches_of_rows() -> None:
    case = FeedForwardCase((2, 300), False, hidden=1024)
    ours = results(case)
    # 2^18 hidden numbers at once would be 256 rows: three stretches of
    # equal length but for whole steps of 16.
    check(ours, case, stretch=208)
    whole = expected(case, rounded_linear(600))["weight1"]
    assert error(ours["weight1"], whole) > 1e-3


@each_operator
def test_gradients_do_not_depend_on_where_they_are_computed(make: Make) -> None:
    case = make((5, 13), True)
    outside = results(case)
    with autocast():
        inside = gradients(case.ours(), case.named)
    for name, x in inside.items():
        assert torch.equal(x, outside[name]), name


@each_operator
def test_without_gradients(make: Make) -> None:
    case = make((5, 13), True)
    with autocast():
        trained = case.ours()
        with torch.no_grad():
            assert torch.equal(case.ours(), trained)
        with torch.inference_mode():
            assert torch.equal(case.ours(), trained)


@each_operator
@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_without_rows(make: Make, shape: tuple[int, int]) -> None:
    case = make((2, 3), False)
    case.mask = torch.ones(shape, dtype=torch.bool)
    for name in {"x", "residual", "query", "position", "key", "value"} & case.named.keys():
        case.named[name] = normal(*shape, DIMS, dtype=case.named[name].dtype)
    for name, x in results(case).items():
        assert (x == 0).all(), name


@pytest.mark.parametrize("make", [FeedForwardCase, AttentionCase])
def test_drops_what_it_drops_in_float32(make: Make) -> None:
    case = make((5, 13), True)
    if isinstance(case, FeedForwardCase):
        case.dropout.p = 0.5
    options = {"dropout_p": 0.5} if isinstance(case, AttentionCase) else {}
    case.named = {name: x.detach().float() for name, x in case.named.items()}
    outputs = []
    for seed, enabled in ((1, True), (1, False), (2, False)):
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs.append(case.ours(**options))
    same, other = (error(outputs[0], out) for out in outputs[1:])
    assert 1e-5 < same < 0.02 < 0.1 < other


def test_only_float32_is_rounded() -> None:
    x, weight, bias = torch.randn(2, 4).double(), torch.randn(3, 4).double(), torch.randn(3).double()
    with pytest.raises(ValueError, match="only float32 is rounded to bfloat16, got weights of Double"):
        torch.ops.mesm_plugin.perceptron(x, [weight], [bias], True)


def test_a_parameter_of_float64_goes_to_pytorch() -> None:
    layer = nn.Linear(4, 3).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    with autocast():
        assert torch.equal(perceptron(x, [layer]), layer(x))
