# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The contract between a grounder and its aligner."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class AlignerOutput:
    """What an aligner gives back.

    Attributes:
        clips: (P, Lv, D) aligned clips of each pair.
        words: (Q, Lw', D) the words that the clips were aligned to.
        words_mask: (Q, Lw') bool, True = valid.
        extra: Tensors that the aligner's own losses or an analysis need.
        context: (P, Lc, D) tokens that stand behind the clips in encoder and decoder, or None.
        context_mask: (P, Lc) bool, True = valid; with `context`.
        context_position: (P, Lc, D) positions of `context`; None = zeros.
        token: (P, D) global token that is encoded with the clips; None = the encoder's own, if it has one.
    """

    clips: Tensor
    words: Tensor
    words_mask: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    context: Tensor | None = None
    context_mask: Tensor | None = None
    context_position: Tensor | None = None
    token: Tensor | None = None

    def check(self, pairs: int, queries: int, clips: int, dims: int, name: str) -> None:
        """Checks that encoder, decoder and losses can work with what an aligner returned.

        Args:
            pairs: P.
            queries: Q.
            clips: Lv.
            dims: D.
            name: Of the aligner, for messages.

        Raises:
            TypeError: A field is no tensor (or `extra` no dict), or its numbers are of another kind.
            ValueError: A tensor is missing or has another shape, with both shapes.
        """

        def expect(field: str, *shape: int | None) -> None:
            value = getattr(self, field)
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"{name} returned {field} as a {type(value).__name__}, expected a tensor")
            if (
                value is None
                or value.dim() != len(shape)
                or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True))
            ):
                given = None if value is None else tuple(value.shape)
                expected = ", ".join("any" if length is None else str(length) for length in shape)
                raise ValueError(f"{name} returned {field} of shape {given}, expected ({expected})")
            if field.endswith("_mask") and value.dtype != torch.bool:
                raise TypeError(f"{name} returned {field} of {value.dtype}, expected torch.bool, True = valid")
            if not field.endswith("_mask") and not value.is_floating_point():
                raise TypeError(f"{name} returned {field} of {value.dtype}, expected floating-point numbers")

        expect("clips", pairs, clips, dims)
        expect("words", queries, None, dims)
        expect("words_mask", queries, self.words.shape[1])
        if self.context is not None:
            expect("context", pairs, None, dims)
            expect("context_mask", pairs, self.context.shape[1])
            if self.context_position is not None:
                expect("context_position", pairs, self.context.shape[1], dims)
        elif self.context_mask is not None or self.context_position is not None:
            raise ValueError(f"{name} returned a context_mask or context_position, but no context")
        if self.token is not None:
            expect("token", pairs, dims)
        if not isinstance(self.extra, dict):
            raise TypeError(f"{name} returned extra as a {type(self.extra).__name__}, expected a dict of tensors")


class BaseAligner(nn.Module, ABC):
    """Turns the clips of videos and the words of queries into aligned clips per (video, query) pair."""

    uses_negative_pairs: bool = False
    """Whether the aligner's own losses read negative pairs."""

    gives_token: bool = False
    """Whether `AlignerOutput.token` is always there, so that an encoder needs no learned one."""

    independent_queries: bool = False
    """Whether at inference no query changes what another gets, so that many can be predicted in chunks."""

    @abstractmethod
    def forward(
        self,
        clips: Tensor,
        clips_position: Tensor,
        clips_mask: Tensor,
        words: Tensor,
        words_mask: Tensor,
        batch: Mapping[str, Tensor],
        project_words: Callable[[Tensor], Tensor] | None = None,
    ) -> AlignerOutput:
        """Aligns clips to words.

        Args:
            clips: (V, Lv, D) projected clips.
            clips_position: (V, Lv, D).
            clips_mask: (V, Lv) bool, True = valid.
            words: (Q, Lw, D) projected words.
            words_mask: (Q, Lw) bool, True = valid.
            batch: The batch that `mesm_plugin.datasets.collate_grounding` describes; the indices `pair_video`,
                `pair_query` and `query_video` are always read, targets only where they are there.
            project_words: The grounder's projection of word features (..., Dt) to (..., D), for aligners with tokens
                among the word features.

        Returns:
            Aligned clips of each pair, the words they were aligned to, and what the losses need.
        """

    def loss(self, output: AlignerOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the aligner's own losses.

        Args:
            output: What `forward` returned for the batch.
            batch: The batch, with targets.

        Returns:
            Weighted losses by name; none by default.
        """
        return {}
