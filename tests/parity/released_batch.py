# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Turns the inputs of a golden file, one row a (video, query) pair, into a batch of this package."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def distinct_videos(inputs: dict[str, Any], one_video_per_pair: bool) -> tuple[list[int], Tensor]:
    """First row of each distinct video, and the video of each row."""
    groups = inputs["num_clips"].tolist()
    if one_video_per_pair:
        rows = sum(groups)
        return list(range(rows)), torch.arange(rows)
    first = [sum(groups[:i]) for i in range(len(groups))]
    return first, torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))


def build_batch(golden: dict[str, Any]) -> dict[str, Tensor]:
    """The training batch of a golden file, its random draws included."""
    config, inputs, randomness = golden["config"], golden["inputs"], golden["randomness"]
    # QVHighlights lists clip sequences by source video; elsewhere a video's rows repeat its features.
    several_moments = "windows_xx" in inputs
    first, query_video = distinct_videos(inputs, one_video_per_pair=several_moments)
    source_of_query = torch.repeat_interleave(torch.arange(len(inputs["num_clips"])), inputs["num_clips"])

    words = inputs["words_id"]
    if config["normalize_txt"]:
        words = F.normalize(words, dim=-1, eps=1e-5)
    words_mask = words.sum(dim=-1) != 0
    if several_moments:
        length = max(len(windows) for windows in inputs["windows_xx"])
        moments = torch.zeros(len(words), length, 2)
        moments_mask = torch.zeros(len(words), length, dtype=torch.bool)
        for i, windows in enumerate(inputs["windows_xx"]):
            moments[i, : len(windows)] = windows
            moments_mask[i, : len(windows)] = True
    else:
        moments = (inputs["moment"] / inputs["duration"][:, None])[:, None]
        moments_mask = torch.ones(len(words), 1, dtype=torch.bool)

    video_mask = inputs["video_mask"][first]
    source = source_of_query[first]
    length = video_mask.shape[1]
    clips = [
        torch.cat([torch.arange(length)[video_mask[v]] + v * length for v in (source == s).nonzero()[:, 0].tolist()])
        for s in range(int(source.max()) + 1)
    ]
    source_clips = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    lengths = torch.tensor([len(c) for c in clips])

    queries = torch.arange(len(words))
    batch = {
        "video": inputs["video_feat"][first],
        "video_mask": video_mask,
        "words": words,
        "words_mask": words_mask,
        "query_video": query_video,
        "source": source,
        "source_clips": source_clips,
        "source_clips_mask": torch.arange(source_clips.shape[1]) < lengths[:, None],
        "pair_video": query_video.repeat(2),
        "pair_query": torch.cat((queries, randomness["negative_index"])),
        "moments": moments,
        "moments_mask": moments_mask,
        "segment_mask": inputs["clip_mask"],
        "saliency": inputs.get("saliency_label", inputs["clip_mask"]).float(),
    }
    if config["rec_fw"]:
        batch["masked_words"] = randomness["mlm_mask"].bool()
        batch["unknown_words"] = inputs["unknown_mask"]
        batch["words_label"] = inputs["words_label"]
    if "pos_idx" in inputs:
        batch["hinge_positive"], batch["hinge_negative"] = inputs["pos_idx"], inputs["neg_idx"]
    return batch
