# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The ways of computing each operation that are compared with one another."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.kernel_cases import CHANNELS, HEADS, AttentionData, LossData
from mesm_plugin.kernels import (
    Backend,
    SharedCrossAttention,
    bidirectional_cross_attention,
    iou_positive_contrastive_loss,
    packed_bidirectional_cross_attention,
)
from mesm_plugin.kernels.backend import TRITON_IS_INSTALLED, interpreting

# The first of each is what the others are compared with.
ATTENTION_BACKENDS = ("reference", "sdpa", "compiled", "triton", "packed reference", "packed triton")
BLOCK_BACKENDS = ("two modules", "two modules, no weights", "reference", "compiled", "triton")
LOSS_BACKENDS = ("reference", "compiled", "triton")

Function = Callable[..., tuple[Tensor, ...]]


@dataclass
class Candidate:
    """A function with its inputs.

    Attributes:
        function: Takes `inputs` and returns a tuple of outputs.
        inputs: Tensors to differentiate by.
        upstream: Gradients of the outputs.
        parameters: Further tensors to differentiate by, which the function holds.
    """

    function: Function
    inputs: list[Tensor]
    upstream: list[Tensor]
    parameters: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        self.inputs = [x.detach().requires_grad_() for x in self.inputs]

    def forward(self) -> tuple[Tensor, ...]:
        """The outputs, with nothing kept for a backward pass."""
        with torch.no_grad():
            return self.function(*self.inputs)

    def forward_backward(self) -> tuple[Tensor, ...]:
        """The gradients of all inputs, then of all parameters."""
        outputs = self.function(*self.inputs)
        return torch.autograd.grad(outputs, [*self.inputs, *self.parameters], self.upstream)


def unavailable(backend: str, device: torch.device) -> str | None:
    """Why a backend cannot be measured on `device`; None where it can."""
    on_gpu = device.type == "cuda"
    if backend.endswith("triton") and not on_gpu:
        return "there is no GPU to compile Triton's kernels for; interpreted ones are not worth timing"
    if backend.endswith("triton") or (backend == "compiled" and on_gpu):
        if not TRITON_IS_INSTALLED:
            return "the package triton is not installed"
        if interpreting():
            return "Triton interprets kernels here, as TRITON_INTERPRET=1 is in the environment"
    if backend == "compiled" and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        return "torch.compile needs a C++ compiler, and neither g++ nor clang++ is on the PATH; CXX can name another"
    return None


def _compiled(backend: str, function: Function) -> Function:
    """The function, compiled for the sizes of its first inputs where `backend` says so."""
    if backend != "compiled":
        return function
    # Every case starts afresh: PyTorch gives a function up after a few recompilations.
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, dynamic=False)


def _kernel_backend(backend: str) -> Backend:
    return "triton" if backend.endswith("triton") else "reference"


def attention(backend: str, data: AttentionData, dropout_p: float) -> Candidate:
    """Both directions of the attention by one of ATTENTION_BACKENDS."""
    words_mask, clips_mask = data.masks
    if backend.startswith("packed"):
        clip_problems, word_problems = data.problems

        def packed(
            q_clips: Tensor, k_words: Tensor, v_words: Tensor, q_words: Tensor, k_clips: Tensor, v_clips: Tensor
        ) -> tuple[Tensor, ...]:
            return packed_bidirectional_cross_attention(
                q_clips,
                k_words,
                v_words,
                clip_problems,
                q_words,
                k_clips,
                v_clips,
                word_problems,
                dropout_p=dropout_p,
                backend=_kernel_backend(backend),
            )

        return Candidate(packed, [data.pack(x) for x in data.tensors], [data.pack(x) for x in data.upstream])

    def sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value, mask[:, None, None], dropout_p)
        return attended.transpose(1, 2)

    def padded(
        q_clips: Tensor, k_words: Tensor, v_words: Tensor, q_words: Tensor, k_clips: Tensor, v_clips: Tensor
    ) -> tuple[Tensor, ...]:
        if backend == "sdpa":
            return sdpa(q_clips, k_words, v_words, words_mask), sdpa(q_words, k_clips, v_clips, clips_mask)
        return bidirectional_cross_attention(
            q_clips,
            k_words,
            v_words,
            words_mask,
            q_words,
            k_clips,
            v_clips,
            clips_mask,
            dropout_p=dropout_p,
            backend=_kernel_backend(backend),
        )

    return Candidate(_compiled(backend, padded), data.tensors, data.upstream)


def shared_attention(backend: Backend, dtype: torch.dtype, device: torch.device) -> SharedCrossAttention:
    """The module of FW-MESM with the same random weights every time, biases included."""
    torch.manual_seed(0)
    module = SharedCrossAttention(CHANNELS, HEADS, backend=backend)
    nn.init.normal_(module.in_proj_bias, std=0.1)
    nn.init.normal_(module.out_proj.bias, std=0.1)
    return module.to(device, dtype)


def block_function(module: SharedCrossAttention, data: AttentionData) -> Function:
    """Both directions of the module, as a function of the six inputs (Q, L, D)."""
    words_mask, clips_mask = data.masks

    def function(
        q_clips: Tensor, k_words: Tensor, v_words: Tensor, q_words: Tensor, k_clips: Tensor, v_clips: Tensor
    ) -> tuple[Tensor, ...]:
        return module.both_directions(
            q_clips, k_words, v_words, words_mask, None, q_words, k_clips, v_clips, clips_mask, None
        )

    return function


def block(backend: str, data: AttentionData) -> Candidate:
    """Projections, both directions of the attention and the output projection, by one of BLOCK_BACKENDS.

    Keys are no values, as positions are added to keys only. The modules of the baseline are called as the released code
    calls them, which returns the attention weights, or without.
    """
    words_mask, clips_mask = data.masks
    dtype, device = data.tensors[0].dtype, data.tensors[0].device
    shared = shared_attention(_kernel_backend(backend), dtype, device)
    inputs = [x.flatten(2) for x in data.tensors]
    upstream = [x.flatten(2) for x in data.upstream]
    if not backend.startswith("two modules"):
        function = _compiled(backend, block_function(shared, data))
        return Candidate(function, inputs, upstream, list(shared.parameters()))

    module = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True).to(device, dtype)
    module.load_state_dict(shared.state_dict())

    def two_calls(
        q_clips: Tensor, k_words: Tensor, v_words: Tensor, q_words: Tensor, k_clips: Tensor, v_clips: Tensor
    ) -> tuple[Tensor, ...]:
        weights = backend == "two modules"
        clips, _ = module(q_clips, k_words, v_words, key_padding_mask=~words_mask, need_weights=weights)
        words, _ = module(q_words, k_clips, v_clips, key_padding_mask=~clips_mask, need_weights=weights)
        return clips, words

    return Candidate(two_calls, inputs, upstream, list(module.parameters()))


def loss(backend: str, data: LossData) -> Candidate:
    """The contrastive loss, in the form of Eq. 5, by one of LOSS_BACKENDS."""

    def function(text: Tensor, segment: Tensor) -> tuple[Tensor, ...]:
        return (iou_positive_contrastive_loss(text, segment, data.moments, backend=_kernel_backend(backend)),)

    upstream = torch.ones((), device=data.moments.device)
    return Candidate(_compiled(backend, function), data.features, [upstream])
