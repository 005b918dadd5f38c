# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The transformer encoders over aligned clips."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels import Dropout, add_norm, feed_forward
from mesm_plugin.models.layers.activation import Activation, build_activation
from mesm_plugin.models.layers.initialisation import init_xavier_uniform
from mesm_plugin.models.layers.self_attention import SelfAttention
from mesm_plugin.registry import MODELS


class TransformerEncoderLayer(nn.Module):
    """Post-norm encoder layer with positions on queries and keys (as in Moment-DETR and QD-DETR).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
        activation: Activation inside the FFN.
    """

    def __init__(self, dims: int, heads: int, ffn_dims: int, dropout: float, activation: Activation) -> None:
        super().__init__()
        self.attention = SelfAttention(dims, heads, dropout)
        self.norm1 = nn.LayerNorm(dims)
        self.linear1 = nn.Linear(dims, ffn_dims)
        self.activation = build_activation(activation)
        self.linear2 = nn.Linear(ffn_dims, dims)
        self.norm2 = nn.LayerNorm(dims)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor, mask: Tensor, rows_mask: Tensor | None = None) -> Tensor:
        """Encodes x (P, L, D) with positions (P, L, D) under a key mask (P, L) bool, True = valid.

        What comes out where `rows_mask` (P, L) is False is not to be used.
        """
        _, x = add_norm(x, self.attention(x, position, mask, rows_mask), self.dropout, self.norm1)
        return feed_forward(x, x, self.linear1, self.activation, self.dropout, self.linear2, self.norm2, rows_mask)


@MODELS.register_module()
class DETREncoder(nn.Module):
    """Transformer encoder over the clips of each pair and what the aligner appended to them (as in Moment-DETR).

    Where the aligner gives a global token, it is encoded with them, as one more without a position.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        num_layers: Encoder layers.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
        activation: Activation inside the FFN: "relu" (Moment-DETR) or "prelu" (QD-DETR, MESM).
        skips_padding: Whether work on padded clips may be left out; not for grounders that read encoded padding.
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        num_layers: int = 2,
        dropout: float = 0.1,
        activation: Activation = "relu",
        skips_padding: bool = True,
    ) -> None:
        super().__init__()
        self.skips_padding = skips_padding
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(dims, heads, ffn_dims, dropout, activation) for _ in range(num_layers)
        )
        init_xavier_uniform(self.layers)

    def forward(
        self, x: Tensor, position: Tensor, mask: Tensor, token: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encodes aligned clips.

        Args:
            x: (P, L, D) clips, and context where there is any.
            position: (P, L, D).
            mask: (P, L) bool, True = valid.
            token: (P, D) global token of each pair from the aligner, or None.

        Returns:
            Encoded clips and context (P, L, D), and the encoded global token (P, D), or None without one.
        """
        if token is not None:
            return self._encode_with_token(x, position, mask, token, torch.zeros_like(token), token_is_key=True)
        return self._encode(x, position, mask, mask), None

    def _encode(self, x: Tensor, position: Tensor, mask: Tensor, rows_mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, mask, rows_mask if self.skips_padding else None)
        return x

    def _encode_with_token(
        self, x: Tensor, position: Tensor, mask: Tensor, token: Tensor, token_position: Tensor, token_is_key: bool
    ) -> tuple[Tensor, Tensor]:
        x = torch.cat((token[:, None], x), dim=1)
        position = torch.cat((token_position[:, None], position), dim=1)
        x = self._encode(x, position, F.pad(mask, (1, 0), value=token_is_key), F.pad(mask, (1, 0), value=True))
        # Slices would each make a gradient as large as x, and add them up.
        token, x = x.split((1, x.shape[1] - 1), dim=1)
        return x, token[:, 0]


@MODELS.register_module()
class GlobalTokenEncoder(DETREncoder):
    """Transformer encoder over a global token and the aligned clips (Sec. 3.4 of MESM, as in QD-DETR).

    The global token sums the clips up. It is learned, unless the aligner gives one for each pair.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        num_layers: Encoder layers.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
        activation: Activation inside the FFN.
        token_is_key: Whether clips attend to the global token (QD-DETR) or not (released MESM).
        adds_token: Whether the encoded global token is added to the encoded clips and context (CG-DETR).
        learned_token: Whether there is a learned global token, for aligners that give none.
        skips_padding: See `DETREncoder`.
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        num_layers: int = 2,
        dropout: float = 0.1,
        activation: Activation = "prelu",
        token_is_key: bool = False,
        adds_token: bool = False,
        learned_token: bool = True,
        skips_padding: bool = True,
    ) -> None:
        super().__init__(dims, heads, ffn_dims, num_layers, dropout, activation, skips_padding)
        self.token_is_key = token_is_key
        self.adds_token = adds_token
        self.global_token = nn.Parameter(torch.randn(dims)) if learned_token else None
        self.global_position = nn.Parameter(torch.randn(dims))

    def forward(
        self, x: Tensor, position: Tensor, mask: Tensor, token: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encodes aligned clips; see `DETREncoder.forward`. The global token that is returned is never None.

        Raises:
            ValueError: There is neither a given nor a learned global token.
        """
        pairs = x.shape[0]
        if token is None:
            if self.global_token is None:
                raise ValueError(
                    "GlobalTokenEncoder has learned_token=False, but the aligner gave no token; an aligner whose "
                    "gives_token is True must always return one"
                )
            token = self.global_token.expand(pairs, -1)
        token_position = self.global_position.expand(pairs, -1)
        x, token = self._encode_with_token(x, position, mask, token, token_position, self.token_is_key)
        return x + token[:, None] if self.adds_token else x, token
