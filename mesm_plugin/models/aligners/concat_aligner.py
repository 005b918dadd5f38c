# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Moment-DETR's way of bringing clips and words together: the encoder sees both."""

from collections.abc import Callable, Mapping

from torch import Tensor

from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.layers import LearnedWordPosition
from mesm_plugin.models.parts import ConfigType
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class ConcatAligner(BaseAligner):
    """Leaves the clips as they are and appends the words to them, for encoder and decoder (as in Moment-DETR).

    Args:
        dims: D.
        word_position: Arguments of `LearnedWordPosition`, None = words have no position.
    """

    independent_queries = True

    def __init__(self, dims: int = 256, word_position: ConfigType | None = None) -> None:
        super().__init__()
        self.word_position = LearnedWordPosition(dims, **word_position) if word_position is not None else None

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
        """Repeats clips and words for the pairs; see `BaseAligner.forward`."""
        pair_query = batch["pair_query"]
        position = None if self.word_position is None else self.word_position(words).index_select(0, pair_query)
        return AlignerOutput(
            clips=clips.index_select(0, batch["pair_video"]),
            words=words,
            words_mask=words_mask,
            context=words.index_select(0, pair_query),
            context_mask=words_mask.index_select(0, pair_query),
            context_position=position,
        )
