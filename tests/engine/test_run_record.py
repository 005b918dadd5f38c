# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a work directory tells about its run."""

import hashlib
import json
import platform

import torch
from mmengine.config import Config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mesm_plugin.engine.run_record import run_record
from tests.cli.conftest import SMALL, mesm


def test_data_files(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "v.npz").write_bytes(b"")
    dataset = {"ann_file": ["a.json"], "data_root": str(tmp_path), "features": {"folders": [str(tmp_path / "clips")]}}
    (tmp_path / "mine.py").touch()
    config = Config({"train_dataloader": {"dataset": dataset}}, filename=str(tmp_path / "mine.py"))
    record = run_record(config, 3, 1)
    assert record["data"] == {
        str(tmp_path): {"files": 3},
        str(tmp_path / "a.json"): {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
        str(tmp_path / "clips"): {"files": 1},
    }
    assert (record["config"], record["seed"], record["processes"]) == (str(tmp_path / "mine.py"), 3, 1)


def test_a_run_tells_how_to_repeat_it(tmp_path):
    output = mesm("train", "mesm_synthetic", "--seed", 5, "--work-dir", tmp_path, "--cfg-options", *SMALL)
    assert output.code == 0
    (folder,) = (path for path in tmp_path.iterdir() if (path / "run.json").is_file())
    record = json.loads((folder / "run.json").read_text())
    assert record["seed"] == 5
    assert record["versions"]["torch"] == torch.__version__
    assert record["python"] == platform.python_version()
    assert record["config"].endswith("mesm_synthetic.py")
    assert (tmp_path / "mesm_synthetic.py").is_file()
    assert (folder / f"{folder.name}.log").is_file()
    logged = [json.loads(line) for line in (folder / "vis_data" / "scalars.json").read_text().splitlines()]
    scores = [line["mAP"] for line in logged if "mAP" in line]
    events = EventAccumulator(str(folder / "vis_data"))
    events.Reload()
    drawn = [event.value for event in events.Scalars("mAP")]
    assert len(drawn) == len(scores)
    assert max(abs(a - b) for a, b in zip(drawn, scores, strict=True)) < 1e-4
    assert (tmp_path / "epoch_2.pth").is_file()
    assert len(list(tmp_path.glob("best_mAP_epoch_*.pth"))) == 1


def test_the_record_is_enough_to_repeat_a_run(tmp_path):
    """Also where the seed was drawn."""
    options = [*SMALL, "randomness.seed=None", "train_cfg.max_epochs=1"]
    assert mesm("train", "mesm_synthetic", "--work-dir", tmp_path / "first", "--cfg-options", *options).code == 0
    record = json.loads(next((tmp_path / "first").glob("*/run.json")).read_text())
    assert type(record["seed"]) is int
    (tmp_path / "again.json").write_text(json.dumps(record["settings"]))
    options = ["--work-dir", tmp_path / "second", "--seed", record["seed"]]
    assert mesm("train", tmp_path / "again.json", *options).code == 0
    first, second = (
        [
            {name: value for name, value in json.loads(line).items() if not name.endswith("time")}
            for line in next((tmp_path / run).glob("*/vis_data/scalars.json")).read_text().splitlines()
        ]
        for run in ("first", "second")
    )
    assert first == second
    assert "loss" in first[0]
