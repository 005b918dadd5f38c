# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Counts the operators that PyTorch dispatches for forward, all losses and backward of a training step.

python -m bench.operators --workload charades-clip-slowfast --released FOLDER --json result.json

What counts is each call that reaches a kernel, forward or backward, of PyTorch or of this plugin; views (and `detach`,
`alias` and `_unsafe_view`, which only make tensors of what is there) do not. With `--released`, a checkout of
github.com/lntzm/MESM, its step is counted in the same way, on the same batch. `--plain` counts without the plugin's C++
operators, which stand for several of PyTorch's: what is left is what a GPU would be sent where no Triton kernel runs.
"""

import argparse
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.arguments import released_checkout
from bench.released_step import CONFIGS, build_released
from bench.workloads import WORKLOADS
from mesm_plugin.kernels.cpu.suitable import plain_operators
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json

NO_WORK = {"aten::detach", "aten::alias", "aten::_unsafe_view"}


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        if not func.is_view and name not in NO_WORK:
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


def count_operators(loss: Callable[[], Tensor]) -> tuple[Counter[str], Counter[str]]:
    """The operators of `loss`, by name, and those of its backward pass."""
    with _Counting() as forward:
        total = loss()
    with _Counting() as backward:
        total.backward()
    return forward.names, backward.names


def our_loss(name: str) -> Callable[[], Tensor]:
    """Forward and all losses of the workload's model on its training batch."""
    torch.manual_seed(0)
    workload = WORKLOADS[name]
    model = MODELS.build(workload.model_config())
    batch = model.data_preprocessor(workload.batch(training=True))
    model.train()
    return lambda: torch.stack(list(model(**batch, mode="loss").values())).sum()


def main() -> None:
    """Prints the counts, and writes them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="charades-clip-slowfast")
    parser.add_argument(
        "--released", type=released_checkout, metavar="FOLDER", help="checkout of the released code, counted too"
    )
    parser.add_argument("--plain", action="store_true", help="without the plugin's C++ operators")
    parser.add_argument("--top", type=int, default=12, help="names that are printed")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    arguments = parser.parse_args()
    if arguments.released is not None and arguments.workload not in CONFIGS:
        parser.error(f"the released code has no workload {arguments.workload}: choose one of {', '.join(CONFIGS)}")
    with plain_operators() if arguments.plain else contextlib.nullcontext():
        counts = {"here": count_operators(our_loss(arguments.workload))}
    if arguments.released is not None:
        counts["released"] = count_operators(build_released(arguments.released, arguments.workload).loss)
    result: dict[str, Any] = {"workload": arguments.workload, "cpp_operators": not arguments.plain}
    for side, (forward, backward) in counts.items():
        both = forward + backward
        result[side] = {"forward": forward.total(), "backward": backward.total(), "total": both.total(), "names": both}
        print(
            f"{arguments.workload}, {side}: {both.total()} operators, "
            f"{forward.total()} of them forward and losses, {backward.total()} backward; most often "
            + ", ".join(f"{name} {number}" for name, number in both.most_common(arguments.top))
        )
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
