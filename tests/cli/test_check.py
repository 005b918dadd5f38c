# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import errno
import json
import os

import numpy as np
import pytest

CONFIG = """
_base_ = ["{base}"]
features = dict(type="NumpyFeatureStore", folders="{root}/clips", dims=[8])
words = dict(type="GloVeText", file="{root}/glove.txt", vocabulary="{root}/counts.txt", vocabulary_size=4)
dataset = dict(
    _delete_=True, type="CharadesCGDataset", features=features, text=words, clip_length=1.0, data_root="{root}"
)
train_dataloader = dict(batch_size=2, dataset=dict(**dataset, ann_file="train.json"))
val_dataloader = dict(batch_size=2, dataset=dict(**dataset, ann_file="test.json"))
test_dataloader = dict(batch_size=2, dataset=dict(**dataset, ann_file="test.json"))
model = dict(
    video_dims=10, text_dims=3, dims=16, heads=2, ffn_dims=16,
    aligner=dict(frame_word=dict(num_word_classes=5, token_dims=3)),
)
"""


def _entry(*sentences):
    return {"duration": 9.0, "sentences": list(sentences), "timestamps": [[1.0, 4.0]] * len(sentences)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small data set in the files of Charades-CG, and CONFIG as tiny.py."""
    monkeypatch.setenv("MESM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    for split, vids in {"train": ["t0", "t1", "t2", "t3"], "test": ["e0", "e1"]}.items():
        entries = {vid: _entry("a door", "she opens a door") for vid in vids}
        (tmp_path / f"{split}.json").write_text(json.dumps(entries))
        for vid in vids:
            path = tmp_path / "clips" / f"{vid}.npy"
            np.save(path, np.random.default_rng(len(vid)).standard_normal((9, 8)))
            # Settled, so that it would be remembered.
            os.utime(path, (path.stat().st_mtime - 60,) * 2)
    (tmp_path / "glove.txt").write_text("a 1 2 3\ndoor 2 1 0\nshe 0 1 1\nopens 1 1 0\n")
    (tmp_path / "counts.txt").write_text("a 0 9\ndoor 1 8\nshe 2 7\nopens 3 6\n")
    base = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../configs/mesm/mesm_synthetic.py"))
    (tmp_path / "tiny.py").write_text(CONFIG.format(base=base, root=tmp_path))
    return tmp_path


def test_good_inputs(command, root):
    output = command("check", "tiny.py", "--json", "report.json")
    assert (output.code, output.err) == (0, "")
    rows = {line[:20].strip(): line[20:].split() for line in output.out.splitlines() if line[:1].islower()}
    assert rows["videos"] == ["4", "2", "2"]
    assert rows["queries"] == rows["queries with words"] == ["8", "4", "4"]
    assert rows["items"] == ["4", "2", "2"]
    assert "Note: val and test share 2 videos" in output.out
    assert output.out.splitlines()[-2:] == ["No problems.", "JSON: report.json"]
    record = json.loads((root / "report.json").read_text())
    assert record["problems"] == []
    assert record["splits"]["train"]["moments"] == 8
    assert not (root / "work_dirs").exists()


def test_all_that_is_broken_is_in_one_report(command, root):
    entries = json.loads((root / "train.json").read_text())
    entries |= {"bad": 7, "t4": _entry("une porte", "a door"), "gone": _entry("a door")}
    (root / "train.json").write_text(json.dumps(entries))
    np.save(root / "clips" / "t4.npy", np.ones((9, 8)))
    broken = np.ones((9, 8))
    broken[3, 2] = np.nan
    np.save(root / "clips" / "t1.npy", broken)
    (root / "clips" / "t2.npy").write_bytes((root / "clips" / "t2.npy").read_bytes()[:200])
    (root / "test.json").unlink()
    options = ["model.video_dims=99", "load_from=lost.pth", "train_dataloader.dataset.clip_lenght=2", "bathc=1"]
    output = command("check", "tiny.py", "--cfg-options", *options, "--json", "-")
    assert output.code == 1
    found = [(problem["part"], problem["name"], problem["reason"]) for problem in json.loads(output.out)["problems"]]
    expected = [
        ("config", "", "bathc"),
        ("train data set", "", "clip_lenght"),
        ("val annotations", "", "test.json"),
        ("test annotations", "", "test.json"),
        ("checkpoint", "", "lost.pth"),
    ]
    assert [(part, name) for part, name, _ in found] == [(part, name) for part, name, _ in expected]
    assert all(words in reason for (_, _, reason), (_, _, words) in zip(found, expected, strict=True))

    output = command("check", "tiny.py", "--cfg-options", *options[:2])
    assert output.code == 1
    lines = output.out.splitlines()
    for line in (
        f"train annotations: {root}/train.json: video 'bad': expected a JSON object, got int",
        f"train features: video t1: {root}/clips/t1.npy: nan in clip 3, channel 2 (1 of 9 clips have NaN or infinite "
        "values in float32); extract these features again",
        f"train features: video gone: {root}/clips has no features of video gone (it holds 7 videos)",
        "model: model.video_dims: is 99, but train has 10 channels with the two temporal endpoint features",
    ):
        assert line in lines
    assert any(line.startswith(f"train features: video t2: {root}/clips/t2.npy is truncated") for line in lines)
    assert any(line.startswith("train text: query train-9, 'une porte': none of its words") for line in lines)
    assert any(line.startswith("val annotations: annotation file not found") for line in lines)
    assert lines[-1] == "9 problems."


def test_what_an_earlier_run_found_good_is_read_again(command, root):
    assert command("check", "tiny.py").code == 0
    path = root / "clips" / "e1.npy"
    before = path.stat()
    np.save(path, np.full((9, 8), np.inf))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    output = command("check", "tiny.py", "--split", "test")
    assert output.code == 1
    assert "test features: video e1: " in output.out


def test_records_that_cannot_be_removed(command, root, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    assert command("check", "tiny.py", "--split", "test").code == 0
    (record,) = (root / "cache").rglob("*.json")
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    monkeypatch.setattr("mesm_plugin.checking.inputs.check_work_dir", lambda *_: None)
    monkeypatch.setattr("mesm_plugin.datasets.checked_arrays._write", lambda *_: None)
    output = command("check", "tiny.py", "--split", "test")
    assert output.code == 0
    assert f"Note: features that an earlier run found good are not read again: {record}: Permission" in output.out


@pytest.mark.parametrize("loader", ["5", "dict(_delete_=True, batch_size=2)", "dict(dataset=None)"])
def test_a_loader_without_a_data_set(command, root, loader):
    (root / "less.py").write_text(f'_base_ = "tiny.py"\ntrain_dataloader = {loader}\n')
    output = command("check", "less.py", "--split", "train", "test")
    assert output.code == 1
    assert "config: train_dataloader: has no 'dataset', expected the config of a data set" in output.out.splitlines()
    assert any(line.split() == ["items", "2"] for line in output.out.splitlines())


def test_standard_output_is_json_alone(command, root, monkeypatch):
    monkeypatch.setenv("TINY_COUNTS", f"{root}/counts.txt")
    (root / "env.py").write_text('_base_ = "tiny.py"\ncounts = "{{$TINY_COUNTS:x}}"\n')
    output = command("check", "env.py", "--split", "test", "--json", "-")
    assert json.loads(output.out)["splits"]["test"]["items"] == 2


def test_many_problems_are_counted(command, root):
    (root / "train.json").write_text(json.dumps({f"lost{i}": _entry("a door") for i in range(25)}))
    output = command("check", "tiny.py", "--split", "train")
    assert output.out.count("train features: video lost") == 10
    assert output.out.splitlines()[-2:] == ["train features: and 15 more", "25 problems."]


def test_a_missing_feature_folder_and_vectors(command, root):
    (root / "clips").rename(root / "elsewhere")
    (root / "glove.txt").unlink()
    output = command("check", "tiny.py", "--split", "test")
    assert output.code == 1
    assert f"test features: feature folder {root}/clips does not exist" in output.out
    (root / "test.json").unlink()
    output = command("check", "tiny.py", "--split", "test")
    parts = [line.partition(": ")[0] for line in output.out.splitlines() if ": " in line]
    assert parts == ["test text", "test annotations", "test features"]
    assert "test text: GloVe file not found" in output.out


def _full(path):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_work_dir_that_cannot_be_written(command, root, monkeypatch):
    output = command("check", "tiny.py", "--work-dir", "tiny.py", "--split", "train")
    assert output.code == 1
    assert "work directory: work_dir tiny.py: " in output.out
    monkeypatch.setattr("pathlib.Path.touch", _full)
    output = command("check", "tiny.py", "--work-dir", "elsewhere/x", "--split", "train")
    assert f"work directory: work_dir elsewhere/x: {root} cannot be written to (No space left on device)" in output.out


def test_unknown_config(command, root):
    output = command("check", "tinny.py")
    assert output.code == 2
    assert "config tinny.py is neither a file nor the name of a shipped config" in output.err


def test_training_stops_before_it_begins_or_leaves_broken_videos_out(command, root):
    for vid in ("t1", "e1"):
        np.save(root / "clips" / f"{vid}.npy", np.full((9, 8), np.nan))
    options = ["--cfg-options", "train_cfg.max_epochs=1", "--work-dir", "work"]
    output = command("train", "tiny.py", *options)
    assert output.code == 2
    assert (
        f"1 of 4 videos and 0 of 8 queries cannot be used: video t1 ({root}/clips/t1.npy: nan in clip 0" in output.err
    )
    assert not list((root / "work").rglob("*.pth"))

    output = command("train", "tiny.py", "--on-error", "skip", *options)
    assert output.code == 0
    assert "1 videos, 1 broken left out" in output.out
    log = max((root / "work").rglob("*.log")).read_text()
    assert f"on_error='skip' leaves out 1 of {root}/train.json: video t1 (" in log
    assert "3 videos with 6 queries are left" in log
