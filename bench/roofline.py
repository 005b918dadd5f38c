# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Bytes and floating-point operations of the kernels by their tiles, and the time that a GPU needs for them at least.

Bytes are those of the features and their gradients; masks, moments and sums over rows are left out. Operations are
those of matrix products. The estimated time is a lower bound, without launches, softmax, dropout and the like: bytes
that must cross the device memory once or operations of whole tiles at the GPU's peak rate, whichever take longer.
"""

from dataclasses import dataclass

from bench.gpus import Gpu
from bench.kernel_cases import CHANNELS, HEAD_SIZE, HEADS
from mesm_plugin.kernels.contrastive_loss import operator as contrastive_loss
from mesm_plugin.kernels.cross_attention import operator as cross_attention
from mesm_plugin.kernels.specialisation import Precision, Specialisation

BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "tf32": 4}


@dataclass(frozen=True)
class Work:
    """Work of a launch.

    Args:
        specialisation: Its kernel.
        bytes: Loaded and stored by all programs, from whatever memory.
        least_bytes: Each input loaded once and each output stored once.
        flops: Of whole tiles.
        least_flops: Of rows and columns that exist, without recomputation.
    """

    specialisation: Specialisation
    bytes: int
    least_bytes: int
    flops: int
    least_flops: int

    def seconds(self, gpu: Gpu) -> float:
        """Estimated time on a GPU, a lower bound."""
        return max(self.least_bytes / gpu.bandwidth, self.flops / gpu.flops[self.specialisation.precision])


def _tiles(length: int, tile: int) -> int:
    return -(-length // tile)


def attention_work(
    kernel: str,
    architecture: str,
    precision: Precision,
    problems: int,
    clips: int,
    words: int,
    heads: int,
    channels: int,
) -> Work:
    """Work of a launch of the bidirectional cross-attention over padded items, with dropout.

    Args:
        kernel: `cross_attention.operator.FORWARD` or BACKWARD.
        architecture: Whose tiles are taken.
        precision: Of the inputs.
        problems: Problems of each direction.
        clips: Length of the long side.
        words: Length of the short side.
        heads: H.
        channels: Channels of a head.
    """
    short = min(tile for tile in cross_attention.SHORT_TILES if tile >= words)
    chosen = cross_attention.specialise(kernel, architecture, precision, short, channels, dropout=True)
    row = problems * heads * channels * BYTES[precision]
    long = chosen.constants["BLOCK_LONG"]
    padded = _tiles(clips, long) * long * short
    # The forward pass also leaves the narrow direction's output in float32 to the backward pass.
    unrounded = problems * heads * channels * words * 4
    if kernel == cross_attention.FORWARD:
        # Query and output of each side, key and value of the other one.
        least_bytes = row * 4 * (clips + words)
        chunks = _tiles(clips, chosen.constants["TILES"] * long)
        moved = least_bytes + row * 2 * words * (chunks - 1) + unrounded
        products = 2
    else:
        # Query, key, value, the gradient of the output and three gradients; and the narrow direction's output.
        least_bytes = row * (7 * (clips + words) + words)
        moved = least_bytes - row * words + unrounded
        products = 5
    per_logit = 2 * 2 * products * problems * heads * channels
    return Work(chosen, moved, least_bytes, per_logit * padded, per_logit * clips * words)


def loss_work(kernel: str, architecture: str, precision: Precision, count: int, channels: int) -> Work:
    """Work of a launch of the contrastive loss of Eq. 5 over as many rows as columns.

    Args:
        kernel: `contrastive_loss.operator.FORWARD` or BACKWARD.
        architecture: Whose tiles are taken.
        precision: Of the features.
        count: N.
        channels: D.
    """
    chosen = contrastive_loss.specialise(kernel, architecture, precision, giou=False, log_sum=True)
    item = BYTES[precision]
    constants = chosen.constants
    if kernel == contrastive_loss.FORWARD:
        rows, columns = (_tiles(count, constants[f"BLOCK_{side}"]) for side in ("ROWS", "COLUMNS"))
        padded = rows * constants["BLOCK_ROWS"] * columns * constants["BLOCK_COLUMNS"]
        moved = (rows + columns) * count * channels
        least, products = 2 * count * channels, 1
        flops = 2 * padded * channels
    else:
        # Each part of the channels recomputes the logits; both gradients do so.
        own, other = (_tiles(count, constants[f"BLOCK_{side}"]) for side in ("OWN", "OTHER"))
        parts = _tiles(channels, constants["BLOCK_PART"])
        padded = own * constants["BLOCK_OWN"] * other * constants["BLOCK_OTHER"]
        moved = 2 * (parts * (own + other) + own + 1) * count * channels
        least, products = 4 * count * channels, 3
        flops = 2 * 2 * padded * (parts * channels + parts * constants["BLOCK_PART"])
    return Work(chosen, moved * item, least * item, flops, 2 * products * count**2 * channels)


def workloads(architecture: str, precision: Precision) -> dict[str, list[Work]]:
    """Launches, forward and backward, of some sizes of MESM."""
    found: dict[str, list[Work]] = {}
    for problems, clips, words in ((4, 40, 10), (31, 75, 15), (128, 75, 32), (31, 600, 33)):
        found[f"attention, {problems} queries, {clips} clips, {words} words"] = [
            attention_work(kernel, architecture, precision, problems, clips, words, HEADS, HEAD_SIZE)
            for kernel in (cross_attention.FORWARD, cross_attention.BACKWARD)
        ]
    for count in (32, 1024, 8192):
        found[f"loss, {count} pairs"] = [
            loss_work(kernel, architecture, precision, count, CHANNELS)
            for kernel in (contrastive_loss.FORWARD, contrastive_loss.BACKWARD)
        ]
    return found
