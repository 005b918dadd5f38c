# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import Tensor, nn

from mesm_plugin.kernels import SharedCrossAttention, projected_attention
from mesm_plugin.kernels.cpu import suitable as suitable_module
from mesm_plugin.kernels.cpu.suitable import has_bfloat16
from mesm_plugin.models.layers.self_attention import SelfAttention

DIMS, HEADS = 16, 2
INDEX = torch.tensor([0, 2, 2, 0, 2])


class Case:
    """Five items of seven queries that attend to three of nine keys (or to themselves), some of each being padding.

    With "few", forty queries attend to three keys, for which the projections of queries and outputs are absorbed.
    """

    def __init__(self, kind: str, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        queries, keys = (40, 3) if "few" in kind else (7, 9)
        self.query = torch.randn(5, queries, DIMS, dtype=dtype, requires_grad=True)
        self.position = torch.randn(5, queries, DIMS, dtype=dtype, requires_grad=True) if "position" in kind else None
        attends_to_itself = "self" in kind
        self.key = None if attends_to_itself else torch.randn(3, keys, DIMS, dtype=dtype, requires_grad=True)
        self.value = torch.randn(3, keys, DIMS, dtype=dtype, requires_grad=True) if "value" in kind else self.key
        self.index = None if attends_to_itself else INDEX
        self.mask = torch.rand(5, queries if attends_to_itself else keys) < 0.6
        self.mask[:, 0] = True
        self.mask[3] = False
        self.rows_mask = torch.rand(5, queries) < 0.7
        self.in_weight = torch.randn(3 * DIMS, DIMS, dtype=dtype, requires_grad=True)
        self.in_bias = torch.randn(3 * DIMS, dtype=dtype, requires_grad=True)
        self.out_proj = nn.Linear(DIMS, DIMS, dtype=dtype)

    def inputs(self) -> list[Tensor]:
        value = None if self.value is self.key else self.value
        given = (self.query, self.position, self.key, value, self.in_weight, self.in_bias, *self.out_proj.parameters())
        return [x for x in given if x is not None]

    def ours(self, rows_mask: Tensor | None, dropout_p: float = 0.0) -> Tensor:
        out = projected_attention(
            self.query,
            self.position,
            self.key,
            self.value,
            self.mask,
            self.in_weight,
            self.in_bias,
            self.out_proj,
            HEADS,
            dropout_p,
            rows_mask,
            self.index,
        )
        assert out is not None
        return out

    def truth(self) -> Tensor:
        query = self.query if self.position is None else self.query + self.position
        key = query if self.key is None else self.key.index_select(0, INDEX)
        value = self.query if self.value is None else self.value.index_select(0, INDEX)
        weights, biases = self.in_weight.chunk(3), self.in_bias.chunk(3)
        heads = (
            (x @ weight.T + bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        q, k, v = heads
        products = (q @ k.mT * (DIMS // HEADS) ** -0.5).masked_fill(~self.mask[:, None, None], -torch.inf)
        attended = products.softmax(-1).nan_to_num(0.0) @ v
        return self.out_proj(attended.transpose(1, 2).flatten(2))


KINDS = ("self", "self, position", "key", "key, value", "key, value, position", "few: key", "few: key, value, position")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_pytorch(kind: str, masked: bool) -> None:
    case = Case(kind)
    ours, truth = case.ours(case.rows_mask if masked else None), case.truth()
    read = case.rows_mask if masked else torch.ones_like(case.rows_mask)
    torch.testing.assert_close(ours[read], truth[read])
    assert (ours[~read] == 0).all()
    weights = torch.randn_like(truth) * read[..., None]
    gradients = (torch.autograd.grad((out * weights).sum(), case.inputs()) for out in (ours, truth))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["self, position", "key, value", "few: key, value"])
def test_gradients_with_dropout(kind: str) -> None:
    case = Case(kind)
    rest = (HEADS, 5, 0.3, True)

    def run(query: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor, *sources: Tensor) -> Tensor:
        key, value = sources or (None, None)
        given = (query, case.position, key, value, case.mask, case.rows_mask, case.index, weight, bias, out_weight)
        return torch.ops.mesm_plugin.projected_attention(*given, case.out_proj.bias, *rest)[0]

    sources = [x for x in (case.key, case.value) if x is not None]
    inputs = (case.query, case.in_weight, case.in_bias, case.out_proj.weight, *sources)
    assert torch.autograd.gradcheck(run, inputs, nondet_tol=0.0)


def test_projections_are_absorbed_into_few_keys_but_not_in_bfloat16() -> None:
    for kind, bfloat16, projected in (("few: key", False, False), ("key", False, True), ("few: key", True, True)):
        case = Case(kind, torch.float32)
        sources = (case.query, None, case.key, None, case.mask, None, case.index, case.in_weight, case.in_bias)
        if bfloat16 and not has_bfloat16():
            continue
        outputs = torch.ops.mesm_plugin.projected_attention(
            *sources, *case.out_proj.parameters(), HEADS, None, 0.0, True, bfloat16
        )
        assert (outputs[1].numel() > 0) == projected


@pytest.mark.parametrize("kind", ["key, value", "few: key, value"])
def test_padding_is_not_read(kind: str) -> None:
    case = Case(kind, torch.float32)
    assert case.key is not None
    assert case.value is not None
    needed = torch.zeros(case.key.shape[:2], dtype=torch.bool)
    for item, mask in zip(INDEX, case.mask, strict=True):
        needed[item] |= mask
    with torch.no_grad():
        expected = case.ours(case.rows_mask)
        case.query[~case.rows_mask] = torch.nan
        case.key[~needed] = torch.nan
        case.value[~needed] = torch.nan
    out = case.ours(case.rows_mask)
    assert torch.equal(out, expected)
    gradients = torch.autograd.grad(out.sum(), case.inputs())
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", ["key", "few: key"])
def test_dropout_follows_the_seed_of_pytorch_and_keeps_the_mean(kind: str) -> None:
    case = Case(kind)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(case.ours(None, 0.4))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    drawn = torch.stack([case.ours(None, 0.4) for _ in range(4000)])
    error = drawn.std(dim=0) / 4000**0.5
    assert ((drawn.mean(dim=0) - case.truth()).abs() <= 5 * error + 1e-9).all()


@pytest.mark.parametrize("kind", ["key, value", "few: key, value"])
def test_any_number_of_threads_drops_the_same_weights(kind: str) -> None:
    case = Case(kind)
    outputs = []
    threads = torch.get_num_threads()
    for number in (1, 3):
        torch.set_num_threads(number)
        torch.manual_seed(3)
        outputs.append(case.ours(case.rows_mask, 0.5))
    torch.set_num_threads(threads)
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


def test_modules_give_the_same_numbers_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    cross, alone = SharedCrossAttention(DIMS, HEADS).double(), SelfAttention(DIMS, HEADS, 0.0).double()
    nn.init.normal_(alone.in_proj_weight)
    case = Case("key, value, position")
    assert case.position is not None
    assert case.key is not None
    assert case.value is not None

    def run() -> tuple[Tensor, ...]:
        assert case.position is not None
        assert case.key is not None
        assert case.value is not None
        one = cross(case.query, case.key, case.value, case.mask, INDEX, case.position)
        both = cross.both_directions(
            case.query, case.key, case.value, case.mask, INDEX, case.key, case.query, case.query,
            torch.ones(3, 7).bool(), torch.tensor([4, 1, 0]), case.position, case.value,
        )  # fmt: skip
        return (one, *both, alone(case.query, case.position, case.mask[:, :7]))

    ours = run()
    monkeypatch.setattr(suitable_module, "operators_are_loaded", lambda: False)
    torch.testing.assert_close(ours, run())


def test_indices_and_masks_are_checked() -> None:
    case = Case("key")
    case.index = torch.tensor([0, 1, 3, 0, 0])
    with pytest.raises(IndexError, match=r"index must be in \[0, 3\), got 3"):
        case.ours(None)
    case.index, case.mask = INDEX, case.mask[:, :8]
    with pytest.raises(
        ValueError, match=r"key_mask must be bool of shape \[5, 9\] on the CPU, got Bool of shape \[5, 8\]"
    ):
        case.ours(None)


def test_a_position_may_be_the_same_for_all_items() -> None:
    case = Case("self, position")
    assert case.position is not None
    whole = case.position[:1].detach().repeat(5, 1, 1)
    case.position = case.position[:1]
    ours = case.ours(None)
    case.position = whole
    torch.testing.assert_close(ours, case.ours(None))


@pytest.mark.parametrize("what", ["rows_mask", "index", "value", "heads", "no heads"])
def test_sizes_that_do_not_fit_are_refused(what: str) -> None:
    case = Case("key, value")
    rows_mask, heads = case.rows_mask, HEADS
    if what == "rows_mask":
        rows_mask = rows_mask[:4]
    elif what == "index":
        case.index = INDEX[:4]
    elif what == "value":
        assert case.value is not None
        case.value = case.value[:, :8]
    else:
        heads = 3 if what == "heads" else 0
    parameters = (case.in_weight, case.in_bias, case.out_proj, heads, 0.0, rows_mask, case.index)
    with pytest.raises(ValueError, match="must|do not fit"):
        projected_attention(case.query, None, case.key, case.value, case.mask, *parameters)


@pytest.mark.parametrize("why", ["no operators", "meta", "float mask", "float16", "no bfloat16", "float64"])
def test_what_it_does_not_take(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"float16": torch.float16, "no bfloat16": torch.bfloat16, "float64": torch.bfloat16}
    case = Case("self", torch.float32 if why in ("float16", "no bfloat16") else torch.float64)
    if why == "no operators":
        monkeypatch.setattr(suitable_module, "operators_are_loaded", lambda: False)
    query = case.query.to("meta") if why == "meta" else case.query
    mask = case.mask.float() if why == "float mask" else case.mask
    given = (query, None, None, None, mask, case.in_weight, case.in_bias, case.out_proj, HEADS, 0.0)
    monkeypatch.setattr("mesm_plugin.kernels.cpu.suitable.has_bfloat16", lambda: why != "no bfloat16")
    with torch.autocast("cpu", asked.get(why), enabled=why in asked):
        assert projected_attention(*given) is None
