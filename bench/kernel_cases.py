# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The sizes at which the operations of `mesm_plugin.kernels` are measured, with random inputs for them."""

import random
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mesm_plugin.kernels import ProblemTable

HEADS, HEAD_SIZE = 8, 32
CHANNELS = HEADS * HEAD_SIZE
# On a CPU a case is skipped where one N x N matrix of the reference takes more bytes than this.
LARGEST_MATRIX_ON_CPU = 2**30


@dataclass(frozen=True)
class AttentionCase:
    """A batch of pairs of a video and a query; masked words are restored from the middle half of the clips.

    Args:
        name: Q, then clips x words of a pair.
        clips: Clips of each pair.
        words: Words of each pair.
    """

    name: str
    clips: tuple[int, ...]
    words: tuple[int, ...]

    @property
    def ragged(self) -> bool:
        """Whether pairs differ in length, so that packing saves something."""
        return len(set(self.clips)) > 1 or len(set(self.words)) > 1


def _even(pairs: int, clips: int, words: int) -> AttentionCase:
    return AttentionCase(f"Q{pairs} {clips}x{words}", (clips,) * pairs, (words,) * pairs)


def _ragged(pairs: int, clips: tuple[int, int], words: tuple[int, int]) -> AttentionCase:
    """Lengths spread evenly over the ranges, clips and words in unrelated orders."""

    def spread(shortest: int, longest: int, order: random.Random) -> tuple[int, ...]:
        lengths = [round(shortest + (longest - shortest) * i / (pairs - 1)) for i in range(pairs)]
        order.shuffle(lengths)
        return tuple(lengths)

    order = random.Random(0)
    name = f"Q{pairs} {clips[0]}-{clips[1]} x {words[0]}-{words[1]}"
    return AttentionCase(name, spread(*clips, order), spread(*words, order))


ATTENTION_CASES = (
    _even(4, 40, 10),
    _even(31, 75, 15),
    _ragged(31, (20, 230), (5, 32)),
    _even(128, 75, 32),
    _even(31, 600, 33),
)


@dataclass(frozen=True)
class LossCase:
    """A batch of `items` texts and as many segments."""

    items: int

    @property
    def name(self) -> str:
        """N."""
        return f"N{self.items}"

    @property
    def gpu_only(self) -> bool:
        """Whether a float32 matrix of logits is larger than LARGEST_MATRIX_ON_CPU."""
        return 4 * self.items**2 > LARGEST_MATRIX_ON_CPU


LOSS_CASES = tuple(LossCase(items) for items in (32, 1024, 8192, 65536))


def _random(*shape: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Drawn on the CPU: every device then gets the same numbers.
    return torch.randn(*shape, generator=generator).to(device, dtype)


class AttentionData:
    """Padded random inputs of a case, and where the packed ones lie in them.

    Attributes:
        tensors: q_clips (Q, Lv, H, d), k_words and v_words (Q, Lw, H, d), q_words (Q, Lw, H, d), k_clips and v_clips
            (Q, Lv, H, d).
        masks: words_mask (Q, Lw) and clips_mask (Q, Lv), True = a valid key.
        query_masks: (Q, Lv) and (Q, Lw), True = a query that is no padding.
        upstream: Gradients of both outputs, zero where a query is padding.
        clip_rows, word_rows: Positions of clips and words among the Q * Lv and Q * Lw rows.
    """

    def __init__(self, case: AttentionCase, dtype: torch.dtype, device: torch.device) -> None:
        self.case = case
        clips, words = torch.tensor(case.clips), torch.tensor(case.words)
        pairs, most_clips, most_words = len(clips), max(case.clips), max(case.words)
        clip, word = torch.arange(most_clips), torch.arange(most_words)
        valid_clips, valid_words = clip < clips[:, None], word < words[:, None]
        start = (clips // 4)[:, None]
        moment = (clip >= start) & (clip < start + (clips // 2)[:, None])
        generator = torch.Generator().manual_seed(0)

        def rows(length: int) -> Tensor:
            return _random(pairs, length, HEADS, HEAD_SIZE, generator=generator, dtype=dtype, device=device)

        lengths = (most_clips, most_words, most_words, most_words, most_clips, most_clips)
        self.tensors = [rows(length) for length in lengths]
        self.masks = (valid_words.to(device), moment.to(device))
        self.query_masks = (valid_clips.to(device), valid_words.to(device))
        self.upstream = [rows(mask.shape[1]) * mask[..., None, None] for mask in self.query_masks]
        self.clip_rows, self.word_rows = (mask.flatten().nonzero().squeeze(1) for mask in self.query_masks)

    @cached_property
    def problems(self) -> tuple[ProblemTable, ProblemTable]:
        """Tables of the packed form: clips that attend to words, words that attend to the middle half of the clips."""
        device = self.clip_rows.device
        both, clip_row, word_row = [], 0, 0
        for clips, words in zip(self.case.clips, self.case.words, strict=True):
            both.append((word_row, words, clip_row + clips // 4, clips // 2))
            clip_row, word_row = clip_row + clips, word_row + words
        return ProblemTable.from_lengths(self.case.clips, self.case.words, device), ProblemTable(both, device)

    def pack(self, padded: Tensor) -> Tensor:
        """The rows (R, ...) of clips or words (Q, L, ...) that are no padding."""
        rows = self.clip_rows if padded.shape[1] == max(self.case.clips) else self.word_rows
        return padded.flatten(0, 1).index_select(0, rows)


class LossData:
    """Random inputs of a case.

    Attributes:
        features: Text and segment features (N, D) of length 1.
        moments: (N, 2) start and end in whole seconds; about 7 positives a row at N = 1024.
    """

    def __init__(self, case: LossCase, dtype: torch.dtype, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        both = [
            _random(case.items, CHANNELS, generator=generator, dtype=torch.float32, device=device) for _ in range(2)
        ]
        self.features = [torch.nn.functional.normalize(features, dim=1).to(dtype) for features in both]
        start = torch.randint(0, 20, (case.items,), generator=generator)
        length = torch.randint(1, 21, (case.items,), generator=generator)
        self.moments = torch.stack((start, start + length), dim=1).to(device, torch.float32)
