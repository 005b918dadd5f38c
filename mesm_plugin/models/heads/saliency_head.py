# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Heads that score each clip."""

from torch import Tensor, nn

from mesm_plugin.kernels import Linear
from mesm_plugin.kernels.cpu.replaceable import replaceable
from mesm_plugin.models.layers import MLP
from mesm_plugin.registry import MODELS


def _is_plain_linear(projection: nn.Module) -> bool:
    """Whether the layer's weights may be used without calling it."""
    return isinstance(projection, nn.Linear) and projection.bias is not None and replaceable(projection)


def _dot_products(clips: Tensor, token: Tensor) -> Tensor:
    """Of clips (P, Lv, D) with the token (P, D) of their pair, (P, Lv)."""
    # Of the ways to lay out (P, D, 1) this is the fast one.
    return (clips @ token[:, None].mT)[..., 0]


@MODELS.register_module()
class GlobalTokenSaliencyHead(nn.Module):
    """Scaled dot product of each clip with the global token, both projected (QD-DETR, released MESM).

    Args:
        dims: D.
    """

    def __init__(self, dims: int = 256) -> None:
        super().__init__()
        self.clip_projection = Linear(dims, dims)
        self.token_projection = Linear(dims, dims)

    def forward(self, clips: Tensor, token: Tensor | None) -> Tensor:
        """Scores clips (P, Lv, D) by the global token (P, D) of their pair; returns logits (P, Lv).

        Raises:
            ValueError: The encoder has no global token.
        """
        if token is None:
            raise ValueError(
                "GlobalTokenSaliencyHead needs a global token: use GlobalTokenEncoder as the encoder, or "
                "MLPSaliencyHead as the saliency head"
            )
        token = self.token_projection(token)
        if _is_plain_linear(self.clip_projection):
            # (W c + b) . t = c . (W^T t) + b . t projects one token instead of all clips.
            offset = token @ self.clip_projection.bias
            scores = _dot_products(clips, token @ self.clip_projection.weight) + offset[:, None]
        else:
            scores = _dot_products(self.clip_projection(clips), token)
        return scores * clips.shape[-1] ** -0.5


@MODELS.register_module()
class MLPSaliencyHead(nn.Module):
    """A perceptron over each encoded clip (the s of Eq. 6; with one layer that of Moment-DETR).

    Args:
        dims: D.
        num_layers: Linear layers.
    """

    def __init__(self, dims: int = 256, num_layers: int = 2) -> None:
        super().__init__()
        self.mlp = MLP(dims, dims, 1, num_layers)

    def forward(self, clips: Tensor, token: Tensor | None) -> Tensor:
        """Scores clips (P, Lv, D), whatever the global token; returns logits (P, Lv)."""
        return self.mlp(clips)[..., 0]


@MODELS.register_module()
class SummedSaliencyHead(nn.Module):
    """Scaled sum of the channels of each projected clip (TR-DETR).

    Args:
        dims: D.
    """

    def __init__(self, dims: int = 256) -> None:
        super().__init__()
        self.projection = Linear(dims, dims)

    def forward(self, clips: Tensor, token: Tensor | None) -> Tensor:
        """Scores clips (P, Lv, D), whatever the global token; returns logits (P, Lv)."""
        if _is_plain_linear(self.projection):
            # The sum of products is a product by the sum.
            scores = clips @ self.projection.weight.sum(dim=0) + self.projection.bias.sum()
        else:
            scores = self.projection(clips).sum(dim=-1)
        return scores * clips.shape[-1] ** -0.5
