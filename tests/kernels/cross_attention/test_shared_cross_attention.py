# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import copy
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from bench.process_group import in_process_group
from mesm_plugin.kernels import SharedCrossAttention
from mesm_plugin.kernels.cpu import operators_are_loaded
from tests.kernels.conftest import needs_bfloat16
from tests.kernels.host_sync_guard import host_sync_guard

DIMS, HEADS = 32, 2
# Pairs of clips and words, and videos of queries.
WORDS_INDEX, CLIPS_INDEX = [0, 1, 2, 1], [0, 0, 1]


def multihead_attention(device: torch.device) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(DIMS, HEADS, batch_first=True)
    nn.init.normal_(module.in_proj_bias)
    nn.init.normal_(module.out_proj.bias)
    return module.to(device)


def shared(device: torch.device, backend: Any = "triton", dropout: float = 0.0) -> SharedCrossAttention:
    """A module with the parameters of `multihead_attention`."""
    module = SharedCrossAttention(DIMS, HEADS, dropout, backend)
    module.load_state_dict(multihead_attention(torch.device("cpu")).state_dict())
    return module.to(device)


def both_inputs(device: torch.device, *, indexed: bool, key_is_value: bool) -> dict[str, Any]:
    """Keyword arguments of `both_directions`: 4 pairs, 3 queries, 2 videos; 3 of each without indices."""
    generator = torch.Generator().manual_seed(0)

    def normal(items: int, length: int) -> Tensor:
        return torch.randn(items, length, DIMS, generator=generator).to(device).requires_grad_()

    pairs, videos = (4, 2) if indexed else (3, 3)
    words_key, clips_key = normal(3, 5), normal(videos, 20)
    words_mask, clips_mask = (
        torch.rand(pairs, 5, generator=generator) < 0.8,
        torch.rand(3, 20, generator=generator) < 0.8,
    )
    words_mask[:, 0] = clips_mask[:, 0] = True
    return {
        "clips_query": normal(pairs, 20),
        "words_key": words_key,
        "words_value": words_key if key_is_value else normal(3, 5),
        "words_mask": words_mask.to(device),
        "words_index": torch.tensor(WORDS_INDEX, device=device) if indexed else None,
        "words_query": normal(3, 5),
        "clips_key": clips_key,
        "clips_value": clips_key if key_is_value else normal(videos, 20),
        "clips_mask": clips_mask.to(device),
        "clips_index": torch.tensor(CLIPS_INDEX, device=device) if indexed else None,
    }


def gradients(outputs: tuple[Tensor, ...], module: nn.Module, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Of the inputs and parameters, for random gradients of the outputs."""
    leaves = {name: x for name, x in inputs.items() if isinstance(x, Tensor) and x.requires_grad}
    leaves |= dict(module.named_parameters())
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(x.shape, generator=generator).to(x) for x in outputs]
    found = torch.autograd.grad(outputs, list(leaves.values()), upstream)
    return dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize("key_is_value", [False, True], ids=["key and value", "key is value"])
@pytest.mark.parametrize("indexed", [False, True], ids=["one to one", "indexed"])
def test_both_directions_equal_multihead_attention(
    indexed: bool, key_is_value: bool, backend: str, kernel_device: torch.device
) -> None:
    inputs = both_inputs(kernel_device, indexed=indexed, key_is_value=key_is_value)
    theirs, ours = multihead_attention(kernel_device), shared(kernel_device, backend)

    def attend(query: str, side: str) -> Tensor:
        index = inputs[f"{side}_index"]
        key, value = (inputs[f"{side}_{x}"] for x in ("key", "value"))
        if index is not None:
            key, value = key[index], value[index]
        return theirs(inputs[query], key, value, key_padding_mask=~inputs[f"{side}_mask"])[0]

    expected = attend("clips_query", "words"), attend("words_query", "clips")
    outputs = ours.both_directions(**inputs)
    for x, y in zip(outputs, expected, strict=True):
        torch.testing.assert_close(x, y)
    expected_gradients = gradients(expected, theirs, inputs)
    for name, x in gradients(outputs, ours, inputs).items():
        torch.testing.assert_close(x, expected_gradients[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize("key_is_value", [False, True], ids=["key and value", "key is value"])
def test_one_direction_equals_multihead_attention(
    key_is_value: bool, backend: str, kernel_device: torch.device
) -> None:
    both = both_inputs(kernel_device, indexed=True, key_is_value=key_is_value)
    theirs, ours = multihead_attention(kernel_device), shared(kernel_device, backend)
    names = ("clips_query", "words_key", "words_value", "words_mask", "words_index")
    query, key, value, mask, index = (both[name] for name in names)
    inputs = {name: both[name] for name in names}
    expected = theirs(query, key[index], value[index], key_padding_mask=~mask)[0]
    out = ours(query, key, value, mask, index)
    torch.testing.assert_close(out, expected)
    expected_gradients = gradients((expected,), theirs, inputs)
    for name, x in gradients((out,), ours, inputs).items():
        torch.testing.assert_close(x, expected_gradients[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(ours(query, key[index], value[index], mask), expected)


def test_masked_items_get_the_bias_alone(kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=True, key_is_value=True)
    inputs["words_mask"][1] = False
    module = shared(kernel_device)
    clips, _ = module.both_directions(**inputs)
    torch.testing.assert_close(clips[1], module.out_proj.bias.expand(20, -1))


def test_parameters_are_those_of_multihead_attention() -> None:
    theirs, ours = nn.MultiheadAttention(DIMS, HEADS, batch_first=True), SharedCrossAttention(DIMS, HEADS)
    shapes = [{name: x.shape for name, x in module.state_dict().items()} for module in (theirs, ours)]
    assert shapes[0] == shapes[1]
    # And so is the distribution of their first values.
    limit = (6 / (4 * DIMS)) ** 0.5
    for module in (theirs, ours):
        assert 0.95 * limit < module.in_proj_weight.abs().max() <= limit
        assert (module.in_proj_bias == 0).all()
        assert (module.out_proj.bias == 0).all()


def test_dropout_is_for_training(kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=True, key_is_value=True)
    module, without = shared(kernel_device, dropout=0.4), shared(kernel_device)
    torch.manual_seed(3)
    first, second = module.both_directions(**inputs), module.both_directions(**inputs)
    torch.manual_seed(3)
    again = module.both_directions(**inputs)
    expected = without.both_directions(**inputs)
    for x, y, z, none in zip(first, second, again, expected, strict=True):
        assert torch.equal(x, z)
        assert not torch.equal(x, y)
        assert not torch.allclose(x, none, atol=0.01)
    module.eval()
    for x, none in zip(module.both_directions(**inputs), expected, strict=True):
        assert torch.equal(x, none)


def test_directions_drop_different_weights(kernel_device: torch.device) -> None:
    module = shared(kernel_device, dropout=0.5)
    x = torch.randn(2, 5, DIMS, device=kernel_device)
    mask = torch.ones(2, 5, dtype=torch.bool, device=kernel_device)
    clips, words = module.both_directions(x, x, x, mask, None, x, x, x, mask, None)
    assert not torch.allclose(clips, words, atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((32, 5), "heads must divide dims, got dims=32 and heads=5"),
        ((32, 2, 0.1, "cuda"), "backend must be one of .*, got 'cuda'"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SharedCrossAttention(*arguments)


# --- use with PyTorch


def test_copies_and_pickles(kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=True, key_is_value=True)
    module = shared(kernel_device, dropout=0.25)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert (other.heads, other.dropout, other.backend, other.training) == (HEADS, 0.25, "triton", True)
        assert other.in_proj_weight is not module.in_proj_weight
        outputs = []
        for each in (module, other):
            torch.manual_seed(2)
            outputs.append(each.both_directions(**inputs))
        assert all(torch.equal(x, y) for x, y in zip(*outputs, strict=True))


def test_autocast_in_bfloat16(kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=True, key_is_value=True)
    module = shared(kernel_device)
    expected = module.both_directions(**inputs)
    expected_gradients = gradients(expected, module, inputs)
    with torch.autocast(kernel_device.type, dtype=torch.bfloat16):
        outputs = module.both_directions(**inputs)
    for x, y in zip(outputs, expected, strict=True):
        assert x.dtype == torch.bfloat16
        torch.testing.assert_close(x.float(), y, rtol=0.05, atol=0.05)
    for name, x in gradients(outputs, module, inputs).items():
        assert x.dtype == torch.float32
        scale = expected_gradients[name].abs().max().item()
        torch.testing.assert_close(
            x, expected_gradients[name], rtol=0, atol=0.03 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@needs_bfloat16
def test_autocast_on_a_cpu() -> None:
    if not operators_are_loaded():
        pytest.skip("the C++ operators are not there")
    cpu = torch.device("cpu")
    inputs = {**both_inputs(cpu, indexed=True, key_is_value=True)}
    module = shared(cpu, "auto")
    expected = module.both_directions(**inputs)
    expected_gradients = gradients(expected, module, inputs)
    inputs["clips_query"] = inputs["clips_query"].detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = module.both_directions(**inputs)
        one = module(*(inputs[name] for name in list(inputs)[:5]))
    assert torch.equal(one, outputs[0])
    for x, y in zip(outputs, expected, strict=True):
        assert x.dtype == torch.float32
        assert 1e-4 < (x - y).abs().max() / y.abs().max() < 0.02
    for name, x in gradients(outputs, module, inputs).items():
        assert x.dtype == (torch.bfloat16 if name == "clips_query" else torch.float32)
        y = expected_gradients[name]
        assert (x - y).abs().max() / y.abs().max() < 0.03, name


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool, kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=True, key_is_value=True)
    found = []
    for checkpointed in (False, True):
        module = shared(kernel_device, dropout=0.4)
        torch.manual_seed(3)
        if checkpointed:
            outputs = checkpoint(module.both_directions, *inputs.values(), use_reentrant=use_reentrant)
        else:
            outputs = module.both_directions(**inputs)
        sum(x.square().sum() for x in outputs).backward()
        found.append({name: x.grad for name, x in module.named_parameters()})
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name


def compare_with_data_parallel(_rank: int, device: torch.device) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = shared(device, dropout=0.4)

        def forward(self, **inputs: Any) -> tuple[Tensor, Tensor]:
            return self.attention.both_directions(**inputs)

    inputs = both_inputs(device, indexed=True, key_is_value=True)
    found = []
    for module in (Block(), DistributedDataParallel(Block())):
        torch.manual_seed(3)
        sum(x.square().sum() for x in module(**inputs)).backward()
        found.append([x.grad for x in module.parameters()])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_distributed_data_parallel(kernel_device: torch.device) -> None:
    # In a process of its own: what PyTorch imports meanwhile keeps the group, whose threads can abort Python's end.
    in_process_group(compare_with_data_parallel, 1, kernel_device)


@pytest.mark.parametrize("key_is_value", [False, True], ids=["key and value", "key is value"])
def test_a_step_never_waits_for_the_device(key_is_value: bool) -> None:
    meta = torch.device("meta")
    inputs = both_inputs(meta, indexed=True, key_is_value=key_is_value)
    module = SharedCrossAttention(DIMS, HEADS, 0.1, "triton").to(meta)
    with host_sync_guard():
        outputs = module.both_directions(**inputs)
        sum(x.sum() for x in outputs).backward()
    assert [x.shape for x in outputs] == [inputs["clips_query"].shape, inputs["words_query"].shape]
    assert module.in_proj_weight.grad.shape == module.in_proj_weight.shape


class Operators(TorchDispatchMode):
    """Counts the operators that run on a device, by name: all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not func.is_view:
            self.counts[func.name().partition(".")[0].partition("::")[2]] += 1
        return func(*args, **(kwargs or {}))


PACKING = ("cat", "stack", "index_select", "index_add", "new_zeros")


@pytest.mark.parametrize("indexed", [False, True], ids=["one to one", "indexed"])
def test_operators_of_a_step(indexed: bool, kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=indexed, key_is_value=True)
    module = shared(kernel_device, dropout=0.1)
    upstream = [torch.ones_like(inputs[name]) for name in ("clips_query", "words_query")]
    with Operators() as operators:
        outputs = module.both_directions(**inputs)
        forward = dict(operators.counts)
        torch.autograd.backward(outputs, upstream)
    backward = operators.counts - Counter(forward)
    packing = {name: n for name, n in operators.counts.items() if name in PACKING}
    assert {name: n for name, n in forward.items() if name not in PACKING} == {
        "addmm": 3,
        "randint": 1,
        "bidirectional_cross_attention": 1,
    }
    assert {name: n for name, n in backward.items() if name not in PACKING} == {
        "mm": 6,
        "sum": 3,
        "bidirectional_cross_attention_backward": 1,
    }
    # Rows of both directions to and from a product each, gradients of keys with values, and those of shared parameters.
    assert packing == {"cat": 8, "stack": 2} | ({"index_select": 2, "index_add": 2, "new_zeros": 2} if indexed else {})


def test_projections_are_attended_in_place(kernel_device: torch.device) -> None:
    inputs = both_inputs(kernel_device, indexed=True, key_is_value=True)
    module = shared(kernel_device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        outputs = module.both_directions(**inputs)
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
    # Inside of the operators as well.
    names = Counter(event.name for event in profile.events())
    assert names["mesm_plugin::bidirectional_cross_attention"] == 1
    assert names["aten::clone"] == names["aten::contiguous"] == 0
