# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Cross-attention by the Triton kernels or the reference: checks of the inputs and choice of the backend."""

import math

import torch
from torch import Tensor

from mesm_plugin.kernels.arguments import autocasting, check_number, check_tensors, integer
from mesm_plugin.kernels.backend import Backend, asked_for, use_triton
from mesm_plugin.kernels.cpu.suitable import suitable
from mesm_plugin.kernels.cross_attention import operator, reference
from mesm_plugin.kernels.cross_attention.masked_attention import attend_in_cpp
from mesm_plugin.kernels.cross_attention.problem_table import ProblemTable

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def cross_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    scale: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Multi-head attention of queries to masked keys (the softmax term of Eq. 1 of MESM).

    The Triton kernels need one short side: at most 64 queries or 64 keys.

    Args:
        query: (B, Lq, H, d), float16, bfloat16, float32 or float64.
        key: (B, Lk, H, d).
        value: (B, Lk, H, d).
        mask: (B, Lk) bool, True = valid key.
        dropout_p, seed, scale, backend: See `bidirectional_cross_attention`.

    Returns:
        (B, Lq, H, d) in the dtype of the inputs (see `bidirectional_cross_attention`); zeros, with zero gradients,
        where an item has no valid key.

    Raises:
        TypeError: See `bidirectional_cross_attention`.
        ValueError: See `bidirectional_cross_attention`.
        RuntimeError: See `bidirectional_cross_attention`.
    """
    direction = _autocast({"query": query, "key": key, "value": value, "mask": mask})
    _check_padded(direction)
    _check_alike(direction)
    query, key, value, mask = inputs = list(direction.values())
    scale, seed = _check_options(query, dropout_p, seed, scale)
    longest = operator.SHORT_TILES[-1]
    unsupported = _unsupported("query", query)
    if unsupported is None and min(query.shape[1], key.shape[1]) > longest:
        unsupported = (
            f"backend='triton' takes at most {longest} queries or at most {longest} keys, got query of shape "
            f"{tuple(query.shape)} and key of shape {tuple(key.shape)}; use backend='reference'"
        )
    if not use_triton(backend, query, unsupported):
        return _attend_without_triton(backend, query, key, value, mask, scale, dropout_p, seed)
    nothing = [x.detach()[:0, :0] for x in inputs]
    lengths = [query.shape[1], key.shape[1]]
    seed = _drawn(seed, query, dropout_p)
    if key.shape[1] <= longest:
        return operator.attend(inputs + nothing, [], [*lengths, 0, 0], seed, dropout_p, scale)[0]
    return operator.attend(nothing + inputs, [], [0, 0, *lengths], seed, dropout_p, scale)[1]


def bidirectional_cross_attention(
    q_clips: Tensor,
    k_words: Tensor,
    v_words: Tensor,
    words_mask: Tensor,
    q_words: Tensor,
    k_clips: Tensor,
    v_clips: Tensor,
    clips_mask: Tensor,
    *,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Both directions of FW-MESM's weight-shared cross-attention: clips attend to words, masked words to clips.

    Under autocast all inputs but float64 ones are cast to its dtype first, and so may differ in theirs. Masked keys and
    values must be finite: the reference multiplies them by zero, the Triton kernels do not read them.

    Args:
        q_clips: (P, Lv, H, d) clips of each pair, float16, bfloat16, float32 or float64. The Triton kernels take d of
            16, 32 and 64.
        k_words, v_words: (P, Lw, H, d) words of each pair; Lw of at most 64 with the Triton kernels.
        words_mask: (P, Lw) bool, True = valid.
        q_words: (Q, Mw, H, d) masked words of each query; Mw of at most 64 with the Triton kernels.
        k_clips, v_clips: (Q, Lc, H, d) clips that the query's words are restored from.
        clips_mask: (Q, Lc) bool, True = valid.
        dropout_p: Share of the attention weights that is dropped, in [0, 1).
        seed: () int64 on the device of the inputs, or an integer: the same seed drops the same weights with every
            backend. None = drawn from PyTorch's generator.
        scale: Factor of the dot products, a finite number, d ** -0.5 by default.
        backend: "auto" = Triton for CUDA and HIP tensors of supported sizes, else the reference; "triton" (also for CPU
            tensors under TRITON_INTERPRET=1) or "reference". The environment variable MESM_KERNEL_BACKEND overrides it.

    Returns:
        (P, Lv, H, d) and (Q, Mw, H, d) in the dtype of the inputs, autocast's where it is on; zeros, with zero
        gradients, where an item has no valid key.

    Raises:
        TypeError: An input is no tensor, or an option no number.
        ValueError: A shape, dtype, device or option is wrong, or with "triton" not supported.
        RuntimeError: "triton" cannot run on the device of the inputs.
    """
    named = _autocast(
        {"q_clips": q_clips, "k_words": k_words, "v_words": v_words, "words_mask": words_mask}
        | {"q_words": q_words, "k_clips": k_clips, "v_clips": v_clips, "clips_mask": clips_mask}
    )
    wide, narrow = _directions(named)
    _check_padded(wide)
    _check_padded(narrow)
    _check_alike(named)
    q_clips, k_words, v_words, words_mask, q_words, k_clips, v_clips, clips_mask = inputs = list(named.values())
    scale, seed = _check_options(q_clips, dropout_p, seed, scale)
    unsupported = (
        _unsupported("q_clips", q_clips)
        or _too_long("k_words", k_words, k_words.shape[1])
        or _too_long("q_words", q_words, q_words.shape[1])
    )
    if not use_triton(backend, q_clips, unsupported):
        options = (scale, dropout_p, seed)
        return (
            _attend_without_triton(backend, q_clips, k_words, v_words, words_mask, *options),
            _attend_without_triton(backend, q_words, k_clips, v_clips, clips_mask, *options, q_clips.shape[0]),
        )
    lengths = [q_clips.shape[1], k_words.shape[1], q_words.shape[1], k_clips.shape[1]]
    return operator.attend(inputs, [], lengths, _drawn(seed, q_clips, dropout_p), dropout_p, scale)[:2]


def packed_bidirectional_cross_attention(
    q_clips: Tensor,
    k_words: Tensor,
    v_words: Tensor,
    clip_problems: ProblemTable,
    q_words: Tensor,
    k_clips: Tensor,
    v_clips: Tensor,
    word_problems: ProblemTable,
    *,
    words_mask: Tensor | None = None,
    clips_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """`bidirectional_cross_attention` of items of different lengths, packed back to back without padding.

    The Triton kernels read the packed rows; the reference pads them to the longest problem of the table.

    Args:
        q_clips: (Rv, H, d) clips of all pairs.
        k_words, v_words: (Rw, H, d) words of all pairs.
        clip_problems: Which clips attend to which words; at most 64 words each with the Triton kernels.
        q_words: (Sw, H, d) masked words of all queries.
        k_clips, v_clips: (Sv, H, d) clips that they are restored from.
        word_problems: Which masked words attend to which clips; at most 64 words each with the Triton kernels.
        words_mask: (Rw,) bool, True = valid; None = all.
        clips_mask: (Sv,) bool, True = valid; None = all.
        dropout_p, seed, scale, backend: See `bidirectional_cross_attention`.

    Returns:
        (Rv, H, d) and (Sw, H, d); zeros in rows that belong to no problem.

    Raises:
        TypeError: See `bidirectional_cross_attention`; or a table is no `ProblemTable`.
        ValueError: See `bidirectional_cross_attention`; or a table names rows that a buffer does not have.
        RuntimeError: See `bidirectional_cross_attention`.
    """
    check_tensors({"k_words": k_words, "k_clips": k_clips})
    if words_mask is None:
        words_mask = torch.ones(k_words.shape[:1], dtype=torch.bool, device=k_words.device)
    if clips_mask is None:
        clips_mask = torch.ones(k_clips.shape[:1], dtype=torch.bool, device=k_clips.device)
    named = _autocast(
        {"q_clips": q_clips, "k_words": k_words, "v_words": v_words, "words_mask": words_mask}
        | {"q_words": q_words, "k_clips": k_clips, "v_clips": v_clips, "clips_mask": clips_mask}
    )
    wide, narrow = _directions(named)
    _check_packed(wide, "clip_problems", clip_problems)
    _check_packed(narrow, "word_problems", word_problems)
    _check_alike(named)
    q_clips, k_words, v_words, words_mask, q_words, k_clips, v_clips, clips_mask = inputs = list(named.values())
    scale, seed = _check_options(q_clips, dropout_p, seed, scale)
    unsupported = (
        _unsupported("q_clips", q_clips)
        or _too_long("clip_problems", clip_problems.table, clip_problems.max_keys)
        or _too_long("word_problems", word_problems.table, word_problems.max_queries)
    )
    if not use_triton(backend, q_clips, unsupported):
        options = (scale, dropout_p, seed)
        return (
            reference.attend_packed(q_clips, k_words, v_words, words_mask, clip_problems, *options),
            reference.attend_packed(
                q_words, k_clips, v_clips, clips_mask, word_problems, *options, clip_problems.table.shape[0]
            ),
        )
    tables = [table.table.to(q_clips.device) for table in (clip_problems, word_problems)]
    lengths = [n for table in (clip_problems, word_problems) for n in (table.max_queries, table.max_keys)]
    return operator.attend(inputs, tables, lengths, _drawn(seed, q_clips, dropout_p), dropout_p, scale)[:2]


def _attend_without_triton(
    backend: Backend,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    dropout_p: float,
    seed: Tensor | None,
    first_problem: int = 0,
) -> Tensor:
    """By the C++ operator for CPUs, unless the reference is asked for or dropout is to follow a given seed."""
    if asked_for(backend) == "auto" and (seed is None or dropout_p == 0) and suitable(query, key, value):
        return attend_in_cpp(query, key, value, mask, scale, dropout_p)
    return reference.attend(query, key, value, mask, scale, dropout_p, seed, first_problem)


def _autocast(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """The named inputs, queries first, in autocast's dtype where it is on; as everywhere, float64 stays what it is.

    Raises:
        TypeError: One is no tensor.
    """
    check_tensors(named)
    device = next(iter(named.values())).device
    if not autocasting(device):
        return named
    dtype = torch.get_autocast_dtype(device.type)
    return {name: x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for name, x in named.items()}


def _directions(named: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The named query, key, value and mask of each direction."""
    items = list(named.items())
    return dict(items[:4]), dict(items[4:])


def _shape(x: Tensor) -> str:
    # Written out, lengths become constants to `torch.compile`, which then compiles anew for each.
    return "another shape" if torch.compiler.is_compiling() else str(tuple(x.shape))


def _check_padded(direction: dict[str, Tensor]) -> None:
    """Checks the shapes of the named query, key, value and mask of one direction."""
    (query_name, query), (key_name, key), (value_name, value), (mask_name, mask) = direction.items()
    if query.dim() != 4:
        raise ValueError(f"{query_name} must have 4 dimensions, (items, length, heads, head size), got {_shape(query)}")
    if key.dim() != 4 or key.shape[0] != query.shape[0] or key.shape[2:] != query.shape[2:]:
        raise ValueError(
            f"{key_name} must match {query_name} but for the length, got {_shape(key)} and {_shape(query)}"
        )
    _check_value_and_mask(value_name, value, mask_name, mask, key_name, key, key.shape[:2])


def _check_packed(direction: dict[str, Tensor], table_name: str, table: ProblemTable) -> None:
    """Checks the shapes of the named query, key, value and mask of one packed direction."""
    (query_name, query), (key_name, key), (value_name, value), (mask_name, mask) = direction.items()
    if not isinstance(table, ProblemTable):
        raise TypeError(f"{table_name} must be a ProblemTable, got {type(table).__name__}")
    if query.dim() != 3:
        raise ValueError(f"{query_name} must have 3 dimensions, (rows, heads, head size), got {_shape(query)}")
    if key.dim() != 3 or key.shape[1:] != query.shape[1:]:
        raise ValueError(f"{key_name} must match {query_name} but for the rows, got {_shape(key)} and {_shape(query)}")
    _check_value_and_mask(value_name, value, mask_name, mask, key_name, key, key.shape[:1])
    for name, x, rows in ((query_name, query, table.query_rows), (key_name, key, table.key_rows)):
        if x.shape[0] < rows:
            raise ValueError(f"{table_name} names {rows} rows of {name}, which has {x.shape[0]}")


def _check_value_and_mask(
    value_name: str, value: Tensor, mask_name: str, mask: Tensor, key_name: str, key: Tensor, mask_shape: torch.Size
) -> None:
    if value.shape != key.shape:
        raise ValueError(f"{value_name} must have the shape of {key_name}, got {_shape(value)} and {_shape(key)}")
    if mask.shape != mask_shape or mask.dtype != torch.bool:
        raise ValueError(
            f"{mask_name} must be bool of shape {tuple(mask_shape)} (True = valid), "
            f"got {mask.dtype} of shape {_shape(mask)}"
        )


def _check_alike(tensors: dict[str, Tensor]) -> None:
    """Checks that all tensors have the head shape and device, and all but masks the dtype, of the first."""
    (first_name, first), *others = tensors.items()
    if first.dtype not in _DTYPES:
        raise ValueError(f"{first_name} must be float16, bfloat16, float32 or float64, got {first.dtype}")
    if 0 in first.shape[-2:]:
        raise ValueError(f"{first_name} must have at least one head and one channel, got {_shape(first)}")
    for name, x in others:
        if x.device != first.device:
            raise ValueError(f"{name} must be on the device of {first_name}, {first.device}, got {x.device}")
        if x.dtype == torch.bool:
            continue
        if x.dtype != first.dtype:
            raise ValueError(f"{name} must have the dtype of {first_name}, {first.dtype}, got {x.dtype}")
        if x.shape[-2:] != first.shape[-2:]:
            raise ValueError(f"{name} must have the heads of {first_name}, got {_shape(x)} and {_shape(first)}")


def _check_options(
    query: Tensor, dropout_p: float, seed: int | Tensor | None, scale: float | None
) -> tuple[float, Tensor | None]:
    """Returns the scale, and the seed as a tensor, or None where it is to be drawn."""
    check_number("dropout_p", dropout_p)
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p must be in [0, 1), got {dropout_p}")
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1 or seed.device != query.device:
            raise ValueError(
                f"seed must be one int64 number on {query.device}, got {seed.dtype} of shape {_shape(seed)} "
                f"on {seed.device}"
            )
    elif seed is not None:
        number = integer("seed", seed)
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"seed must be an integer that int64 holds, got {number}")
        seed = torch.full((), number, dtype=torch.int64, device=query.device)
    if scale is None:
        return query.shape[-1] ** -0.5, seed
    check_number("scale", scale)
    if not -math.inf < scale < math.inf:
        raise ValueError(f"scale must be finite, got {scale}")
    return scale, seed


def _drawn(seed: Tensor | None, query: Tensor, dropout_p: float) -> Tensor | None:
    """A seed from PyTorch's generator of the device, where one is needed and none is given."""
    if dropout_p == 0:
        return None
    if seed is None:
        return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=query.device)
    return seed


def _unsupported(name: str, query: Tensor) -> str | None:
    """Why the kernels cannot take tensors like `query`; None where they can."""
    if query.shape[-1] not in operator.HEAD_SIZES:
        return (
            f"{name} must have a head size in {operator.HEAD_SIZES} with backend='triton', got {_shape(query)}; "
            "use backend='reference'"
        )
    if query.dtype == torch.float64 and query.is_cuda:
        return f"{name} must not be float64 with backend='triton' on a GPU; use backend='reference'"
    return None


def _too_long(name: str, x: Tensor, length: int) -> str | None:
    longest = operator.SHORT_TILES[-1]
    if length <= longest:
        return None
    return (
        f"{name} must have at most {longest} words with backend='triton', got {length} (shape {_shape(x)}); "
        "use backend='reference'"
    )
