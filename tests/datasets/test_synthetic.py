# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from mesm_plugin.datasets import MissingFeaturesError, SyntheticDataset, SyntheticFeatures
from mesm_plugin.datasets.synthetic_script import write_script
from mesm_plugin.registry import DATASETS


def test_item() -> None:
    dataset = DATASETS.build({"type": "SyntheticDataset", "split": "train", "num_videos": 3})
    assert len(dataset) == 3
    script = write_script(0, "train", 1)
    item = dataset[1]
    num_clips = int(np.ceil(script.duration))
    assert item["video"].shape == (num_clips, 130)
    assert item["video"].dtype == torch.float32
    np.testing.assert_allclose(item["video"][:, :128].norm(dim=1), 1, rtol=1e-5)
    sample = item["data_sample"]
    assert (sample.vid, sample.duration, sample.num_clips) == (script.vid, script.duration, num_clips)
    assert sample.sentences == [sentence for sentence, _ in script.queries]
    for query, (_, event) in zip(item["queries"], script.queries, strict=True):
        assert query["segment_mask"].nonzero()[0].item() == int(event.start)
        assert query["segment_mask"].nonzero()[-1].item() == min(int(event.end), num_clips - 1)
        assert query["words"].shape[1] == 64


def test_seed_decides_everything() -> None:
    first, again, other = (SyntheticDataset(split="val", num_videos=2, seed=seed)[1] for seed in (5, 5, 6))
    assert torch.equal(first["video"], again["video"])
    assert torch.equal(first["queries"][0]["words"], again["queries"][0]["words"])
    assert first["video"].shape != other["video"].shape or not torch.equal(first["video"], other["video"])


def test_more_videos_leave_the_first_ones_unchanged() -> None:
    few, many = (SyntheticDataset(split="train", num_videos=count) for count in (2, 5))
    assert torch.equal(few[1]["video"], many[1]["video"])
    assert few[1]["data_sample"].qids == many[1]["data_sample"].qids


def test_query_ids_count_through() -> None:
    dataset = SyntheticDataset(split="test", num_videos=20)
    qids = [qid for index in range(20) for qid in dataset[index]["data_sample"].qids]
    assert qids == list(range(len(qids)))


def test_splits_share_no_video() -> None:
    drawn = {}
    for split in ("train", "val", "test"):
        dataset = SyntheticDataset(split=split, num_videos=200)
        infos = [dataset.get_data_info(index) for index in range(200)]
        drawn[split] = {info["vid"] for info in infos}, {repr(info["queries"][0]["moments"]) for info in infos}
        clips = dataset[0]["video"][:20, :128]
        drawn[split] += (clips,)
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not drawn[first][0] & drawn[second][0]
        assert drawn[first][1] != drawn[second][1]
        assert not torch.allclose(drawn[first][2], drawn[second][2])


def test_clips_show_their_events() -> None:
    """Without noise, a clip that shows one event has that event's direction."""
    features = SyntheticFeatures(noise=0, background=0)
    script = write_script(0, "train", 0)
    clips = features[script.vid]
    centres = np.arange(len(clips)) + 0.5
    covered = np.array([(event.start <= centres) & (centres <= event.end) for event in script.events])
    assert np.abs(clips[~covered.any(axis=0)]).max() == 0
    for event, mask in zip(script.events, covered, strict=True):
        alone = clips[mask & (covered.sum(axis=0) == 1)]
        meaning = sum(features._vectors[word] for word in event.words) @ features._projection
        np.testing.assert_allclose(alone, np.tile(meaning / np.linalg.norm(meaning), (len(alone), 1)), atol=1e-6)


def test_noise_and_background_have_the_given_lengths() -> None:
    def raw(**options: float) -> np.ndarray:
        return SyntheticFeatures(normalize=False, **options)["synthetic_train_00000"]

    clean = raw(noise=0, background=0)
    noise = raw(noise=1.5, background=0) - clean
    background = raw(noise=0, background=0.7) - clean
    assert np.linalg.norm(noise, axis=1).mean() == pytest.approx(1.5, rel=0.05)
    assert np.linalg.norm(background, axis=1) == pytest.approx(np.linalg.norm(background[0]), rel=1e-5)
    assert np.linalg.norm(background[0]) == pytest.approx(0.7, rel=0.2)


def test_foreign_video() -> None:
    features = SyntheticFeatures()
    assert "AO8RW" not in features
    assert "synthetic_test_00099" in features
    with pytest.raises(MissingFeaturesError, match="the synthetic data set has no features of video AO8RW"):
        features["AO8RW"]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="split is 'dev', expected one of 'train', 'val', 'test'"):
        SyntheticDataset(split="dev", num_videos=2)
    with pytest.raises(ValueError, match="num_videos is 0, expected at least 1"):
        SyntheticDataset(split="train", num_videos=0)
    with pytest.raises(ValueError, match="dim is 32, expected at least word_dim, 64"):
        SyntheticDataset(split="train", num_videos=1, feature_dim=32)


@pytest.mark.parametrize("split", ["train", "test"])
def test_best_constant_span_stays_low(split: str) -> None:
    """No span, the same for all queries, reaches R1@0.5 of 35; not even the best one of a fine grid."""
    dataset = SyntheticDataset(split=split, num_videos=500)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    start, end = np.array(
        [np.array(query["moments"][0]) / info["duration"] for info in infos for query in info["queries"]]
    ).T
    best = 0.0
    grid = np.linspace(0, 1, 51)
    for first in grid[:-1]:
        last = grid[grid > first, None]
        intersection = (np.minimum(last, end) - np.maximum(first, start)).clip(min=0)
        iou = intersection / (last - first + end - start - intersection)
        best = max(best, 100 * (iou >= 0.5).mean(axis=1).max())
    assert 10 < best < 25
