# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Training steps and inference do not wait for the device; the meta device plays it.

Not covered, as they refuse the meta device: fused optimisers (their numbers are tested on a CPU below), and the insides
of CUDA kernels.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.logging import MessageHub
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper, step_where
from mesm_plugin.engine.hooks import DeferredRuntimeInfoHook, NonFiniteError, NonFiniteHook
from mesm_plugin.registry import HOOKS, MODELS
from tests.kernels.host_sync_guard import HostSyncError, host_sync_guard

ALIGNERS: dict[str, dict[str, Any]] = {
    "CGDETRAligner": {"num_dummies": 3, "num_prompts": 4},
    "ConcatAligner": {},
    "CrossAttentionAligner": {},
    "MESMAligner": {"frame_word": {"num_word_classes": 21}},
    "TRDETRAligner": {},
    "UVCOMAligner": {"num_iterations": 2},
}
GROUNDERS = ["CGDETR", "EaTR", "MomentDETR", "TRDETR", "UVCOM"]
CELLS = [("QDDETR", aligner) for aligner in ALIGNERS] + [(grounder, "MESMAligner") for grounder in GROUNDERS]
MakeBatch = Callable[..., dict[str, Any]]


def build(grounder: str, aligner: str) -> Any:
    sizes = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}
    return MODELS.build({"type": grounder, **sizes, "aligner": {"type": aligner, **ALIGNERS[aligner]}})


def on_meta(batch: dict[str, Any]) -> dict[str, Any]:
    batch["inputs"] = {name: x.to("meta") for name, x in batch["inputs"].items()}
    return batch


def wrapper_of(model: nn.Module, clip: dict[str, Any] | None = None) -> GuardedOptimWrapper:
    MessageHub._instance_dict.clear()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return GuardedOptimWrapper(optimizer=optimizer, clip_grad=clip or {"max_norm": 0.1})


def train(model: Any, batch: dict[str, Any], wrapper: GuardedOptimWrapper) -> dict[str, torch.Tensor]:
    """What `BaseModel.train_step` does once the batch is on the device."""
    with wrapper.optim_context(model):
        losses = model(**batch, mode="loss")
    total, named = model.parse_losses(losses)
    wrapper.update_params(total)
    return named


class _Recorded(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators.append((func.name(), tuple(getattr(out, "shape", ()))))
        return out


def check_step_and_inference(model: Any, make_batch: MakeBatch) -> None:
    model = model.to("meta")
    wrapper = wrapper_of(model)
    for _ in range(2):
        batch = on_meta(make_batch([9, 5], [2, 1]))
        with host_sync_guard():
            named = train(model, batch, wrapper)
    assert all(x.is_meta for x in named.values())
    assert wrapper.record is not None
    assert wrapper.record.finite.is_meta
    model.eval()
    inputs = on_meta(make_batch([9, 5], [2, 1], training=False))["inputs"]
    with host_sync_guard(), torch.no_grad():
        moments, saliency = model.score_moments(inputs)
    assert len(moments) == len(saliency) == 3


def test_mesm(grounder_config: dict[str, Any], make_batch: MakeBatch) -> None:
    check_step_and_inference(MODELS.build(grounder_config), make_batch)


@pytest.mark.parametrize(("grounder", "aligner"), CELLS)
def test_others(grounder: str, aligner: str, make_batch: MakeBatch) -> None:
    check_step_and_inference(build(grounder, aligner), make_batch)


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_shapes_do_not_depend_on_data(aligner: str, make_batch: MakeBatch) -> None:
    model = build("QDDETR", aligner)
    first, second = (make_batch([9, 5], [2, 1]) for _ in range(2))
    for name, x in first["inputs"].items():
        if x.is_floating_point() and name != "moments":
            second["inputs"][name] = torch.rand_like(x)
        elif x.dtype == torch.bool:
            # Keeps the first of each row, so that no row is empty.
            second["inputs"][name] = x & (torch.arange(x.shape[-1]) < 1)
        else:
            second["inputs"][name] = x
    operators = []
    for batch in (first, second):
        model.zero_grad(set_to_none=True)
        with _Recorded() as recorded:
            torch.stack(list(model(**batch, mode="loss").values())).sum().backward()
        operators.append(recorded.operators)
    assert operators[0] == operators[1]


def test_copies_of_predictions_are_one(
    grounder_config: dict[str, Any], make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    usual = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: copies.append(x.shape) or usual(x))
    model = MODELS.build(grounder_config).eval()
    model(**make_batch([9, 5], [2, 1], training=False), mode="predict")
    assert len(copies) == 1


FAULTS = {
    "item": lambda x: x * x.item(),
    "bool": lambda x: x if x > 0 else -x,
    "boolean index": lambda x: x.expand(3)[torch.ones(3, dtype=torch.bool, device=x.device)].sum(),
    "nonzero": lambda x: x.expand(3).nonzero().sum() * x,
    "cpu": lambda x: x + x.cpu().to(x.device),
    "list": lambda x: (x * torch.tensor([1.0, 2.0], device=x.device)).sum(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_a_loss_are_found(fault: str, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("QDDETR", "ConcatAligner").to("meta")
    usual = model.span_loss.forward
    monkeypatch.setattr(model.span_loss, "forward", lambda *args: FAULTS[fault](usual(*args)))
    with host_sync_guard(), pytest.raises((HostSyncError, RuntimeError, NotImplementedError)):
        train(model, on_meta(make_batch([9, 5], [2, 1])), wrapper_of(model))


def test_a_fault_in_clipping_is_found() -> None:
    layer = nn.Linear(2, 1, device="meta")
    wrapper = wrapper_of(layer, {"max_norm": 0.1, "error_if_nonfinite": True})
    with host_sync_guard(), pytest.raises((HostSyncError, RuntimeError, NotImplementedError)):
        wrapper.update_params(layer(torch.ones(1, 2, device="meta")).sum())


def runner_of(wrapper: GuardedOptimWrapper, hooks: list[Any], **others: Any) -> SimpleNamespace:
    hub = MessageHub.get_instance("step_without_host")
    return SimpleNamespace(
        optim_wrapper=wrapper,
        hooks=hooks,
        message_hub=hub,
        iter=0,
        max_iters=100,
        train_dataloader=range(100),
        param_schedulers=[],
        **others,
    )


def test_hooks_of_a_step_that_does_not_log(make_batch: MakeBatch) -> None:
    model = build("QDDETR", "ConcatAligner").to("meta")
    wrapper = wrapper_of(model)
    config = Config.fromfile("configs/_base_/default_runtime.py")
    hooks = [HOOKS.build(dict(x)) for x in [*config.default_hooks.values(), *config.custom_hooks]]
    hooks += [IterTimerHook(), ParamSchedulerHook()]
    assert any(isinstance(hook, DeferredRuntimeInfoHook) for hook in hooks)
    runner = runner_of(wrapper, hooks, model=model)
    batch = on_meta(make_batch([9, 5], [2, 1]))
    with host_sync_guard():
        outputs = train(model, batch, wrapper)
        for hook in hooks:
            if isinstance(hook, IterTimerHook):
                hook.t, hook.time_sec_tot, hook.start_iter = 0.0, 0.0, 0
            hook.after_train_iter(runner, 0, batch, outputs)


def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the wrapper and the hooks take a CPU for a device."""
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)


OPTIMISERS = {
    "fused AdamW": lambda x: torch.optim.AdamW(x, lr=0.1, fused=True),
    "AdamW": lambda x: torch.optim.AdamW(x, lr=0.1),
    "SGD": lambda x: torch.optim.SGD(x, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_steps_are_left_out_on_the_device(kind: str) -> None:
    layer = nn.Linear(2, 1)
    optimizer = OPTIMISERS[kind](layer.parameters())
    for number, good in enumerate([False, True, False, True]):
        before = [x.clone() for x in layer.parameters()]
        states = [x.clone() for state in optimizer.state.values() for x in state.values() if x is not None and x.dim()]
        layer.weight.grad = torch.full((1, 2), 1.0 if good else float("nan"))
        layer.bias.grad = torch.ones(1)
        step_where(torch.tensor(good), optimizer)
        assert all(torch.equal(x, y) for x, y in zip(before, layer.parameters(), strict=True)) == (not good), number
        after = [x for state in optimizer.state.values() for x in state.values() if x is not None and x.dim()]
        assert all(x.isfinite().all() for x in after)
        if states and not good:
            assert all(torch.equal(x, y) for x, y in zip(states, after, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_numbers_are_read_when_they_are_logged(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(2, 1, bias=False)
    wrapper = wrapper_of(layer)
    info, guard = DeferredRuntimeInfoHook(), NonFiniteHook(max_skipped=2)
    warnings: list[str] = []
    logger = SimpleNamespace(warning=warnings.append)
    hooks = [LoggerHook(interval=4), info, guard]
    runner = runner_of(wrapper, hooks, model=layer, logger=logger, work_dir=tmp_path)
    hub = runner.message_hub
    expected = []
    inputs = [1.0, float("nan"), 3.0, 4.0, 5.0, float("nan"), float("inf"), 8.0]
    on_device(monkeypatch)
    sample = SimpleNamespace(vid="v", qids=["q"])
    for number, value in enumerate(inputs):
        runner.iter = number
        loss = layer(torch.full((1, 2), value)).sum()
        expected.append(float(loss.detach()))
        wrapper.update_params(loss)
        batch = {"data_samples": [sample], "inputs": {"x": torch.full((1, 2), value)}}
        info.after_train_iter(runner, number, batch, {"loss": loss})
        if number < 7:
            guard.after_train_iter(runner, number, batch, {"loss": loss})
        if number < 3:
            assert "train/loss" not in hub.log_scalars
    losses = hub.get_scalar("train/loss").data[0]
    torch.testing.assert_close(torch.tensor(losses).float(), torch.tensor(expected), equal_nan=True)
    assert len(hub.get_scalar("train/grad_norm").data[0]) == 5
    assert warnings == ["loss not finite in step 2, videos v: the step was left out (1 in a row)"]
    with pytest.raises(NonFiniteError, match="in step 7, videos v: training ends after 2 such steps"):
        guard.after_train_iter(runner, 7, batch, {"loss": loss})
    saved = torch.load(tmp_path / "non_finite.pth", weights_only=True)
    assert saved["step"] == 7
    assert saved["broken"] == ["weight"]
    assert saved["inputs"] is None
    assert layer.weight.isfinite().all()
