# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The contract between a grounder and its aligner."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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

    def check(self, pairs: int, clips: int, dims: int, name: str) -> None:
        """Checks that encoder and decoder can work with what an aligner returned.

        Args:
            pairs: P.
            clips: Lv.
            dims: D.
            name: Of the aligner, for messages.

        Raises:
            ValueError: A tensor is missing or has another shape, with both shapes.
        """

        def expect(field: str, value: Tensor | None, *shape: int) -> None:
            if value is None or value.shape != shape:
                given = None if value is None else tuple(value.shape)
                raise ValueError(f"{name} returned {field} of shape {given}, expected {shape}")

        expect("clips", self.clips, pairs, clips, dims)
        if self.context is not None:
            length = self.context.shape[1] if self.context.dim() == 3 else -1
            expect("context", self.context, pairs, length, dims)
            expect("context_mask", self.context_mask, pairs, length)
            if self.context_position is not None:
                expect("context_position", self.context_position, pairs, length, dims)
        if self.token is not None:
            expect("token", self.token, pairs, dims)


class BaseAligner(nn.Module, ABC):
    """Turns the clips of videos and the words of queries into aligned clips per (video, query) pair."""

    uses_negative_pairs: bool = False
    """Whether the aligner's own losses read negative pairs."""

    gives_token: bool = False
    """Whether `AlignerOutput.token` is always there, so that an encoder needs no learned one."""

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
