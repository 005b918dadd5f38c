# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mesm_plugin.datasets import SyntheticDataset, collate_grounding
from mesm_plugin.registry import FUNCTIONS

MakeItem = Callable[..., dict[str, Any]]
INFERENCE = {
    *("video", "video_mask", "words", "words_mask", "query_video", "source", "source_clips", "source_clips_mask"),
    *("pair_video", "pair_query"),
}
LABELS = {"moments", "moments_mask", "segment_mask", "saliency"}
TRAINING = {"masked_words", "words_label", "unknown_words", "hinge_positive", "hinge_negative"}


def _inputs(items: list[dict[str, Any]], training: bool = True, **options: Any) -> dict[str, torch.Tensor]:
    return collate_grounding(items, training=training, **options)["inputs"]


def test_keys_shapes_and_dtypes(make_item: MakeItem) -> None:
    batch = collate_grounding([make_item(0, 6, (3, 2)), make_item(1, 4, (5,))], training=True)
    assert batch.keys() == {"inputs", "data_samples"}
    assert [sample.vid for sample in batch["data_samples"]] == ["v0", "v1"]
    inputs = batch["inputs"]
    assert inputs.keys() == INFERENCE | LABELS | TRAINING
    f, b, i = torch.float32, torch.bool, torch.int64
    assert {key: (tuple(value.shape), value.dtype) for key, value in inputs.items()} == {
        "video": ((2, 6, 2), f),
        "video_mask": ((2, 6), b),
        "words": ((3, 5, 3), f),
        "words_mask": ((3, 5), b),
        "query_video": ((3,), i),
        "source": ((2,), i),
        "source_clips": ((2, 6), i),
        "source_clips_mask": ((2, 6), b),
        "pair_video": ((6,), i),
        "pair_query": ((6,), i),
        "moments": ((3, 1, 2), f),
        "moments_mask": ((3, 1), b),
        "segment_mask": ((3, 6), b),
        "saliency": ((3, 6), f),
        "masked_words": ((3, 5), b),
        "words_label": ((3, 5), i),
        "unknown_words": ((3, 5), b),
        "hinge_positive": ((3, 2), i),
        "hinge_negative": ((3, 2), i),
    }


def test_everything_lands_in_its_place_and_padding_is_zero(make_item: MakeItem) -> None:
    inputs = _inputs([make_item(0, 3, (2, 1)), make_item(1, 2, (3,))])
    assert inputs["video"].tolist() == [[[0, 1], [1, 1], [2, 1]], [[100, 1], [101, 1], [0, 0]]]
    assert inputs["video_mask"].tolist() == [[True, True, True], [True, True, False]]
    assert inputs["words"].tolist() == [
        [[0, 0, 0], [0, 0, 1], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [1, 0, 1], [1, 0, 2]],
    ]
    assert inputs["words_mask"].tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert inputs["query_video"].tolist() == [0, 0, 1]
    assert inputs["words_label"].tolist() == [[1, 2, 0], [1, 0, 0], [1, 2, 3]]
    assert inputs["unknown_words"].tolist() == [[True, False, False]] * 3
    assert inputs["segment_mask"].tolist() == [[True, True, False], [False, True, True], [True, True, False]]
    assert inputs["saliency"].tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0]]
    np.testing.assert_allclose(inputs["moments"], [[[0, 2 / 3]], [[1 / 3, 1]], [[0, 1]]], rtol=1e-6)
    assert inputs["moments_mask"].all()


def test_ragged_moments(make_item: MakeItem) -> None:
    item = make_item(0, 6, (2, 2))
    item["queries"][1]["moments"] = torch.tensor([[0.1, 0.2], [0.5, 1.5]])
    inputs = _inputs([item], training=False)
    np.testing.assert_allclose(inputs["moments"], [[[0, 1 / 3], [0, 0]], [[0.1, 0.2], [0.5, 1.5]]], rtol=1e-6)
    assert inputs["moments_mask"].tolist() == [[True, False], [True, True]]


def test_clips_of_sources(make_item: MakeItem) -> None:
    inputs = _inputs([make_item(0, 3, source="b"), make_item(1, 2, source="a"), make_item(2, 1, source="b")])
    assert inputs["source"].tolist() == [0, 1, 0]
    # Clips are numbered in the padded batch: video 1 starts at 3, video 2 at 6.
    assert inputs["source_clips"].tolist() == [[0, 1, 2, 6], [3, 4, 0, 0]]
    assert inputs["source_clips_mask"].tolist() == [[True] * 4, [True, True, False, False]]
    gathered = inputs["video"].flatten(0, 1)[inputs["source_clips"]][..., 0]
    assert gathered.tolist() == [[0, 1, 2, 200], [100, 101, 0, 0]]


def test_inference_has_positive_pairs_only_and_nothing_random(make_item: MakeItem) -> None:
    items = [make_item(0, 6, (3, 2)), make_item(1, 4, (5,))]
    inputs = _inputs(items, training=False)
    assert inputs.keys() == INFERENCE | LABELS
    assert inputs["pair_video"].tolist() == [0, 0, 1]
    assert inputs["pair_query"].tolist() == [0, 1, 2]
    other = _inputs(items, training=False, seed=7)
    assert all(torch.equal(inputs[key], other[key]) for key in inputs)


def test_unlabelled_inference(make_item: MakeItem) -> None:
    assert _inputs([make_item(0, labelled=False, classes=False)], training=False).keys() == INFERENCE


def test_without_vocabulary(make_item: MakeItem) -> None:
    inputs = _inputs([make_item(0, classes=False), make_item(1, classes=False)])
    assert inputs.keys() == (INFERENCE | LABELS | TRAINING) - {"words_label", "unknown_words"}


def _negatives(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The queries of the negative pairs, after checking the form of all pairs."""
    queries = len(inputs["query_video"])
    assert len(inputs["pair_video"]) == len(inputs["pair_query"]) == 2 * queries
    assert inputs["pair_query"][:queries].tolist() == list(range(queries))
    assert torch.equal(inputs["pair_video"][:queries], inputs["query_video"])
    assert torch.equal(inputs["pair_video"][queries:], inputs["query_video"])
    return inputs["pair_query"][queries:]


@given(
    sources=st.lists(st.sampled_from("abcd"), min_size=2, max_size=8).filter(lambda s: len(set(s)) > 1),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_negatives_never_share_the_source(sources: list[str], seed: int, data: st.DataObject) -> None:
    make_item = _item_without_fixture
    counts = data.draw(st.lists(st.integers(1, 4), min_size=len(sources), max_size=len(sources)))
    inputs = _inputs([make_item(i, s, n) for i, (s, n) in enumerate(zip(sources, counts, strict=True))], seed=seed)
    negatives = _negatives(inputs)
    source_of_query = inputs["source"][inputs["query_video"]]
    assert ((negatives >= 0) & (negatives < sum(counts))).all()
    assert (source_of_query[negatives] != source_of_query).all()


def _item_without_fixture(index: int, source: str, queries: int) -> dict[str, Any]:
    query = {
        "words": torch.ones(2, 1),
        "words_weight": torch.ones(2),
        "moments": torch.tensor([[0.0, 0.5]]),
        "segment_mask": torch.tensor([True, False]),
        "saliency": torch.tensor([1.0, 0.0]),
    }
    return {
        "sample_idx": index,
        "source": source,
        "video": torch.ones(2, 1),
        "queries": [query] * queries,
        "data_sample": None,
    }


def test_negatives_are_uniform_over_the_queries_of_other_sources() -> None:
    # Sources: a has queries 0, 1 and 5; b has 2, 3, 4; c has 6.
    layout = [("a", 2), ("b", 3), ("a", 1), ("c", 1)]
    items = [_item_without_fixture(i, source, queries) for i, (source, queries) in enumerate(layout)]
    counts = torch.zeros(7, 7)
    repeats = 1500
    for seed in range(repeats):
        counts[torch.arange(7), _negatives(_inputs(items, seed=seed))] += 1
    source = torch.tensor([0, 0, 1, 1, 1, 0, 2])
    allowed = (source[:, None] != source).float()
    expected = allowed / allowed.sum(dim=1, keepdim=True)
    assert (counts[expected == 0] == 0).all()
    # Five standard deviations of a share of 1/3.
    assert (counts / repeats - expected).abs().max() < 5 * (2 / 9 / repeats) ** 0.5


def test_batch_of_one_source_has_no_negative_pairs(make_item: MakeItem) -> None:
    for items in ([make_item(0)], [make_item(0, source="s"), make_item(1, source="s")]):
        inputs = _inputs(items)
        queries = len(inputs["query_video"])
        assert inputs["pair_query"].tolist() == list(range(queries))
        assert torch.equal(inputs["pair_video"], inputs["query_video"])
        assert inputs["masked_words"].any()


@pytest.mark.parametrize(
    ("words", "ratio", "masked"),
    [(1, 1 / 3, 0), (2, 1 / 3, 1), (3, 1 / 3, 1), (5, 1 / 3, 1), (6, 1 / 3, 2), (9, 1 / 3, 3), (10, 0.5, 5), (4, 0, 1)],
)
def test_number_of_masked_words(make_item: MakeItem, words: int, ratio: float, masked: int) -> None:
    inputs = _inputs([make_item(0, num_words=(words, 12))], mask_ratio=ratio)
    assert inputs["masked_words"][0].sum() == masked
    assert not inputs["masked_words"][~inputs["words_mask"]].any()


def test_words_of_weight_zero_are_never_masked(make_item: MakeItem) -> None:
    for index in range(50):
        item = make_item(index, num_words=(6,), weights=[0, 1, 0, 1, 0, 0])
        assert _inputs([item])["masked_words"].tolist() == [[False, True, False, True, False, False]]
    assert not _inputs([make_item(0, num_words=(3,), weights=[0, 0, 0])])["masked_words"].any()
    # Two of six words would be masked, but only one may be.
    item = make_item(0, num_words=(6,), weights=[0, 0, 0, 0, 0, 1])
    assert _inputs([item])["masked_words"].tolist() == [[False] * 5 + [True]]


def test_words_are_masked_in_proportion_to_their_weight(make_item: MakeItem) -> None:
    # Two of seven, drawn one after the other: first 2/8 or 1/8, then renormalised without the first.
    weights = [2, 1, 1, 1, 1, 1, 1]
    inputs = _inputs([make_item(0, num_words=(7,) * 6000, weights=weights)])
    heavy = 2 / 8 + 6 * (1 / 8) * (2 / 7)
    expected = [heavy] + [(2 - heavy) / 6] * 6
    np.testing.assert_allclose(inputs["masked_words"].float().mean(dim=0), expected, atol=0.03)


def test_hinge_clips(make_item: MakeItem) -> None:
    seen: set[tuple[int, ...]] = set()
    for index in range(60):
        # Query 0 covers clips 0 and 1 of 5, query 3 clips 3 and 4.
        inputs = _inputs([make_item(index, 5, (2, 2, 2, 2)), make_item(100 + index, 9, (2,))])
        positive, negative = inputs["hinge_positive"], inputs["hinge_negative"]
        assert sorted(positive[0].tolist()) == [0, 1]
        assert sorted(positive[3].tolist()) == [3, 4]
        assert len(set(negative[0].tolist())) == 2
        assert set(negative[0].tolist()) <= {2, 3, 4}
        assert set(negative[3].tolist()) <= {0, 1, 2}
        seen.add(tuple(negative[0].tolist()))
    assert seen == {(2, 3), (3, 2), (2, 4), (4, 2), (3, 4), (4, 3)}


def test_hinge_clips_where_there_are_too_few(make_item: MakeItem) -> None:
    def drawn(mask: list[bool]) -> tuple[list[int], list[int]]:
        item = make_item(0, len(mask), (2,))
        item["queries"][0]["segment_mask"] = torch.tensor(mask)
        # The second video is longer: its padding must not be drawn for the first.
        inputs = _inputs([item, make_item(1, 12, (2,))])
        return inputs["hinge_positive"][0].tolist(), inputs["hinge_negative"][0].tolist()

    assert drawn([False, True, False, False])[0] == [1, 1]
    assert drawn([True, True, False, True])[1] == [2, 2]
    positive, negative = drawn([True, True, True])
    assert negative == positive
    assert len(set(positive)) == 2
    assert drawn([True]) == ([0, 0], [0, 0])


def test_hinge_clips_of_graded_clips(make_item: MakeItem) -> None:
    seen: set[tuple[int, ...]] = set()
    for index in range(60):
        item = make_item(index, 5, (2, 2))
        for query in item["queries"]:
            query["extreme_clips"] = torch.tensor([1, 0])
        item["queries"][1]["segment_mask"][:] = True
        inputs = _inputs([item])
        positive, negative = inputs["hinge_positive"], inputs["hinge_negative"]
        # Query 0 covers clips 0 and 1 of 5; the second clips are drawn.
        assert (positive[0, 0], negative[0, 0]) == (1, 0)
        seen.add((int(positive[0, 1]), int(negative[0, 1])))
        # No clip is outside: the graded ones come twice.
        assert (positive[1].tolist(), negative[1].tolist()) == ([1, 1], [0, 0])
    assert seen == {(clip, other) for clip in (0, 1) for other in (2, 3, 4)}


def test_moments_are_drawn(make_item: MakeItem) -> None:
    def batch(index: int, **options: Any) -> dict[str, torch.Tensor]:
        item = make_item(index, 8, (2, 2))
        item["queries"][0]["moments"] = torch.arange(14.0).reshape(7, 2) / 16
        return collate_grounding([item], **{"training": True, "max_moments": 5} | options)["inputs"]

    seen = set()
    for index in range(200):
        inputs = batch(index)
        assert inputs["moments_mask"].sum(dim=1).tolist() == [5, 1]
        starts = (inputs["moments"][0, :, 0] * 8).int().tolist()
        assert starts == sorted(set(starts))
        seen.add(tuple(starts))
    assert len(seen) == 21  # 5 of 7
    assert batch(0, max_moments=None)["moments"].shape == (2, 7, 2)
    assert batch(0, max_moments=7)["moments"].shape == (2, 7, 2)
    assert batch(0, training=False)["moments"].shape == (2, 7, 2)
    with pytest.raises(ValueError, match="max_moments is 0, expected at least 1, or None for all"):
        batch(0, max_moments=0)


def test_same_seed_and_items_give_the_same_batch(make_item: MakeItem) -> None:
    items = [make_item(i, 20, (9, 9, 9)) for i in range(4)]
    first, again = _inputs(items, seed=3), _inputs(items, seed=3)
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("key", ["pair_query", "masked_words", "hinge_negative"])
def test_seed_and_items_decide_the_draws(make_item: MakeItem, key: str) -> None:
    items = [make_item(i, 20, (9, 9, 9)) for i in range(4)]
    others = [make_item(i + 1, 20, (9, 9, 9)) for i in range(4)]
    reference = _inputs(items)[key]
    assert not torch.equal(_inputs(items, seed=1)[key], reference)
    assert not torch.equal(_inputs(others)[key], reference)


def test_global_generators_are_left_alone(make_item: MakeItem) -> None:
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    _inputs([make_item(0), make_item(1)])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert repr(np.random.get_state()) == before[2]  # noqa: NPY002


def test_number_of_workers_changes_nothing() -> None:
    dataset = SyntheticDataset(split="train", num_videos=22)

    def batches(workers: int) -> list[dict[str, Any]]:
        collate = partial(FUNCTIONS.get("collate_grounding"), training=True, seed=5)
        return list(DataLoader(dataset, batch_size=4, collate_fn=collate, num_workers=workers))

    reference = batches(0)
    assert len(reference) == 6
    for workers in (1, 2):
        for batch, expected in zip(batches(workers), reference, strict=True):
            assert batch["inputs"].keys() == expected["inputs"].keys()
            for key, value in expected["inputs"].items():
                assert torch.equal(batch["inputs"][key], value), key
            assert [s.vid for s in batch["data_samples"]] == [s.vid for s in expected["data_samples"]]


def test_training_needs_labels(make_item: MakeItem) -> None:
    with pytest.raises(ValueError, match=r"video v0 has no labels, expected `moments` of every query in training"):
        _inputs([make_item(0, labelled=False)])


def test_mixed_batches(make_item: MakeItem) -> None:
    message = r"mixes queries labelled and not: video v0 has `moments`, video v1 has none"
    with pytest.raises(ValueError, match=message):
        _inputs([make_item(0), make_item(1, labelled=False)], training=False)
    message = r"mixes queries with classes of words and not: video v1 has `words_label`, video v0 has none"
    with pytest.raises(ValueError, match=message):
        _inputs([make_item(0, classes=False), make_item(1)])


def test_features_of_different_widths(make_item: MakeItem) -> None:
    wide = make_item(1)
    wide["video"] = torch.ones(6, 5)
    with pytest.raises(ValueError, match="the clip features of video v0 have 2 channels, those of video v1 have 5"):
        _inputs([make_item(0), wide])
    wide = make_item(1)
    wide["queries"][1]["words"] = torch.ones(2, 7)
    with pytest.raises(ValueError, match="the word features of video v0 have 3 channels, those of video v1 have 7"):
        _inputs([make_item(0), wide])
