# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""CLIP's text tower, frozen."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.datasets.text.clip_weights import CLIPTextWeights, read_clip_text_weights
from mesm_plugin.utils.device import checked_device

ACTIVATIONS = ("quick_gelu", "gelu")
_HEAD_WIDTH = 64


class CLIPTextTower:
    """transformers' CLIPTextModel, with an output for each token.

    Args:
        weights: What a file holds.
        heads: Attention heads; None for what the file's config.json says, or else one for each 64 channels.
        activation: One of `ACTIVATIONS`; None for what the file's config.json says, or else that of OpenAI's models.
        device: Where to compute.

    Attributes:
        num_tokens: Size of the vocabulary.
        context_length: Most tokens of a sentence.
        dim: Width of the features.

    Raises:
        ValueError: The weights are not those of a text tower, and the message names the file and the weight; or there
            is no such device.
    """

    def __init__(self, weights: CLIPTextWeights, heads: int | None, activation: str | None, device: str) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        place = checked_device(device)
        tensors = weights.tensors
        self.num_tokens, self.dim = self._matrix(weights, "embeddings.token_embedding.weight")
        self.context_length, _ = self._matrix(weights, "embeddings.position_embedding.weight")
        hidden, _ = self._matrix(weights, "encoder.layers.0.mlp.fc1.weight")
        width, heads = self.dim, heads or weights.heads
        if heads is None and width % _HEAD_WIDTH:
            raise ValueError(
                f"{weights.path}: the text tower is {width} wide, which is no multiple of {_HEAD_WIDTH}, the width of "
                "CLIP's attention heads; give their number as heads"
            )
        heads = heads or width // _HEAD_WIDTH
        if width % heads:
            raise ValueError(f"{weights.path}: {heads} heads do not divide the {width} channels of the text tower")
        activation = activation or weights.activation or ACTIVATIONS[0]
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"{weights.path}: the activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
        layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layers.")}
        config = CLIPTextConfig(
            vocab_size=self.num_tokens,
            hidden_size=width,
            intermediate_size=hidden,
            num_hidden_layers=len(layers),
            num_attention_heads=heads,
            max_position_embeddings=self.context_length,
            hidden_act=activation,
            bos_token_id=self.num_tokens - 2,
            eos_token_id=self.num_tokens - 1,
            pad_token_id=0,
        )
        # The random numbers of a training must not depend on whether weights are read.
        with torch.random.fork_rng(devices=[]):
            self._model: Any = CLIPTextModel(config)
        self._load(weights)
        self._model.to(place).eval().requires_grad_(False)

    @staticmethod
    def _matrix(weights: CLIPTextWeights, name: str) -> tuple[int, int]:
        tensor = weights.tensors.get(name)
        if tensor is None or tensor.ndim != 2:
            found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}, expected a matrix"
            raise ValueError(f"{weights.path}: {name} of the text tower {found}")
        return tensor.shape[0], tensor.shape[1]

    def _load(self, weights: CLIPTextWeights) -> None:
        # transformers 4 puts the tower into a module "text_model".
        needed = {name.removeprefix("text_model."): name for name in self._model.state_dict()}
        for problem, names in (
            ("is missing", [name for name in needed if name not in weights.tensors]),
            ("is no part of it", [name for name in weights.tensors if name not in needed]),
        ):
            if names:
                raise ValueError(f"{weights.path}: of CLIP's text tower, {names[0]} {problem} ({len(names)} in all)")
        state_dict = self._model.state_dict()
        for name, tensor in weights.tensors.items():
            expected = state_dict[needed[name]].shape
            if tensor.shape != expected:
                raise ValueError(f"{weights.path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(expected)}")
        self._model.load_state_dict({needed[name]: tensor for name, tensor in weights.tensors.items()})

    @torch.inference_mode()
    def encode(self, sentences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Outputs of the last layer, after its normalisation, for the tokens of some sentences.

        Args:
            sentences: Token ids, start and end included.

        Returns:
            For each sentence (Lw, Dt) float32, on the CPU.
        """
        longest = max(map(len, sentences))
        # What stands behind a sentence does not reach it, since a token attends to earlier ones alone.
        ids = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens in sentences])
        outputs = self._model(input_ids=ids.to(self._model.device)).last_hidden_state.cpu()
        return [output[: len(tokens)].clone() for output, tokens in zip(outputs, sentences, strict=True)]


@functools.lru_cache(maxsize=1)
def load_clip_text_tower(file: str, heads: int | None, activation: str | None, device: str) -> CLIPTextTower:
    """The tower of a file; training, validation and test share it."""
    return CLIPTextTower(read_clip_text_weights(file), heads, activation, device)
