# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What updates a sequence by what it attended to, in the form of Eq. 1 or in that of the released code."""

from typing import Literal, cast

from torch import Tensor, nn

from mesm_plugin.kernels import Dropout, add_norm, feed_forward

UpdateForm = Literal["add_mlp", "add_norm_ffn"]


class AddMLP(nn.Module):
    """x + MLP(attended): the update of Eq. 1."""

    def __init__(self, dims: int, ffn_dims: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dims, ffn_dims), nn.ReLU(), Dropout(dropout), nn.Linear(ffn_dims, dims))

    def forward(self, x: Tensor, attended: Tensor, rows_mask: Tensor | None = None) -> Tensor:
        """Updates x (B, L, D) by what it attended to (B, L, D); where `rows_mask` (B, L) is False, by anything."""
        linear1, activation, dropout, linear2 = cast("tuple[nn.Linear, nn.Module, Dropout, nn.Linear]", tuple(self.mlp))
        return feed_forward(attended, x, linear1, activation, dropout, linear2, mask=rows_mask)


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
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, attended: Tensor, rows_mask: Tensor | None = None) -> Tensor:
        """Updates x (B, L, D) by what it attended to (B, L, D); where `rows_mask` (B, L) is False, by anything."""
        x, normed = add_norm(x, attended, self.dropout, self.norm1)
        return feed_forward(normed, x, self.linear1, self.activation, self.dropout, self.linear2, self.norm2, rows_mask)


def build_update(
    update: UpdateForm, dims: int, ffn_dims: int, dropout: float, activation: nn.Module
) -> AddMLP | AddNormFFN:
    """Builds the update named by a config.

    Raises:
        ValueError: `update` has an unknown value.
    """
    if update == "add_mlp":
        return AddMLP(dims, ffn_dims, dropout)
    if update == "add_norm_ffn":
        return AddNormFFN(dims, ffn_dims, dropout, activation)
    raise ValueError(f'update must be "add_mlp" or "add_norm_ffn", got {update!r}')
