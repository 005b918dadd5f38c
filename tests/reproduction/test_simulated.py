# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Simulated features in place of a row's own."""

import json
from pathlib import Path

import h5py
import pytest

from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.reproduction.simulated import find_simulated, use_simulated
from tests.simulated_features import write_charades

FULL = "mesm_charades_clip_slowfast_paper_protocol"


def test_found_in_the_folder_or_in_the_one_of_the_data_set(simulated: Path) -> None:
    for dataset, folder in (
        ("CharadesSTADataset", "charades"),
        ("CharadesCGDataset", "charades"),
        ("QVHighlightsDataset", "QVHighlights"),
    ):
        found = find_simulated(simulated, dataset)
        assert found is not None
        assert found.folder == simulated / folder
    assert find_simulated(simulated, "TACoSDataset") is None
    direct = find_simulated(simulated / "charades", "CharadesSTADataset")
    assert direct is not None
    assert direct.folder == simulated / "charades"


def test_real_features_are_not_taken_for_simulated(simulated: Path) -> None:
    (simulated / "charades" / "meta.json").write_text('{"simulated": false}')
    assert find_simulated(simulated, "CharadesSTADataset") is None
    (simulated / "charades" / "meta.json").unlink()
    (simulated / "charades").rename(simulated / "charades_simulated")
    assert find_simulated(simulated, "CharadesSTADataset") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", r"meta\.json is not valid JSON"), ('{"simulated": true}', "expected 'arguments' with 'dataset'")],
)
def test_damaged_meta(simulated: Path, text: str, message: str) -> None:
    (simulated / "charades" / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_simulated(simulated, "CharadesSTADataset")


def test_features_of_another_data_set(simulated: Path) -> None:
    with pytest.raises(ValueError, match="the simulated features are of 'charades', expected 'tacos'"):
        find_simulated(simulated / "charades", "TACoSDataset")


def test_a_row_takes_the_widths_of_the_files(simulated: Path, tmp_path: Path) -> None:
    config = read_config(FULL)
    annotations = simulated / "charades" / "annotations"
    write_charades(annotations, further=["XX0"])
    (annotations / "GloVe_tokenized_count.txt").unlink()
    found = find_simulated(simulated, "CharadesSTADataset")
    assert found is not None
    changed = use_simulated(config, found, tmp_path / "prepared")
    check_config(config)
    assert (config.model.video_dims, config.model.text_dims) == (10, 6)
    assert config.model.aligner.frame_word.num_word_classes == 1112
    assert config.model.aligner.frame_word.token_dims == 6
    dataset = config.train_dataloader.dataset
    assert dataset.features.files == [str(simulated / "charades" / "features.hdf5")]
    assert dataset.text.type == "GloVeText"
    assert (dataset.clip_length, config.model.post_process.round_to) == (1.0, 1.0)
    # One training video has no features, so its queries are left out; no other file is changed.
    assert changed.notes == ["charades_sta_train.txt: 12 of 14 queries, those with simulated features"]
    assert dataset.ann_file == str(tmp_path / "prepared" / "charades_sta_train.txt")
    assert len(changed.files[Path(dataset.ann_file)].splitlines()) == 12
    assert config.test_dataloader.dataset.ann_file == str(
        simulated / "charades" / "annotations" / "charades_sta_test.txt"
    )
    # Words are in order of their frequency.
    assert changed.files[Path(dataset.text.vocabulary)].startswith("person 2 0\nopens 3 0\n")


def test_charades_cg_has_the_features_of_charades(simulated: Path, tmp_path: Path) -> None:
    config = read_config("qd_detr_charades_cg_clip_slowfast_paper_protocol")
    found = find_simulated(simulated, "CharadesCGDataset")
    assert found is not None
    use_simulated(config, found, tmp_path)
    files = config.test_dataloader.dataset.ann_file
    assert [Path(file).parent for file in files] == [simulated / "charades_cg" / "annotations"] * 3


def test_what_is_missing_is_named(simulated: Path, tmp_path: Path) -> None:
    found = find_simulated(simulated, "CharadesSTADataset")
    assert found is not None
    (simulated / "charades" / "annotations" / "Charades_v1_test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Charades_v1_test\.csv.*not found together in any of "):
        use_simulated(read_config(FULL), found, tmp_path)
    (simulated / "charades" / "glove.sim.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"glove\.sim\.txt not found"):
        use_simulated(read_config(FULL), found, tmp_path)
    (simulated / "charades" / "features.hdf5").write_text("no HDF5")
    (simulated / "charades" / "glove.sim.txt").write_text("a 1.0\n")
    with pytest.raises(ValueError, match=r"features\.hdf5 cannot be read as HDF5"):
        use_simulated(read_config(FULL), found, tmp_path)


def test_no_video_of_a_split_has_features(simulated: Path, tmp_path: Path) -> None:
    with h5py.File(simulated / "charades" / "features.hdf5", "a") as file:
        for video in ("TE0", "TE1", "TE2"):
            del file[video]
    found = find_simulated(simulated, "CharadesSTADataset")
    assert found is not None
    with pytest.raises(ValueError, match=r"charades_sta_test\.txt: none of its videos has simulated features"):
        use_simulated(read_config(FULL), found, tmp_path)


def test_annotations_that_the_simulator_read(simulated: Path, tmp_path: Path) -> None:
    file = simulated / "charades" / "meta.json"
    meta = json.loads(file.read_text())
    (simulated / "charades" / "annotations").rename(tmp_path / "official")
    meta["arguments"]["annotations"] = str(tmp_path / "official")
    file.write_text(json.dumps(meta))
    found = find_simulated(simulated, "CharadesSTADataset")
    assert found is not None
    config = read_config(FULL)
    use_simulated(config, found, tmp_path)
    assert config.test_dataloader.dataset.ann_file == str(tmp_path / "official" / "charades_sta_test.txt")
