# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Trains a run, and scores it as its table does."""

import copy
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mesm_plugin.engine import train_and_test
from mesm_plugin.engine.config_loading import ConfigError
from mesm_plugin.engine.run_folder import RESULT
from mesm_plugin.evaluation.server_archive import write_server_archive
from mesm_plugin.reproduction.file_check import test_of_qvhighlights
from mesm_plugin.utils import write_json


def train_and_score(config: Config) -> None:
    """Trains, going on from the last checkpoint, and writes `result.json` into the work directory.

    Where a config keeps several best checkpoints, one for each split (`save_best` a list), each is scored on its split.
    On QVHighlights the archive for the evaluation server is written, and where there are labels of the test split its
    scores are those whose names begin with "test/".
    """
    folder = Path(config.work_dir)
    # Training leaves its marks in the config.
    pristine = copy.deepcopy(config)
    result = train_and_test.train(config)
    if result is None:
        raise ConfigError(f"{config.filename} has neither a test nor a validation split to score")
    outcome: dict[str, Any] = {
        "metrics": result.scores,
        "data": f"{result.split} split ({result.data})",
        "checkpoints": {"": result.checkpoint.name} if result.checkpoint else {},
    }
    chosen_by = pristine.default_hooks.checkpoint.get("save_best")
    if isinstance(chosen_by, (list, tuple)):
        outcome |= {"metrics": {}, "checkpoints": {}}
        for key in chosen_by:
            split = key.rpartition("/")[0]
            checkpoint = best_checkpoint(folder, key)
            scores = _test(pristine, checkpoint, split).scores
            outcome["metrics"] |= {name: value for name, value in scores.items() if name.startswith(f"{split}/")}
            outcome["checkpoints"][split] = checkpoint.name
    elif pristine.test_dataloader.dataset.type == "QVHighlightsDataset" and result.checkpoint is not None:
        try:
            archive, scores = _write_submission(pristine, result.checkpoint)
            outcome["submission"] = archive.name
            outcome["metrics"] |= {f"test/{name}": value for name, value in scores.items()}
        except (OSError, ValueError, KeyError) as error:
            # The scores of the validation split are not lost by it.
            outcome["submission"] = f"not written: {error}"
    write_json(folder / RESULT, outcome)


def best_checkpoint(folder: Path, key: str) -> Path:
    """The last best checkpoint by a score.

    Raises:
        FileNotFoundError: If there is none.
    """
    pattern = f"best_{key.replace('/', '_')}_*.pth"

    def age(path: Path) -> int:
        return int((re.findall(r"\d+", path.stem) or [0])[-1])

    found = sorted(folder.glob(pattern), key=age)
    if not found:
        raise FileNotFoundError(f"{folder / pattern} not found: no epoch was scored by {key}")
    return found[-1]


def _test(config: Config, checkpoint: Path, name: str) -> train_and_test.Result:
    config = copy.deepcopy(config)
    # MMEngine keeps what it logs by the name of the experiment.
    config.experiment_name = f"test_{name}"
    config.resume = False
    return train_and_test.test(config, checkpoint)


def _write_submission(config: Config, checkpoint: Path) -> tuple[Path, dict[str, float | None]]:
    """The archive, and the scores of the test split, which are empty without labels."""
    folder = Path(config.work_dir)
    validation = config.test_dataloader.dataset.ann_file
    files = {}
    scores: dict[str, float | None] = {}
    for split, annotations in (("val", validation), ("test", str(test_of_qvhighlights(validation)))):
        changed = copy.deepcopy(config)
        changed.test_dataloader.dataset.ann_file = annotations
        files[split] = folder / f"{split}.jsonl"
        for metric in changed.test_evaluator:
            if metric.type == "MomentRetrievalMetric":
                metric.output_file = str(files[split])
        scores = _test(changed, checkpoint, split).scores
    archive = folder / "submission.zip"
    write_server_archive(files["val"], files["test"], archive)
    return archive, scores
