// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0

#pragma once

#include <ATen/core/Tensor.h>

namespace mesm {

// The mask with its elements in order, so that they can be read.
inline at::Tensor checked_mask(const char* name, const at::Tensor& mask, at::IntArrayRef sizes) {
  TORCH_CHECK_VALUE(
      mask.scalar_type() == at::kBool && mask.is_cpu() && mask.sizes() == sizes,
      name,
      " must be bool of shape ",
      sizes,
      " on the CPU, got ",
      mask.scalar_type(),
      " of shape ",
      mask.sizes(),
      " on ",
      mask.device());
  return mask.contiguous();
}

}  // namespace mesm
