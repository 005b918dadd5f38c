# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Slot attention: slots share the items of a set out among themselves."""

from torch import Tensor, nn

from mesm_plugin.models.layers.mlp import MLP


class SlotAttention(nn.Module):
    """Rounds in which each item is divided among the slots and each slot takes the mean of what it got (as in EaTR).

    Args:
        dims: D.
        num_iterations: Rounds; all use the same weights.
        mlp_dims: Channels inside the perceptron that updates the slots.
        mlp_layers: Linear layers of that perceptron.
        count_padding: Whether padded items belong to all slots equally, as in the peers' code, so that the slots depend
            on the amount of padding; without it, to none.
    """

    def __init__(
        self, dims: int, num_iterations: int, mlp_dims: int, mlp_layers: int, count_padding: bool = False
    ) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.count_padding = count_padding
        self.norm_inputs = nn.LayerNorm(dims)
        self.norm_slots = nn.LayerNorm(dims)
        self.norm_mlp = nn.LayerNorm(dims)
        self.norm_out = nn.LayerNorm(dims)
        self.query = nn.Linear(dims, dims)
        self.key = nn.Linear(dims, dims)
        self.value = nn.Linear(dims, dims)
        self.mlp = MLP(dims, mlp_dims, dims, mlp_layers)

    def forward(self, inputs: Tensor, mask: Tensor, slots: Tensor) -> Tensor:
        """Lets the slots collect the inputs.

        Args:
            inputs: (B, L, D).
            mask: (B, L) bool, True = valid.
            slots: (B, N, D) what the slots start from.

        Returns:
            (B, N, D).
        """
        inputs = self.norm_inputs(inputs)
        key, value = self.key(inputs), self.value(inputs)
        padding = ~mask[:, None]
        for _ in range(self.num_iterations):
            scores = self.query(self.norm_slots(slots)) @ key.transpose(1, 2) * key.shape[-1] ** -0.5
            # The softmax is over the slots.
            share = scores.masked_fill(padding, 0.0).softmax(dim=1)
            if not self.count_padding:
                share = share.masked_fill(padding, 0.0)
            share = share / (share.sum(dim=2, keepdim=True) + 1e-8)
            slots = slots + share @ value
            slots = slots + self.mlp(self.norm_mlp(slots))
        return self.norm_out(slots)
