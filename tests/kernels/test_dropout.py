# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import copy
import functools
import math
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import cpp_extension
from torch.utils.checkpoint import checkpoint

from mesm_plugin.kernels.cpu import build
from mesm_plugin.kernels.cpu.suitable import plain_operators
from mesm_plugin.kernels.dropout import Dropout, dropout
from tests.kernels.python_philox import philox4x32

WORD = 2**32
ELEMENTS = 2**20


def forget_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call decides anew whether there is an operator; undone after the test."""
    monkeypatch.setattr(build, "_try_to_load", functools.cache(build._try_to_load.__wrapped__))


@pytest.fixture
def operator() -> Callable[..., torch.Tensor]:
    """The compiled operator: (x, seed, p)."""
    if shutil.which(cpp_extension.get_cxx_compiler()) is None:
        pytest.skip("there is no C++ compiler, so the C++ operators cannot be built; install g++")
    assert build.operators_are_loaded()
    return torch.ops.mesm_plugin.dropout.default


@pytest.fixture(params=["compiled", "pytorch"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """`dropout` by the operator and by PyTorch."""
    if request.param == "compiled":
        request.getfixturevalue("operator")
    else:
        forget_loading(monkeypatch)
        monkeypatch.setenv("MESM_CPP_OPERATORS", "0")
    return request.param


def words(seed: int, size: int) -> list[int]:
    """The random word of each of `size` elements: of 16 counters words 0 and 1 in turn, then words 2 and 3."""
    found = []
    for block in range(math.ceil(size / 64)):
        drawn = [philox4x32((16 * block + i, 0, 0, 0), seed) for i in range(16)]
        found += [word for four in drawn for word in four[:2]] + [word for four in drawn for word in four[2:]]
    return found[:size]


@pytest.mark.usefixtures("operator")
def test_plain_operators_are_pytorch_s() -> None:
    x = torch.ones(2000)
    torch.manual_seed(0)
    expected = F.dropout(x, 0.3)
    torch.manual_seed(0)
    with plain_operators():
        assert torch.equal(dropout(x, 0.3), expected)
    torch.manual_seed(0)
    assert not torch.equal(dropout(x, 0.3), expected)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 2000])
@pytest.mark.parametrize("seed", [0, 1, -1, 2**40 + 3, -(2**63)])
def test_mask_is_that_of_philox(operator: Callable[..., torch.Tensor], size: int, seed: int) -> None:
    expected = torch.tensor([word >= round(0.3 * WORD) for word in words(seed % 2**64, size)], dtype=torch.bool)
    out = operator(torch.ones(size), torch.tensor(seed), 0.3)
    assert (out != 0).equal(expected)


def test_p_is_exact_to_32_bits(operator: Callable[..., torch.Tensor]) -> None:
    word = words(7, 1)[0]
    for p, kept in ((word / WORD, True), ((word + 1) / WORD, False)):
        assert bool(operator(torch.ones(1), torch.tensor(7), p)) is kept
    # At the ends, where p rounds to 0 and to 1.
    assert operator(torch.ones(2000), torch.tensor(7), 1e-12).equal(torch.ones(2000))
    assert operator(torch.ones(2000), torch.tensor(7), 1 - 1e-12).count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_kept_elements_are_scaled_and_rounded_once(operator: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = operator(x, torch.tensor(0), 0.1)
    kept = out != 0
    expected = (x * (torch.tensor(1 / 0.9, dtype=torch.promote_types(dtype, torch.float32)))).to(dtype)
    assert out.dtype == dtype
    assert out[kept].equal(expected[kept])


def test_threads_do_not_matter(operator: Callable[..., torch.Tensor]) -> None:
    x, seed, threads = torch.randn(300_001), torch.tensor(3), torch.get_num_threads()
    try:
        outs = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            outs.append(operator(x, seed, 0.5))
    finally:
        torch.set_num_threads(threads)
    assert outs[0].equal(outs[1])
    assert outs[0].equal(outs[2])


def test_operator_obeys_pytorch_rules(operator: Any) -> None:
    x = torch.randn(9, 7, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(operator, (x, torch.tensor(5), 0.3))
    assert torch.autograd.gradcheck(lambda x: operator(x, torch.tensor(5), 0.3), x)
    assert torch.autograd.gradgradcheck(lambda x: operator(x, torch.tensor(5), 0.3), x)


def test_operator_names_bad_arguments(operator: Callable[..., torch.Tensor]) -> None:
    x, seed = torch.ones(3), torch.tensor(0)
    with pytest.raises(ValueError, match="p must be at least 0 and below 1, got 1"):
        operator(x, seed, 1.0)
    with pytest.raises(
        ValueError, match="seed must be an int64 tensor without dimensions on the CPU, got torch.FloatTensor"
    ):
        operator(x, torch.tensor(0.0), 0.5)
    with pytest.raises(NotImplementedError, match="\"dropout_cpu\" not implemented for 'Half'"):
        operator(x.half(), seed, 0.5)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_share_of_dropped_elements(implementation: str, p: float) -> None:
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(ELEMENTS), p) == 0).double()
    sigma = math.sqrt(p * (1 - p) / ELEMENTS)
    assert dropped.mean().item() == pytest.approx(p, abs=4 * sigma)
    # Whatever the place in a block of 64: a chi-squared sum of 64 terms, whose standard deviation is sqrt(128).
    shares = dropped.view(-1, 64).mean(dim=0)
    assert ((shares - p) ** 2 / (64 * sigma**2)).sum().item() == pytest.approx(64, abs=4 * math.sqrt(128))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_decisions_are_uncorrelated(implementation: str, p: float) -> None:
    torch.manual_seed(1)
    dropped, other = (((dropout(torch.ones(ELEMENTS), p) == 0).double() - p) / math.sqrt(p * (1 - p)) for _ in range(2))
    limit = 4 / math.sqrt(ELEMENTS)
    for distance in (1, 2, 3, 4, 16, 31, 32, 64, 256, 1024):
        correlation = (dropped[distance:] * dropped[:-distance]).mean().item()
        assert abs(correlation) < limit, f"elements {distance} apart: {correlation}"
    # Nor between one call and the next, nor between seeds that differ in one bit.
    assert abs((dropped * other).mean().item()) < limit


def test_neighbouring_seeds_are_uncorrelated(operator: Callable[..., torch.Tensor]) -> None:
    first, *others = (
        2 * (operator(torch.ones(ELEMENTS), torch.tensor(seed), 0.5) == 0).double() - 1
        for seed in (8, 9, 10, 8 + 2**32, 8 - 2**63)
    )
    for other in others:
        assert abs((first * other).mean().item()) < 4 / math.sqrt(ELEMENTS)


def test_backward_drops_what_forward_dropped(implementation: str) -> None:
    x = torch.randn(40, 60, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    out = dropout(x, 0.3)
    weight = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, x, weight)
    kept = out != 0
    torch.testing.assert_close(out, kept * x / 0.7)
    torch.testing.assert_close(gradient, kept * weight / 0.7)


def test_generator_decides(implementation: str) -> None:
    x = torch.ones(2000)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = dropout(x), dropout(x)
    assert not first.equal(second)
    torch.set_rng_state(state)
    assert dropout(x).equal(first)
    torch.manual_seed(1)
    assert not dropout(x).equal(first)


def test_layouts(implementation: str) -> None:
    x = torch.randn(40, 30, 8, dtype=torch.float64, requires_grad=True)
    for name, view in {
        "transposed": x.transpose(0, 1),
        "sliced": x[:, ::2],
        "expanded": x[:, :1].expand(-1, 30, -1),
        "one dimension": x.flatten(),
    }.items():
        out = dropout(view, 0.5)
        assert out.shape == view.shape, name
        assert ((out == 0) | (out == 2 * view)).all(), name
        weight = torch.randn(*out.shape[::-1], dtype=torch.float64).permute(*reversed(range(out.ndim)))
        (gradient,) = torch.autograd.grad(out, x, weight)
        (expected,) = torch.autograd.grad(view, x, weight * 2 * (out != 0))
        torch.testing.assert_close(gradient, expected, msg=lambda message, name=name: f"{name}: {message}")
        (of_the_sum,) = torch.autograd.grad(dropout(view, 0.5).sum(), x)
        assert of_the_sum.sum() == pytest.approx(view.numel(), rel=0.3), name


def test_what_is_not_a_number_stays_visible(implementation: str) -> None:
    assert dropout(torch.full((2000,), torch.nan)).isnan().all()


def test_nothing_to_draw(implementation: str) -> None:
    x = torch.randn(2000)
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 1.0).equal(torch.zeros(2000))
    assert dropout(x[:0], 0.5).shape == (0,)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_bad_p_is_named(implementation: str, p: float) -> None:
    for training in (True, False):
        with pytest.raises(ValueError, match=rf"p must be in \[0, 1\], got {p}"):
            dropout(torch.ones(2000), p, training)
    with pytest.raises(ValueError, match=rf"p must be in \[0, 1\], got {p}"):
        Dropout(p)


@pytest.mark.parametrize(
    "x", [torch.ones(1000), torch.ones(2000, dtype=torch.float16), nn.Parameter(torch.ones(2000))], ids=str
)
def test_other_tensors_go_to_pytorch(operator: object, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    ours = dropout(x, 0.5)
    torch.manual_seed(0)
    assert ours.equal(F.dropout(x, 0.5))


def test_meta_tensors(implementation: str) -> None:
    assert dropout(torch.ones(2000, device="meta")).shape == (2000,)


def test_transforms(implementation: str) -> None:
    x = torch.ones(3, 2000)
    gradient = torch.func.grad(lambda x: dropout(x, 0.5).sum())(x)
    assert gradient.unique().tolist() == [0, 2]
    _, tangent = torch.func.jvp(lambda x: dropout(x, 0.5), (x,), (x,))
    assert tangent.unique().tolist() == [0, 2]
    with torch.autograd.forward_ad.dual_level():
        out = dropout(torch.autograd.forward_ad.make_dual(x, 3 * x))
        value, tangent = torch.autograd.forward_ad.unpack_dual(out)
    assert torch.equal(tangent, 3 * value)
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(dropout)(x)
    different, same = (torch.vmap(dropout, randomness=way)(x) for way in ("different", "same"))
    assert not different[0].equal(different[1])
    assert same[0].equal(same[1])
    exported = torch.export.export(Dropout(), (x,), strict=True)
    assert "mesm_plugin" not in exported.graph_module.code


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(implementation: str, backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(dropout, backend=backend, fullgraph=True)
    for rows in (3, 4):
        x = torch.ones(rows, 2000, requires_grad=True)
        torch._dynamo.mark_dynamic(x, 0)
        torch.manual_seed(rows)
        out = compiled(x)
        assert out.unique().tolist() == [0, 2]
        assert out.mean().item() == pytest.approx(1, abs=0.08)
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert gradient.equal(out)
        assert not compiled(x).equal(out)
        torch.manual_seed(rows)
        assert compiled(x).equal(out)


def test_compiled_dropout_is_the_operator(operator: object) -> None:
    codes = []

    def backend(module: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        codes.append(module.code)
        return module

    torch._dynamo.reset()
    compiled = torch.compile(dropout, backend=backend, fullgraph=True)
    for rows in (3, 2000):
        x = torch.ones(rows, 2)
        torch._dynamo.mark_dynamic(x, 0)
        compiled(x)
    # Also where there are few elements, so that one graph does for all.
    assert len(codes) == 1
    assert "mesm_plugin" in codes[0]


def test_checkpointing_replays_the_mask(implementation: str) -> None:
    x = torch.ones(2000, requires_grad=True)
    torch.manual_seed(0)
    out = checkpoint(lambda x: dropout(x * x, 0.5), x, use_reentrant=False)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.equal(2 * out)


def test_module(implementation: str) -> None:
    module = Dropout(0.25)
    assert isinstance(module, nn.Dropout)
    assert repr(module) == "Dropout(p=0.25, inplace=False)"
    assert not module.state_dict()
    x = torch.ones(2000)
    torch.manual_seed(0)
    out = module(x)
    torch.manual_seed(0)
    assert out.equal(dropout(x, 0.25))
    assert copy.deepcopy(module).eval()(x) is x


@pytest.mark.parametrize("missing", ["compiler", "ninja"])
def test_what_is_missing_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    forget_loading(monkeypatch)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    if missing == "compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
        message = "C\\+\\+ compiler, but 'no-such-compiler' was not found: install g\\+\\+, or name one in CXX"
    else:
        monkeypatch.setenv("CXX", sys.executable)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(build.sysconfig, "get_path", lambda _: str(tmp_path))
        message = "pip install ninja"
    x = torch.ones(2000)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=message) as caught:
        outs = [dropout(x), dropout(x)]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "MESM_CPP_OPERATORS=0" in str(caught[0].message)
    torch.manual_seed(0)
    assert all(out.equal(F.dropout(x)) for out in outs)


def test_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_loading(monkeypatch)
    monkeypatch.setenv("MESM_CPP_OPERATORS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not build.operators_are_loaded()


def test_build_is_published_whole_and_waits_for_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    folders, loaded = [], []

    def load(name: str, sources: list[str], build_directory: str, **_: object) -> None:
        folders.append(Path(build_directory))
        # What PyTorch leaves behind if it is killed while it builds.
        (folders[-1].parent / "lock").touch()
        assert not list(folders[-1].iterdir())
        (folders[-1] / f"{name}.so").write_text("built", encoding="utf-8")

    monkeypatch.setattr(cpp_extension, "load", load)
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    monkeypatch.setenv("CXX", sys.executable)
    for _ in range(2):
        build._load()
    library = folders[0].parent / "mesm_plugin_cpu.so"
    assert library.read_text(encoding="utf-8") == "built"
    assert loaded == [library]
    assert len(folders) == 1
    assert not folders[0].exists()


def test_import_builds_nothing() -> None:
    code = (
        "import sys, torch, mesm_plugin.kernels\n"
        "assert not hasattr(torch.ops.mesm_plugin, 'dropout')\n"
        "assert 'torch.utils.cpp_extension' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
