# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""CG-DETR's way of bringing clips and words together: clips attend to words as far as they belong to them."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.layers import AdaptiveAttentionLayer, DETREncoder, init_xavier_uniform, masked_mean
from mesm_plugin.models.parts import DEFAULTS, ConfigType, build_part
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class CGDETRAligner(BaseAligner):
    """Lets clips attend to words and to dummies, which have no value, and makes the encoder's token from prompts.

    Dummies are encoded with the words, so that clips outside the moment can attend to them. In training, tokens of
    moments and sentences teach the attention (CG-DETR, Moon et al., 2023).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of attention weights and updates.
        num_layers: Layers of adaptive cross-attention.
        num_dummies: Nd, dummies.
        num_prompts: Prompts that the global token is chosen from.
        num_chosen_prompts: How many are.
        dummy_layers: Layers that encode dummies with words.
        sentence_layers: Layers that sum up words, or dummies, in a token.
        moment_layers: Layers that sum up the clips of a moment in a token.
        text_heads: Attention heads of the layers that encode dummies and sentences.
        attention_saliency_loss: Config of the loss of attention to words, by default of type `AttentionSaliencyLoss`.
        moment_sentence_loss: Config of the loss of the tokens, by default of type `MomentSentenceLoss`.
        distillation_loss: Config of the loss of attention weights, by default of type `AttentionDistillationLoss`.
        orthogonality_loss: Config of the loss of dummies and prompts, by default of type `OrthogonalityLoss`.

    Raises:
        ValueError: More prompts are to be chosen than there are.
    """

    uses_negative_pairs = True
    gives_token = True
    independent_queries = True

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        num_layers: int = 2,
        num_dummies: int = 45,
        num_prompts: int = 10,
        num_chosen_prompts: int = 2,
        dummy_layers: int = 2,
        sentence_layers: int = 1,
        moment_layers: int = 1,
        text_heads: int = 8,
        attention_saliency_loss: ConfigType = DEFAULTS,
        moment_sentence_loss: ConfigType = DEFAULTS,
        distillation_loss: ConfigType = DEFAULTS,
        orthogonality_loss: ConfigType = DEFAULTS,
    ) -> None:
        super().__init__()
        if num_chosen_prompts > num_prompts:
            raise ValueError(f"num_chosen_prompts={num_chosen_prompts} is more than num_prompts={num_prompts}")

        def encoder(heads: int, num_layers: int) -> DETREncoder:
            return DETREncoder(dims, heads, ffn_dims, num_layers, dropout, activation="prelu", skips_padding=False)

        self.num_chosen_prompts = num_chosen_prompts
        self.token_types = nn.Parameter(torch.randn(2, dims) * 0.02)
        self.dummies = nn.Parameter(torch.randn(num_dummies, dims))
        self.dummy_position = nn.Parameter(torch.randn(num_dummies, dims))
        self.dummy_encoder = encoder(text_heads, dummy_layers)
        self.layers = nn.ModuleList(AdaptiveAttentionLayer(dims, heads, ffn_dims, dropout) for _ in range(num_layers))
        init_xavier_uniform(self.layers)
        self.prompts = nn.Parameter(torch.randn(num_prompts, dims))
        self.sentence_token = nn.Parameter(torch.randn(dims))
        self.sentence_position = nn.Parameter(torch.randn(dims))
        self.sentence_encoder = encoder(text_heads, sentence_layers)
        self.moment_token = nn.Parameter(torch.randn(dims))
        self.moment_position = nn.Parameter(torch.randn(dims))
        self.moment_encoder = encoder(heads, moment_layers)
        self.attention_saliency_loss = build_part(attention_saliency_loss, "AttentionSaliencyLoss")
        self.moment_sentence_loss = build_part(moment_sentence_loss, "MomentSentenceLoss")
        self.distillation_loss = build_part(distillation_loss, "AttentionDistillationLoss")
        self.orthogonality_loss = build_part(orthogonality_loss, "OrthogonalityLoss")

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
        """Aligns clips to words; see `BaseAligner.forward`.

        In `extra`: `attention` (P, Lv, Nd + Lw), mean weights of the layers; `dummies` (Q, Nd, D), encoded; and in
        training what `_tokens` returns.
        """
        pair_video, pair_query = batch["pair_video"], batch["pair_query"]
        words, clips = words + self.token_types[0], clips + self.token_types[1]
        position = clips_position.index_select(0, pair_video)
        queries, num_dummies = len(words), len(self.dummies)

        # Words have no position.
        dummy_position = self.dummy_position.expand(queries, -1, -1)
        words_position = torch.zeros_like(words)
        mask = F.pad(words_mask, (num_dummies, 0), value=True)
        encoded, _ = self.dummy_encoder(
            torch.cat((self.dummies.expand(queries, -1, -1), words), dim=1),
            torch.cat((dummy_position, words_position), dim=1),
            mask,
        )
        dummies = encoded[:, :num_dummies]

        key = torch.cat((dummies + dummy_position, words), dim=1).index_select(0, pair_query)
        value = words.index_select(0, pair_query)
        aligned = clips.index_select(0, pair_video)
        weights = []
        for layer in self.layers:
            aligned, layer_weights = layer(aligned, position, key, value, mask.index_select(0, pair_query))
            weights.append(layer_weights)
        attention = torch.stack(weights).mean(dim=0)

        extra = {"attention": attention, "dummies": dummies}
        if "hinge_positive" in batch:  # only training batches have it
            extra |= self._tokens(clips, clips_position, clips_mask, words, words_mask, dummies, batch)
        token = self._global_token(clips, clips_mask, attention[..., num_dummies:].detach().sum(dim=-1), pair_video)
        return AlignerOutput(aligned, words, words_mask, extra, token=token)

    def _global_token(self, clips: Tensor, clips_mask: Tensor, to_words: Tensor, pair_video: Tensor) -> Tensor:
        """Mean of the clips plus the prompts nearest to the clips that attend to words; (P, D)."""
        context = masked_mean(clips, clips_mask).detach()
        similarity = F.normalize(clips - context[:, None], dim=-1) @ F.normalize(self.prompts, dim=-1).T
        importance = to_words.masked_fill(~clips_mask.index_select(0, pair_video), 0.0)
        importance = importance / importance.sum(dim=1, keepdim=True).clamp(min=torch.finfo(importance.dtype).tiny)
        shares = similarity.softmax(dim=-1).index_select(0, pair_video)
        best, index = torch.einsum("pl,plk->pk", importance, shares).topk(self.num_chosen_prompts, dim=1)
        chosen = torch.einsum("pk,pkd->pd", best, self.prompts[index].to(best.dtype))
        token = (chosen + context.index_select(0, pair_video))[:, None]
        for layer in self.layers:
            assert isinstance(layer, AdaptiveAttentionLayer)
            token = layer.without_keys(token)
        return token[:, 0]

    def _tokens(
        self,
        clips: Tensor,
        clips_position: Tensor,
        clips_mask: Tensor,
        words: Tensor,
        words_mask: Tensor,
        dummies: Tensor,
        batch: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Tokens of what is inside and outside of the moments, of the sentences and of the dummies.

        Returns:
            `moment`, `background`, `sentence`, `dummy_sentence` (Q, D); `moment_clips` (Q, Lv, D), each clip as it was
            encoded among those on its side; `similarity` (Q, Lv, Nd + Lw) of the clips encoded for the moment to
            dummies and words, and `background_similarity`.
        """
        query_video = batch["query_video"]
        queries = len(query_video)

        def sum_up(encoder: nn.Module, token: Tensor, token_position: Tensor, *sequence: Tensor) -> Tensor:
            x, position, mask = sequence
            x = torch.cat((token.expand(len(x), 1, -1), x), dim=1)
            position = torch.cat((token_position.expand(len(x), 1, -1), position), dim=1)
            return encoder(x, position, F.pad(mask, (1, 0), value=True))[0]

        sentence = (self.sentence_encoder, self.sentence_token, self.sentence_position)
        of_words = sum_up(*sentence, words, torch.zeros_like(words), words_mask)
        valid = words_mask.new_ones(dummies.shape[:2])
        of_dummies = sum_up(*sentence, dummies, self.dummy_position.expand_as(dummies), valid)

        inside, mask = batch["segment_mask"], clips_mask.index_select(0, query_video)
        both = query_video.repeat(2)
        of_clips = sum_up(
            self.moment_encoder,
            self.moment_token,
            self.moment_position,
            clips.index_select(0, both),
            clips_position.index_select(0, both),
            torch.cat((mask & inside, mask & ~inside)),
        )
        of_moment, of_background = of_clips[:queries], of_clips[queries:]
        texts = torch.cat((of_dummies[:, 1:], of_words[:, 1:]), dim=1).transpose(1, 2)
        return {
            "moment": of_moment[:, 0],
            "background": of_background[:, 0],
            "sentence": of_words[:, 0],
            "dummy_sentence": of_dummies[:, 0],
            "moment_clips": torch.where(inside[..., None], of_moment[:, 1:], of_background[:, 1:]),
            "similarity": of_moment[:, 1:] @ texts,
            "background_similarity": of_background[:, 1:] @ texts,
        }

    def loss(self, output: AlignerOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the losses of attention, tokens, dummies and prompts.

        Args:
            output: What `forward` returned.
            batch: A training batch.

        Returns:
            Weighted losses `loss_attention_saliency`, `loss_moment_sentence`, `loss_distillation` and
            `loss_orthogonality`.
        """
        extra = output.extra
        inside, query_video = batch["segment_mask"], batch["query_video"]
        mask = batch["video_mask"].index_select(0, query_video)
        attention = extra["attention"].float()
        to_dummies, to_words = (
            attention.tensor_split((len(self.dummies),), dim=-1)[i].sum(dim=-1).clamp(0, 1) for i in (0, 1)
        )
        tokens = (extra[name] for name in ("moment", "background", "sentence", "dummy_sentence", "moment_clips"))
        return {
            "loss_attention_saliency": self.attention_saliency_loss(to_words, to_dummies, mask, batch),
            "loss_moment_sentence": self.moment_sentence_loss(*tokens, mask, inside),
            "loss_distillation": self.distillation_loss(attention[: len(inside)], extra["similarity"], inside),
            "loss_orthogonality": self.orthogonality_loss(extra["dummies"], self.prompts),
        }
