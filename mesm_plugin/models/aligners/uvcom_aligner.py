# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""UVCOM's way of bringing clips and words together: local and global exchange by prototypes."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels import Backend
from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.layers import Prototypes, cross_attention_stack, init_xavier_uniform, random_walk
from mesm_plugin.registry import MODELS


class LocalConvolution(nn.Module):
    """Three convolutions over neighbouring clips, without activation between them.

    Args:
        dims: D.
        count_padding: See `UVCOMAligner`.
    """

    def __init__(self, dims: int, count_padding: bool) -> None:
        super().__init__()
        self.count_padding = count_padding
        self.first = nn.Conv1d(dims, dims, 1)
        self.second = nn.Conv1d(dims, dims, 3, padding=1)
        self.third = nn.Conv1d(dims, dims, 1)
        init_xavier_uniform(self)

    def forward(self, clips: Tensor, mask: Tensor) -> Tensor:
        """Convolves clips (P, Lv, D) under mask (P, Lv) bool, True = valid; returns (P, Lv, D)."""
        padding = ~mask[:, None]
        x = self.first(clips.transpose(1, 2).masked_fill(padding, 0.0))
        if not self.count_padding:
            # The bias of the first convolution would tell the last clip how it is padded.
            x = x.masked_fill(padding, 0.0)
        return self.third(self.second(x)).transpose(1, 2)


@MODELS.register_module()
class UVCOMAligner(BaseAligner):
    """Lets clips attend to words and words to clips, then adds to each clip where a random walk leads from it.

    The walk goes between clips, which know their neighbours by a convolution, and prototypes of the words. The
    prototype of the clips that is nearest to those of the words is the encoder's global token (UVCOM, Xiao et al.,
    CVPR 2024).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of attention weights and updates.
        num_layers: Cross-attention layers in each direction.
        num_word_prototypes: Prototypes of the words.
        num_clip_prototypes: Prototypes of the clips.
        num_iterations: Rounds that make the prototypes.
        exact_walk: Whether the random walk is one; False = Lighthouse's code, see `random_walk`.
        count_padding: Whether padding takes part in prototypes, convolution and walk, as in the authors' code.
            Predictions then depend on the amount of padding.
        kernel_backend: Implementation of cross-attention: "auto" = Triton on GPUs, "triton" or "reference".
    """

    gives_token = True
    independent_queries = True

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        num_layers: int = 3,
        num_word_prototypes: int = 5,
        num_clip_prototypes: int = 30,
        num_iterations: int = 5,
        exact_walk: bool = True,
        count_padding: bool = False,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.exact_walk = exact_walk
        self.count_padding = count_padding
        self.clip_layers = cross_attention_stack(num_layers, dims, heads, ffn_dims, dropout, kernel_backend)
        self.word_layers = cross_attention_stack(num_layers, dims, heads, ffn_dims, dropout, kernel_backend)
        self.word_prototypes = Prototypes(dims, num_word_prototypes, num_iterations, count_padding)
        self.clip_prototypes = Prototypes(dims, num_clip_prototypes, num_iterations, count_padding)
        self.local_convolution = LocalConvolution(dims, count_padding)

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
        """Aligns clips to words and words to clips; see `BaseAligner.forward`."""
        pair_video, pair_query = batch["pair_video"], batch["pair_query"]
        clips_valid, words_valid = clips_mask.index_select(0, pair_video), words_mask.index_select(0, pair_query)
        position = clips_position.index_select(0, pair_video)
        aligned = clips.index_select(0, pair_video)
        for layer in self.clip_layers:
            aligned = layer(aligned, words, words, words_valid, pair_query, position)
        spoken = words.index_select(0, pair_query)
        key = clips + clips_position
        for layer in self.word_layers:
            spoken = layer(spoken, key, clips, clips_valid, pair_video)

        of_words = self.word_prototypes(spoken, words_valid)
        of_clips = self.clip_prototypes(aligned, clips_valid)
        nearness = (F.normalize(of_clips, dim=-1) @ F.normalize(of_words, dim=-1).transpose(1, 2)).mean(dim=2)
        nearest = nearness.argmax(dim=1)[:, None, None].expand(-1, -1, of_clips.shape[-1])
        token = of_clips.gather(1, nearest)[:, 0]

        local = aligned + self.local_convolution(aligned, clips_valid)
        walked = clips_valid.new_ones(clips_valid.shape) if self.count_padding else clips_valid
        aligned = aligned + random_walk(local, of_words, walked, exact=self.exact_walk)
        return AlignerOutput(aligned, spoken[: len(words)], words_mask, token=token)
