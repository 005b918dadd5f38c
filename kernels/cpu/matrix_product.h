// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// PyTorch's matrix products, of factors as they are or, as autocast asks for, rounded to bfloat16. What comes out is not
// rounded to more than the product's own dtype, and added up in the dtype of the target.

#pragma once

#include <ATen/core/Tensor.h>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

namespace mesm {

// oneDNN compiles a kernel for each number of rows of bfloat16, of which there should be few.
constexpr int64_t kRowStep = 64;

// A factor that is as long as a batch; rounded, it ends with rows of zeros.
inline at::Tensor rows_factor(const at::Tensor& x, bool bfloat16) {
  if (!bfloat16) return x;
  const int64_t rows = x.size(0), padded = (rows + kRowStep - 1) / kRowStep * kRowStep;
  at::Tensor out = at::empty({padded, x.size(1)}, x.options().dtype(at::kBFloat16));
  out.narrow(0, 0, rows).copy_(x);
  out.narrow(0, rows, padded - rows).zero_();
  return out;
}

// A factor whose size is the model's.
inline at::Tensor weight_factor(const at::Tensor& x, bool bfloat16) { return bfloat16 ? x.to(at::kBFloat16) : x; }

// out = the first rows of a b.
inline void product_out(at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == out.scalar_type()) {
    at::mm_out(out, a, b);
  } else {
    out.copy_(at::mm(a, b).narrow(0, 0, out.size(0)));
  }
}

// out += the first rows of a b.
inline void add_product(at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == out.scalar_type()) {
    out.addmm_(a, b);
  } else {
    out.add_(at::mm(a, b).narrow(0, 0, out.size(0)));
  }
}

}  // namespace mesm
