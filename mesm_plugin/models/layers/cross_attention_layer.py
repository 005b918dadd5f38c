# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""One layer of cross-attention, in the form of Eq. 1 or in that of the released code."""

from typing import Literal

from torch import Tensor, nn

from mesm_plugin.kernels import SharedCrossAttention

UpdateForm = Literal["add_mlp", "add_norm_ffn"]


class AddMLP(nn.Module):
    """x + MLP(attended): the update of Eq. 1."""

    def __init__(self, dims: int, ffn_dims: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dims, ffn_dims), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ffn_dims, dims))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """Updates x (B, L, D) by what it attended to (B, L, D)."""
        return x + self.dropout(self.mlp(attended))


class AddNormFFN(nn.Module):
    """r = x + attended, then LayerNorm(r + FFN(LayerNorm(r))): the update of the QD-DETR family.

    Args:
        dims: D.
        ffn_dims: Channels inside the FFN.
        dropout: Dropout of the attended input, inside the FFN and of its output.
        activation: Activation inside the FFN, given so that two updates can share its learned slope.
    """

    def __init__(self, dims: int, ffn_dims: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims)
        self.linear1 = nn.Linear(dims, ffn_dims)
        self.activation = activation
        self.linear2 = nn.Linear(ffn_dims, dims)
        self.norm2 = nn.LayerNorm(dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """Updates x (B, L, D) by what it attended to (B, L, D)."""
        x = x + self.dropout(attended)
        hidden = self.dropout(self.activation(self.linear1(self.norm1(x))))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class CrossAttentionLayer(nn.Module):
    """Cross-attention from one modality to the other, and the update of the one that attends.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN or MLP.
        dropout: Dropout of attention weights and of the update.
        update: "add_norm_ffn" (QD-DETR, released MESM) or "add_mlp" (Eq. 1).
        two_way: Whether words also attend to clips, through the same attention (FW-MESM).
        separate_ffn: Whether that direction has an FFN and norms of its own (with "add_norm_ffn" the slope of the
            activation stays shared).

    Raises:
        ValueError: `update` has an unknown value.
    """

    def __init__(
        self,
        dims: int,
        heads: int,
        ffn_dims: int,
        dropout: float,
        update: UpdateForm = "add_norm_ffn",
        two_way: bool = False,
        separate_ffn: bool = False,
    ) -> None:
        super().__init__()
        self.attention = SharedCrossAttention(dims, heads, dropout)
        activation = nn.PReLU()

        def build_update() -> AddMLP | AddNormFFN:
            if update == "add_mlp":
                return AddMLP(dims, ffn_dims, dropout)
            if update == "add_norm_ffn":
                return AddNormFFN(dims, ffn_dims, dropout, activation)
            raise ValueError(f'update must be "add_mlp" or "add_norm_ffn", got {update!r}')

        self.update = build_update()
        if two_way:
            self.words_update = build_update() if separate_ffn else self.update

    def forward(
        self,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        index: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """Lets x attend to keys.

        Args:
            x: (P, Lq, D).
            key, value: (Q, Lk, D), repeated for the P items by `index`.
            mask: (P, Lk) bool, True = valid key.
            index: (P,) item of key and value for each item of x; None where they correspond one to one.
            position: (P, Lq, D) added to x where it queries, or None.

        Returns:
            (P, Lq, D).
        """
        query = x if position is None else x + position
        return self.update(x, self.attention(query, key, value, mask, index))
