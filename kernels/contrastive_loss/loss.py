# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The contrastive loss by the Triton kernels or the reference: checks of the inputs and choice of the backend."""

import math
from typing import Literal

import torch
from torch import Tensor

from mesm_plugin.kernels.arguments import autocasting, check_number, check_tensors
from mesm_plugin.kernels.backend import Backend, use_triton
from mesm_plugin.kernels.contrastive_loss import operator, reference
from mesm_plugin.kernels.contrastive_loss.reference import Form, Iou, Reduction

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def iou_positive_contrastive_loss(
    text: Tensor,
    segment: Tensor,
    moments: Tensor | tuple[Tensor, Tensor],
    group: Tensor | tuple[Tensor, Tensor] | None = None,
    *,
    gamma: float = 0.9,
    tau: float | Tensor = 0.5,
    iou: Iou = "iou",
    form: Form = "log_sum",
    anchor: Literal["text", "segment"] = "text",
    eps: float = 0.0,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
) -> Tensor:
    """Draws each text to the segments whose moments overlap its own (Eq. 5 of MESM).

    Text and segments can differ in number, as where they are gathered from several processes; `moments` and `group` are
    then pairs, for the text first. Logits and loss are float32 (float64 for float64 features), under autocast as well,
    where the dtypes of text and segment may differ.

    Args:
        text: (N, D) sentence features, float16, bfloat16, float32 or float64.
        segment: (N, D), or (M, D), segment features in the same dtype.
        moments: (N, 2) start and end, seconds or normalised; or a pair of (N, 2) and (M, 2). Overlaps are compared in
            float32 (float64 for float64 features).
        group: (N,) int64, or a pair of (N,) and (M,); positives lie within a group. None = all are in one group.
        gamma: IoU above which two moments are positives of each other. An overlap within 2.4e-7 of it, relative, counts
            as equal to it.
        tau: Temperature, a positive number or a tensor of one number, on the device of the features, with a gradient.
        iou: "iou" = IoU > gamma (Eq. 5), "giou" = generalised IoU >= gamma (released code).
        form: "log_sum" = -log(sum over positives / sum over all) (Eq. 5), "mean_log" = mean over the positives of
            -log softmax (released code).
        anchor: "text" compares each text to all segments (Eq. 5), "segment" each segment to all texts (released code).
        eps: Added inside the logarithm of the sum over all, after the maximum is subtracted, and to the count of
            positives (the released code's 1e-6). To the gradients the maximum is a constant.
        reduction: "mean" and "sum" over the anchors, or "none".
        backend: "auto" = Triton for CUDA and HIP tensors, else the reference; "triton" (also for CPU tensors under
            TRITON_INTERPRET=1) or "reference". The environment variable MESM_KERNEL_BACKEND overrides it.

    Returns:
        The loss, a float32 (float64 for float64 features) scalar, or one number per anchor with `reduction="none"`.
        Anchors without positives count as 0; the mean over no anchors is 0.

    Raises:
        TypeError: An input is no tensor, or an option no number.
        ValueError: A shape, dtype, device or option is wrong, or with "triton" not supported.
        RuntimeError: "triton" cannot run on the device of the inputs.
    """
    _check_features(text, segment)
    text_moments, segment_moments = _pair("moments", moments, text, segment)
    text_group, segment_group = (None, None) if group is None else _pair("group", group, text, segment)
    _check_moments(text_moments, text)
    _check_moments(segment_moments, segment)
    for labels, features in ((text_group, text), (segment_group, segment)):
        if labels is not None:
            _check_group(labels, features)
    for name, value, allowed in (
        ("iou", iou, ("iou", "giou")),
        ("form", form, ("log_sum", "mean_log")),
        ("anchor", anchor, ("text", "segment")),
        ("reduction", reduction, ("mean", "sum", "none")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    for name, number in (("gamma", gamma), ("eps", eps)):
        check_number(name, number)
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {number}")

    dtype = torch.float64 if text.dtype == torch.float64 else torch.float32
    sides = [(text, text_moments.to(dtype), text_group), (segment, segment_moments.to(dtype), segment_group)]
    if anchor == "segment":
        sides.reverse()
    (rows, row_moments, row_group), (columns, column_moments, column_group) = sides
    inputs = (rows, columns, row_moments, column_moments, row_group, column_group, _temperature(tau, text, dtype))
    unsupported = None
    if text.is_cuda and text.dtype == torch.float64:
        unsupported = "text must not be float64 with backend='triton' on a GPU; use backend='reference'"
    if use_triton(backend, text, unsupported):
        return operator.contrast(*inputs, gamma, eps, iou, form, reduction)[0]
    if not autocasting(text.device):
        return reference.contrast(*inputs, gamma, eps, iou, form, reduction)
    # As with the kernels, half precision is for features, not for logits.
    with torch.autocast(text.device.type, enabled=False):
        return reference.contrast(*inputs, gamma, eps, iou, form, reduction)


def _check_features(text: Tensor, segment: Tensor) -> None:
    check_tensors({"text": text, "segment": segment})
    for name, features in (("text", text), ("segment", segment)):
        if features.dim() != 2:
            raise ValueError(f"{name} must have 2 dimensions, (items, channels), got {tuple(features.shape)}")
        if features.dtype not in _DTYPES:
            raise ValueError(f"{name} must be float16, bfloat16, float32 or float64, got {features.dtype}")
    if segment.shape[1] != text.shape[1]:
        raise ValueError(f"segment must have the {text.shape[1]} channels of text, got {segment.shape[1]}")
    if segment.device != text.device:
        raise ValueError(f"segment must be on the device of text, {text.device}, got {segment.device}")
    mixable = autocasting(text.device) and torch.float64 not in (text.dtype, segment.dtype)
    if segment.dtype != text.dtype and not mixable:
        raise ValueError(f"segment must have the dtype of text, {text.dtype}, got {segment.dtype}")


def _pair(name: str, value: Tensor | tuple[Tensor, Tensor], text: Tensor, segment: Tensor) -> tuple[Tensor, Tensor]:
    """The argument for the text and for the segments."""
    if not isinstance(value, Tensor):
        if not isinstance(value, tuple | list) or not all(isinstance(x, Tensor) for x in value):
            raise TypeError(f"{name} must be a tensor or a pair of tensors, text first, got {type(value).__name__}")
        if len(value) != 2:
            raise ValueError(f"{name} must be a tensor or a pair of tensors, text first, got {len(value)} of them")
        first, second = value
        return first, second
    if text.shape[0] != segment.shape[0]:
        raise ValueError(
            f"{name} must be a pair of tensors, text first, where the numbers of text and segment differ: "
            f"{text.shape[0]} and {segment.shape[0]}; got one tensor"
        )
    return value, value


def _check_moments(moments: Tensor, features: Tensor) -> None:
    if moments.shape != (features.shape[0], 2):
        raise ValueError(
            f"moments must have shape {(features.shape[0], 2)}, start and end of each item, got {tuple(moments.shape)}"
        )
    if moments.dtype == torch.bool or moments.is_complex():
        raise ValueError(f"moments must be real numbers, got {moments.dtype}")
    if moments.device != features.device:
        raise ValueError(f"moments must be on the device of the features, {features.device}, got {moments.device}")


def _check_group(group: Tensor, features: Tensor) -> None:
    if group.shape != (features.shape[0],) or group.dtype != torch.int64:
        raise ValueError(
            f"group must be int64 of shape {(features.shape[0],)}, got {group.dtype} of shape {tuple(group.shape)}"
        )
    if group.device != features.device:
        raise ValueError(f"group must be on the device of the features, {features.device}, got {group.device}")


def _temperature(tau: float | Tensor, features: Tensor, dtype: torch.dtype) -> Tensor:
    """tau as a () tensor on the device of the features; to look at what a tensor holds would synchronise."""
    if not isinstance(tau, Tensor):
        check_number("tau", tau)
        if not 0 < tau < math.inf:
            raise ValueError(f"tau must be positive and finite, got {tau}")
        return torch.full((), tau, dtype=dtype, device=features.device)
    if tau.numel() != 1 or not tau.is_floating_point() or tau.device != features.device:
        raise ValueError(
            f"tau must be a number or one floating-point number on {features.device}, got {tau.dtype} of shape "
            f"{tuple(tau.shape)} on {tau.device}"
        )
    return tau.reshape(()).to(dtype)
