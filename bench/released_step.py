# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures a training step and inference of the code that MESM's authors released, as `bench.end_to_end` does ours.

python -m bench.released_step FOLDER --workload charades-clip-slowfast --repeat 5 --json result.json

FOLDER is a checkout of github.com/lntzm/MESM. Its model and losses run unchanged, on the same batches; modules that it
imports for other purposes and that are not installed are stood in for.
"""

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.arguments import positive, released_checkout
from bench.end_to_end import peak_rss_mb, seconds_of
from bench.workloads import WORKLOADS, Workload
from mesm_plugin.utils import write_json

CONFIGS = {
    "charades-clip-slowfast": "charades/C+SF_C.json",
    "charades-vgg-glove": "charades/VGG_GloVe.json",
    "tacos-c3d-glove": "TACoS/C3D_GloVe.json",
}
OPTIONAL = ("ftfy", "nltk", "pandas", "regex", "tqdm")
SECONDS = 30.0


class _Anything:
    """Takes every call and has every attribute."""

    def __call__(self, *_: Any, **__: Any) -> "_Anything":
        return self

    def __getattr__(self, name: str) -> "_Anything":
        return _anything(name)


def _anything(name: str) -> _Anything:
    if name.startswith("__"):
        # Python itself looks for these.
        raise AttributeError(name)
    return _Anything()


def stand_in(names: tuple[str, ...] = OPTIONAL) -> None:
    """Puts an empty module in the place of each that is not installed."""
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            module = types.ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            module.__getattr__ = _anything  # type: ignore[method-assign]
            sys.modules[name] = module


def released_inputs(workload: Workload) -> dict[str, Tensor]:
    """The training batch of a workload under the released code's names, each query with its video."""
    batch = workload.batch(training=True)["inputs"]
    video = batch["query_video"]
    return {
        "num_clips": torch.bincount(video),
        "video_feat": batch["video"][video],
        "video_mask": batch["video_mask"][video],
        "words_id": batch["words"],
        "words_weight": batch["words_mask"].float(),
        "unknown_mask": batch["unknown_words"],
        "words_label": batch["words_label"],
        "clip_mask": batch["segment_mask"],
        "duration": torch.full((len(video),), SECONDS),
        "moment": batch["moments"][:, 0] * SECONDS,
        "pos_idx": batch["hinge_positive"],
        "neg_idx": batch["hinge_negative"],
    }


@dataclass
class Released:
    """The released model, in training mode.

    Attributes:
        model: The network.
        loss: Runs it on the training batch of a workload, all losses included.
        infer: Runs it on the same batch without losses.
    """

    model: nn.Module
    loss: Callable[[], Tensor]
    infer: Callable[[], Any]


def build_released(folder: Path, name: str, amp: bool = False) -> Released:
    """Builds the released model of a workload from a checkout of its code, with losses and a batch.

    With `amp` it runs under autocast to bfloat16.
    """
    workload = WORKLOADS[name]
    config = json.loads((folder / "config" / CONFIGS[name]).read_text(encoding="utf-8"))
    # The tokenizer is not run: words come as features. GloVe's asks for no weights.
    config |= {"device": "cpu", "tokenizer_type": "GloVeNLTK", "load_vocab_pkl": True}
    config |= {"v_feat_dim": workload.video_dims, "t_feat_dim": workload.text_dims}
    stand_in()
    sys.path.insert(0, str(folder))
    runner, dataset = importlib.import_module("runner"), importlib.import_module("dataset")
    torch.manual_seed(0)
    options = argparse.Namespace(**config)
    model, criterion = runner.build_model(options, None), runner.build_criterion(options)
    inputs: dict[str, Any] = {**released_inputs(workload), "words_mask": None}
    dataset.prepare_batch_input(inputs, "cpu")

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            outputs = model(**inputs, dataset_name=config["dataset_name"], is_training=True)
            total: Tensor = criterion(outputs, inputs, is_training=True)[1]
        return total

    def infer() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            model(**inputs, dataset_name=config["dataset_name"], is_training=False)

    model.train()
    criterion.train()
    return Released(model, loss, infer)


def measure(folder: Path, name: str, repeat: int, amp: bool = False) -> dict[str, Any]:
    """Runs a workload, with `amp` under autocast to bfloat16, and returns what the JSON file holds."""
    released = build_released(folder, name, amp)
    optimizer = torch.optim.AdamW(released.model.parameters(), lr=2e-4, weight_decay=1e-4)

    def train_step() -> None:
        loss = released.loss()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(released.model.parameters(), 0.1)
        optimizer.step()

    device = torch.device("cpu")
    train = seconds_of(train_step, repeat, device)
    released.model.eval()
    test = seconds_of(released.infer, repeat, device)
    return {
        "workload": name,
        "amp": amp,
        "train_step_s": statistics.median(train),
        "inference_s": statistics.median(test),
        "peak_rss_mb": peak_rss_mb(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=released_checkout, help="checkout of the released code")
    parser.add_argument("--workload", choices=CONFIGS, default="charades-clip-slowfast")
    parser.add_argument("--repeat", type=positive, default=5, help="measured runs")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    arguments = parser.parse_args()
    result = measure(arguments.folder, arguments.workload, arguments.repeat, arguments.amp)
    print(
        "{workload}, released code: training step {train_step_s:.3f} s, inference {inference_s:.3f} s, "
        "peak {peak_rss_mb:.0f} MB".format(**result)
    )
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
