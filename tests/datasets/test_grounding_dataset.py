# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
import torch

from mesm_plugin.datasets import GroundingDataset, MissingFeaturesError
from mesm_plugin.registry import DATASETS


@DATASETS.register_module()
class ListDataset(GroundingDataset):
    """Annotations that are given as they are."""

    def __init__(self, *, videos: list[dict[str, Any]], **kwargs: Any) -> None:
        self.videos = videos
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return self.videos


def _video(vid: str, sentence: str = "a door") -> dict[str, Any]:
    queries = [{"qid": 0, "sentence": sentence, "moments": [[1.0, 3.5]]}]
    return {"vid": vid, "source": vid, "duration": 10.0, "queries": queries}


@pytest.fixture
def make_dataset(constant_features: Any, length_text: Any) -> Any:
    def make(*vids: str, **options: Any) -> ListDataset:
        arguments = {"features": constant_features, "text": length_text, "clip_length": 1.0} | options
        return ListDataset(videos=[_video(vid) for vid in vids], **arguments)

    return make


def test_item(make_dataset: Any) -> None:
    dataset = make_dataset("v", "w")
    assert len(dataset) == 2
    item = dataset[1]
    assert item["sample_idx"] == 1
    assert item["data_sample"].vid == "w"
    assert item["video"][3].tolist() == pytest.approx([3, 1, 0.3, 0.4])
    assert item["queries"][0]["segment_mask"].nonzero().flatten().tolist() == [1, 2, 3]


def test_negative_index_has_the_sample_idx_of_its_item(make_dataset: Any) -> None:
    assert make_dataset("v", "w")[-1]["sample_idx"] == 1


def test_options_reach_the_item(make_dataset: Any) -> None:
    item = make_dataset("v", clip_length=None, max_clips=5, tef=False)[0]
    assert item["video"].tolist() == [[0.5, 1], [2.5, 1], [4.5, 1], [6.5, 1], [8, 1]]
    assert item["queries"][0]["segment_mask"].tolist() == [True, True, False, False, False]


def test_pipeline_is_applied_to_the_item(make_dataset: Any) -> None:
    dataset = make_dataset("v", pipeline=[lambda item: item | {"video": item["video"] * 2}])
    assert torch.equal(dataset[0]["video"], make_dataset("v")[0]["video"] * 2)


def test_parts_are_built_from_configs(make_dataset: Any, write_hdf5: Any) -> None:
    features = {"type": "HDF5FeatureStore", "files": write_hdf5(v=[[3.0, 4.0]] * 10)}
    dataset = make_dataset("v", features=features, text={"type": "SyntheticText", "dim": 8})
    assert dataset[0]["video"][9].tolist() == pytest.approx([0.6, 0.8, 0.9, 1.0])
    assert dataset[0]["queries"][0]["words"].shape == (2, 8)


def test_all_queries_are_prepared_at_once(make_dataset: Any, length_text: Any) -> None:
    make_dataset("v", "w", indices=[1])
    assert length_text.prepared == [("a door", 0)]


def test_videos_without_features_show_on_initialisation(make_dataset: Any) -> None:
    with pytest.raises(MissingFeaturesError) as error:
        make_dataset("v", "lost")
    assert str(error.value) == "1 of 2 annotated videos have no features in memory: lost"
    with pytest.raises(MissingFeaturesError, match=r"6 of 6 .* lost0, lost1, lost2, lost3, lost4 and 1 more"):
        make_dataset(*(f"lost{i}" for i in range(6)))


def test_only_selected_videos_need_features(make_dataset: Any) -> None:
    assert len(make_dataset("v", "lost", indices=1)) == 1


def test_lazy_initialisation(make_dataset: Any) -> None:
    dataset = make_dataset("lost", lazy_init=True)
    with pytest.raises(MissingFeaturesError):
        dataset.full_init()


def test_no_videos(make_dataset: Any) -> None:
    with pytest.raises(ValueError, match="ListDataset: no query is left of the annotations"):
        make_dataset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_length": 0}, "clip_length is 0, expected seconds > 0, or None"),
        ({"clip_length": -1}, "clip_length is -1, expected seconds > 0, or None"),
        ({"max_clips": 0}, "max_clips is 0, expected at least 1"),
    ],
)
def test_arguments_are_checked(make_dataset: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_dataset("v", **options)


def test_misspelt_argument(make_dataset: Any) -> None:
    with pytest.raises(TypeError, match="max_clip"):
        make_dataset("v", max_clip=3)
