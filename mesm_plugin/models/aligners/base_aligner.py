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
    """

    clips: Tensor
    words: Tensor
    words_mask: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


class BaseAligner(nn.Module, ABC):
    """Turns the clips of videos and the words of queries into aligned clips per (video, query) pair."""

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
