# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from mesm_plugin.datasets.dataset_names import DATASET_NAMES, data_folder, published_dataset

COUNTS = {
    "charades": {"train": (5336, 12405), "test": (1334, 3720)},
    "charades_cg": {
        "train": (3555, 8281),
        "test_trivial": (1689, 3096),
        "novel_composition": (2480, 3442),
        "novel_word": (580, 695),
    },
    "charades_cd": {"train": (4564, 11071), "val": (333, 859), "test_iid": (333, 823), "test_ood": (1440, 3372)},
    "tacos": {"train": (75, 9790), "val": (27, 4436), "test": (25, 4001)},
    "qvhighlights": {"train": (7100, 7218), "val": (1519, 1550), "test": (1529, 1542)},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("charades", "charades"),
        ("Charades-STA", "charades"),
        ("CHARADES_STA", "charades"),
        ("charadessta", "charades"),
        ("Charades-CG", "charades_cg"),
        ("charadesCD", "charades_cd"),
        ("TACoS", "tacos"),
        ("QV-Highlights", "qvhighlights"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert published_dataset(name).name == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("charades_cq", "did you mean charades_cg or charades_cd"),
        ("qvh", "did you mean qvhighlights"),
        ("taco", "did you mean tacos"),
        ("activitynet", "expected one of charades, charades_cg, charades_cd, tacos, qvhighlights"),
        ("", "expected one of charades"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"no data set '{name}'; {hint}"):
        published_dataset(name)


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_published_files(shared: Path, name: str) -> None:
    dataset = published_dataset(name, shared / "data")
    videos = {split: dataset.read(split) for split in dataset.splits}
    assert {split: (len(v), sum(len(x["queries"]) for x in v)) for split, v in videos.items()} == COUNTS[name]
    assert all(Path(file).name.endswith("_tokenized_count.txt") for file in dataset.vocabularies)


def test_repairs_are_counted_anew_for_each_reading(shared: Path) -> None:
    ood = published_dataset("charades_cd", shared / "data").open("charades-test-OOD")
    for _ in range(2):
        ood.load_data_list()
        assert ood.repairs == {"starting beyond the video dropped": 3, "late ends cut": 345}


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="Charades-CD has no split 'test', expected one of train, val, test_iid, test"):
        published_dataset("charades_cd").open("test")


@pytest.mark.parametrize("folder", ["tacos/annotations", "TACoS/annotations", "TACoS", "annotations", "."])
def test_where_the_files_are_found(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"fps": 2.0, "num_frames": 20, "sentences": ["She cuts."], "timestamps": [[2, 6]]}
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "val.json").write_text(json.dumps({"s1": entry}))
    monkeypatch.setenv("MESM_DATA", str(tmp_path))
    (video,) = published_dataset("tacos").read("val")
    assert video["duration"] == 10.0
    assert video["queries"] == [{"qid": "val-1", "sentence": "She cuts.", "moments": [[1.0, 3.0]]}]
    with pytest.raises(FileNotFoundError, match=r"annotation file not found: .*train\.json"):
        published_dataset("tacos").read("train")


@pytest.mark.parametrize(("value", "folder"), [("elsewhere", "elsewhere"), ("", "data"), (None, "data")])
def test_folder_of_all_data_sets(monkeypatch: pytest.MonkeyPatch, value: str | None, folder: str) -> None:
    if value is None:
        monkeypatch.delenv("MESM_DATA", raising=False)
    else:
        monkeypatch.setenv("MESM_DATA", value)
    assert data_folder() == folder
    assert published_dataset("tacos").folder == Path(folder, "tacos", "annotations")


def test_files_that_lie_nowhere_are_missed_where_they_belong(tmp_path: Path) -> None:
    assert published_dataset("tacos", tmp_path).folder == tmp_path / "tacos" / "annotations"
