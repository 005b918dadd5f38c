# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which lengths batches are padded to, and that padding changes no number."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mesm_plugin.datasets import BucketedCollate, HDF5FeatureStore, SyntheticDataset, collate_grounding
from mesm_plugin.datasets.length_buckets import DatasetLengths, LengthBuckets, choose_buckets
from mesm_plugin.registry import MODELS


def expected_length(buckets, lengths, joined):
    values, counts = np.unique(lengths, return_counts=True)
    longest = np.diff((counts.cumsum() / counts.sum()) ** joined, prepend=0.0)
    return sum(p * min(b for b in buckets if b >= v) for v, p in zip(values, longest, strict=True))


def test_buckets_are_the_best_there_are():
    rng = np.random.default_rng(0)
    for _ in range(60):
        lengths, count = rng.integers(1, 12, rng.integers(1, 9)), int(rng.integers(1, 5))
        joined = float(rng.integers(1, 6))
        buckets = choose_buckets(lengths.tolist(), joined, count)
        values = np.unique(lengths).tolist()
        others = [
            (*shorter, values[-1])
            for size in range(min(count, len(values)))
            for shorter in itertools.combinations(values[:-1], size)
        ]
        assert buckets in others
        best = min(expected_length(other, lengths, joined) for other in others)
        assert expected_length(buckets, lengths, joined) == pytest.approx(best)


def test_larger_batches_have_longer_buckets():
    lengths = [10] * 90 + [20] * 9 + [100]
    assert choose_buckets(lengths, 1, 2) == (10, 100)
    assert choose_buckets(lengths, 12, 2) == (20, 100)
    assert choose_buckets(lengths, 1, 3) == (10, 20, 100)
    assert choose_buckets([30] * 5, 12, 4) == (30,)


@pytest.mark.parametrize(("lengths", "count", "message"), [([1], 0, "0 buckets"), ([], 1, "no lengths")])
def test_nothing_to_choose(lengths, count, message):
    with pytest.raises(ValueError, match=message):
        choose_buckets(lengths, 2, count)


def test_lengths_are_those_of_the_items():
    dataset = SyntheticDataset(split="train", num_videos=8)
    lengths = DatasetLengths.of(dataset)
    items = [dataset[i] for i in range(8)]
    assert lengths == DatasetLengths.of(items)
    assert lengths.clips == [len(item["video"]) for item in items]
    assert set(lengths.moments) == {1}
    dataset.max_clips = 50
    assert max(DatasetLengths.of(dataset).clips) == max(len(dataset[i]["video"]) for i in range(8)) == 50


def test_features_that_were_checked_are_not_read_again(write_hdf5, tmp_path, monkeypatch):
    monkeypatch.setenv("MESM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mesm_plugin.datasets.checked_arrays._SECONDS_UNTIL_SETTLED", -1.0)
    files = [
        write_hdf5("a.hdf5", v=np.ones((7, 3)), w=np.ones((4, 3))),
        write_hdf5("b.hdf5", v=np.ones((6, 2)), w=np.ones((4, 2))),
    ]
    store = HDF5FeatureStore(files)
    assert store.find_problems(["v", "w"]) == {}
    monkeypatch.setattr("mesm_plugin.datasets.hdf5.HDF5File.read", None)
    assert store.num_clips(["v", "w"]) == {"v": 6, "w": 4}


def test_padding_changes_no_loss_and_no_gradient(make_batch, grounder_config):
    # Two videos of one source, so that clips of sources are numbered anew.
    inputs = make_batch([7, 5, 6], [2, 1, 3], sources=["s", "t", "s"])["inputs"]
    padded = LengthBuckets((6, 9, 12), (8,), 2).pad(inputs)
    assert padded["video"].shape[1] == padded["segment_mask"].shape[1] == 9
    assert padded["words"].shape[1] == padded["masked_words"].shape[1] == padded["words_label"].shape[1] == 8
    assert padded["moments"].shape[1] == padded["moments_mask"].shape[1] == 2
    assert padded["source_clips"].shape[1] == 18
    clips = padded["video"].flatten(0, 1)[padded["source_clips"]][padded["source_clips_mask"]]
    torch.testing.assert_close(
        clips, inputs["video"].flatten(0, 1)[inputs["source_clips"]][inputs["source_clips_mask"]]
    )

    torch.manual_seed(0)
    model = MODELS.build(grounder_config)
    gradients = []
    for batch in (inputs, padded):
        model.zero_grad()
        losses = model.loss(batch)
        torch.stack(list(losses.values())).sum().backward()
        gradients.append([losses, {name: x.grad for name, x in model.named_parameters() if x.grad is not None}])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_longer_batch_is_named(make_batch):
    with pytest.raises(ValueError, match=r"a batch has 9 clips, more than .* when the buckets \(5, 8\) were chosen"):
        LengthBuckets((5, 8), (8,), 1).pad(make_batch([9, 5], [1, 1])["inputs"])


def test_other_data_add_what_is_longer():
    buckets = LengthBuckets((5, 8), (6,), 1).extended(DatasetLengths([7, 9], [6], [3]))
    assert buckets == LengthBuckets((5, 8, 9), (6,), 3)
    assert buckets.extended(DatasetLengths([9], [6], [])) == buckets


def test_a_loader_pads_its_batches():
    dataset = SyntheticDataset(split="train", num_videos=8)

    def collate(items):
        return collate_grounding(items, training=True)

    loader = DataLoader(dataset, batch_size=2, collate_fn=collate)
    plain = list(loader)
    installed = BucketedCollate.install(loader, 2, 1)
    assert BucketedCollate.install(loader, 1, 1) is installed
    buckets = installed.buckets
    assert len(buckets.clips) == 2
    assert buckets.clips[-1] == max(batch["inputs"]["video"].shape[1] for batch in plain)
    for before, after in zip(plain, loader, strict=True):
        assert after["inputs"]["video"].shape[1] in buckets.clips
        assert (after["inputs"]["words"].shape[1],) == buckets.words
        assert [sample.vid for sample in after["data_samples"]] == [sample.vid for sample in before["data_samples"]]
        assert after["inputs"]["video_mask"].sum() == before["inputs"]["video_mask"].sum()
