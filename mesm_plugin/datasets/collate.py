# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Collating videos into a batch: everything random or ragged is decided here, on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mesm_plugin.datasets.tensor_block import TensorBlock
from mesm_plugin.registry import FUNCTIONS

_HINGE_CLIPS = 2


@FUNCTIONS.register_module()
def collate_grounding(
    items: Sequence[dict[str, Any]],
    *,
    training: bool,
    seed: int = 0,
    mask_ratio: float = 1 / 3,
    max_moments: int | None = None,
) -> dict[str, Any]:
    """Collates items of a `GroundingDataset` (V videos, Q queries) into tensors, every video and every query once.

    All random draws come from a generator seeded with `seed` and the items' `sample_idx`. So they depend neither on the
    number of loader workers nor on the worker that collates, and a resumed run repeats them.

    Always among the inputs; masks are True where valid:
        `video` (V, Lv, Dv) float32, zero padded, and `video_mask` (V, Lv); `words` (Q, Lw, Dt) float32 and `words_mask`
        (Q, Lw); `query_video` (Q,) int64, the video of each query; `source` (V,) int64, sources numbered in order of
        appearance; `source_clips` (S, Ls) int64, where the clips of each source are among the V * Lv clips, in order
        and 0 where padded, and `source_clips_mask` (S, Ls); `pair_video`, `pair_query` (P,) int64.
    Pairs:
        The first Q are each query with its video. In training, pair Q + i is the video of query i with a query drawn
        uniformly among those of other sources, so P = 2Q; if the batch has only one source, P = Q.
    Where the items are labelled:
        `moments` (Q, M, 2) float32, start and end divided by the duration, and `moments_mask` (Q, M); `segment_mask`
        (Q, Lv), clips inside the moments; `saliency` (Q, Lv) float32.
    In training:
        `masked_words` (Q, Lw) bool: of n words max(1, int(n * mask_ratio)), drawn without replacement by weight, words
        of weight 0 never, and none where n = 1. With a vocabulary `words_label` (Q, Lw) int64, 0 where padded, and
        `unknown_words` (Q, Lw) bool. `hinge_positive` and `hinge_negative` (Q, 2) int64: clips drawn inside and outside
        of `segment_mask`, twice the same only if there is but one; the same clips in both if none is outside. Where
        clips are graded, the first of both are the clip graded highest and the one graded lowest, as in Moment-DETR;
        the second are drawn, or these two again if no clip is outside.

    Args:
        items: Items of the batch.
        training: Whether to draw what only training needs; if not, nothing is random.
        seed: Of the random draws.
        mask_ratio: Share of the words to mask.
        max_moments: In training, of the moments of a query with more so many are drawn; None keeps all. The clips
            inside stay those of all moments.

    Returns:
        `inputs`, a dict of tensors, and `data_samples`, a list of V `GroundingDataSample`.

    Raises:
        ValueError: Items without labels in training, some items with labels and some without, features of different
            widths, or `max_moments` is not positive.
    """
    if max_moments is not None and max_moments < 1:
        raise ValueError(f"max_moments is {max_moments}, expected at least 1, or None for all")
    rng = np.random.default_rng([seed, *(item["sample_idx"] for item in items)])
    queries = [query for item in items for query in item["queries"]]
    labelled = _all_or_none(items, queries, "moments", "labelled")
    if training and not labelled:
        raise ValueError(f"video {_vid(items[0])} has no labels, expected `moments` of every query in training")
    _require_one_width([item["video"] for item in items], items, "clip")
    _require_one_width([query["words"] for query in queries], [i for i in items for _ in i["queries"]], "word")

    query_video = np.repeat(np.arange(len(items)), [len(item["queries"]) for item in items])
    numbers: dict[str, int] = {}
    source = np.array([numbers.setdefault(item["source"], len(numbers)) for item in items])
    clips = [len(item["video"]) for item in items]
    source_clips = _clips_of_sources(source, clips)

    inputs = TensorBlock(
        video=_pad(item["video"] for item in items),
        video_mask=_mask_of_lengths(clips),
        words=_pad(query["words"] for query in queries),
        words_mask=_mask_of_lengths([len(query["words"]) for query in queries]),
        query_video=torch.from_numpy(query_video),
        source=torch.from_numpy(source),
        source_clips=_pad(source_clips),
        source_clips_mask=_mask_of_lengths(list(map(len, source_clips))),
    )
    if labelled:
        moments = [query["moments"] for query in queries]
        if training and max_moments is not None:
            moments = [_draw_moments(rows, max_moments, rng) for rows in moments]
        inputs["moments"] = _pad(moments)
        inputs["moments_mask"] = _mask_of_lengths(list(map(len, moments)))
        # A batch's longest video has a query, so padding gives Lv columns.
        inputs["segment_mask"] = _pad(query["segment_mask"] for query in queries)
        inputs["saliency"] = _pad(query["saliency"] for query in queries)

    pair_video, pair_query = query_video, np.arange(len(queries))
    if training:
        negatives = _draw_of_other_sources(source[query_video], rng)
        if len(negatives):
            pair_video = np.concatenate((query_video, query_video))
            pair_query = np.concatenate((pair_query, negatives))
        weight = _pad(query["words_weight"] for query in queries).numpy()
        masked = _draw_masked_words(weight, inputs["words_mask"].numpy(), mask_ratio, rng)
        inputs["masked_words"] = torch.from_numpy(masked)
        if _all_or_none(items, queries, "words_label", "with classes of words"):
            inputs["words_label"] = _pad(query["words_label"] for query in queries)
            inputs["unknown_words"] = _pad(query["unknown_words"] for query in queries)
        inside = inputs["segment_mask"].numpy()
        outside = inputs["video_mask"].numpy()[query_video] & ~inside
        positive, negative = _draw_clips(inside, rng), _draw_clips(outside, rng)
        if _all_or_none(items, queries, "extreme_clips", "with graded clips"):
            extremes = torch.stack([query["extreme_clips"] for query in queries]).numpy()
            some_outside = outside.any(axis=1)
            positive = np.stack((extremes[:, 0], np.where(some_outside, positive[:, 0], extremes[:, 0])), axis=1)
            negative = np.stack((extremes[:, 1], np.where(some_outside, negative[:, 0], extremes[:, 1])), axis=1)
        else:
            negative = np.where(outside.any(axis=1, keepdims=True), negative, positive)
        inputs["hinge_positive"], inputs["hinge_negative"] = torch.from_numpy(positive), torch.from_numpy(negative)
    inputs["pair_video"], inputs["pair_query"] = torch.from_numpy(pair_video), torch.from_numpy(pair_query)
    return {"inputs": inputs, "data_samples": [item["data_sample"] for item in items]}


def _vid(item: dict[str, Any]) -> str:
    return item["data_sample"].vid


def _all_or_none(items: Sequence[dict[str, Any]], queries: list[dict], key: str, name: str) -> bool:
    has = [key in query for query in queries]
    if any(has) and not all(has):
        videos = [item for item in items for _ in item["queries"]]
        raise ValueError(
            f"a batch mixes queries {name} and not: video {_vid(videos[has.index(True)])} has `{key}`, "
            f"video {_vid(videos[has.index(False)])} has none"
        )
    return all(has)


def _require_one_width(sequences: list[Tensor], owners: Sequence[dict[str, Any]], row: str) -> None:
    width = sequences[0].shape[1]
    for sequence, owner in zip(sequences, owners, strict=True):
        if sequence.shape[1] != width:
            raise ValueError(
                f"the {row} features of video {_vid(owners[0])} have {width} channels, those of video {_vid(owner)} "
                f"have {sequence.shape[1]}; a batch needs features of one width"
            )


def _pad(sequences: Any) -> Tensor:
    return pad_sequence(list(sequences), batch_first=True)


def _mask_of_lengths(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def _clips_of_sources(source: np.ndarray, clips: list[int]) -> list[Tensor]:
    """For each source, the indices of its clips among the V * Lv clips of the padded batch."""
    width = max(clips)
    of_videos = [video * width + torch.arange(length) for video, length in enumerate(clips)]
    return [torch.cat([of_videos[video] for video in np.flatnonzero(source == s)]) for s in range(source.max() + 1)]


def _draw_of_other_sources(query_source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each query one drawn uniformly among those of other sources; empty if there is only one source."""
    order = np.argsort(query_source, kind="stable")
    counts = np.bincount(query_source)
    if len(counts) == 1:
        return order[:0]
    own = counts[query_source]
    # In source order the own queries are one block, which a draw among the others skips.
    draws = rng.integers(0, len(order) - own)
    block = (np.cumsum(counts) - counts)[query_source]
    return order[np.where(draws >= block, draws + own, draws)]


def _draw_moments(moments: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """So many of the (M, 2) moments, in their order; all if there are no more."""
    if len(moments) <= count:
        return moments
    return moments[np.sort(rng.choice(len(moments), count, replace=False))]


def _draw_masked_words(
    weight: np.ndarray, valid: np.ndarray, mask_ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """Words drawn without replacement, each with a probability proportional to its weight; (Q, Lw) bool.

    The smallest of exponential variates divided by the weights are such a sample (Efraimidis and Spirakis, 2006).
    """
    possible = valid & (weight > 0)
    count = valid.sum(axis=1)
    # 1e-6 lets 3 words times a third be 1 word.
    drawn = np.where(count > 1, np.maximum(1, (count * mask_ratio + 1e-6).astype(np.int64)), 0)
    drawn = np.minimum(drawn, possible.sum(axis=1))
    keys = np.where(possible, rng.standard_exponential(weight.shape) / np.where(possible, weight, 1), np.inf)
    rank = keys.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return rank < drawn[:, None]


def _draw_clips(candidates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two clips per row of (Q, Lv) candidates, different if there are two; without meaning where there is none."""
    keys = np.where(candidates, rng.random(candidates.shape), np.inf)
    width = max(_HINGE_CLIPS, keys.shape[1])
    drawn = np.pad(keys, ((0, 0), (0, width - keys.shape[1])), constant_values=np.inf).argsort(axis=1)[:, :_HINGE_CLIPS]
    few = candidates.sum(axis=1, keepdims=True) < _HINGE_CLIPS
    return np.where(few, drawn[:, :1], drawn)
