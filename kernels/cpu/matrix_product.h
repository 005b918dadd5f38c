// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// PyTorch's matrix products, of factors as they are or, as autocast asks for, rounded to bfloat16. Then a product is
// rounded once as well, and becomes float32 again where it is added to something.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "bfloat16.h"

namespace mesm {

// Calls work(T, H), numbers of the type of what is added up and of the type of factors and products.
template <typename Work>
void with_types(at::ScalarType dtype, bool bfloat16, const Work& work) {
  if (bfloat16) {
    work(float(), c10::BFloat16());
  } else {
    AT_DISPATCH_FLOATING_TYPES(dtype, "mesm_plugin", [&] { work(scalar_t(), scalar_t()); });
  }
}

inline at::TensorOptions factor_options(const at::Tensor& x, bool bfloat16) {
  return bfloat16 ? x.options().dtype(at::kBFloat16) : x.options();
}

// oneDNN compiles a kernel for each number of rows of bfloat16, of which there should be few: they come in steps.
inline int64_t whole_steps(int64_t rows, bool bfloat16) { return bfloat16 ? (rows + 15) / 16 * 16 : rows; }

// A factor that is as long as a batch; what is rounded ends with rows of zeros, up to a whole step.
inline at::Tensor rows_factor(const at::Tensor& x, bool bfloat16) {
  if (!bfloat16) return x;
  const int64_t rows = x.size(0), padded = whole_steps(rows, true);
  at::Tensor out = at::empty({padded, x.size(1)}, factor_options(x, true));
  out.narrow(0, 0, rows).copy_(x);
  if (padded > rows) out.narrow(0, rows, padded - rows).zero_();
  return out;
}

// A factor whose size is the model's.
inline at::Tensor weight_factor(const at::Tensor& x, bool bfloat16) {
  TORCH_CHECK_VALUE(
      !bfloat16 || x.scalar_type() == at::kFloat, "only float32 is rounded to bfloat16, got weights of ", x.scalar_type());
  return bfloat16 ? x.to(at::kBFloat16) : x;
}

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

// Rows of out = the first rows of a b, plus a contiguous bias, while they are in the cache: addmm would write the bias
// first, and read it again.
inline void biased_product_out(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  const bool bfloat16 = a.scalar_type() != out.scalar_type();
  if (!bfloat16) at::mm_out(out, a, b);
  const at::Tensor product = bfloat16 ? at::mm(a, b) : out;
  const int64_t rows = out.size(0), dims = out.size(1);
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "biased_product", [&] {
    const scalar_t* const offsets = bias.const_data_ptr<scalar_t>();
    scalar_t* const to = out.mutable_data_ptr<scalar_t>();
    for (int64_t row = 0; row < rows; ++row) {
      scalar_t* const of_row = to + row * dims;
      // Only float32 is rounded to bfloat16.
      if (bfloat16) widen(product.const_data_ptr<c10::BFloat16>() + row * dims, reinterpret_cast<float*>(of_row), dims);
      for (int64_t i = 0; i < dims; ++i) of_row[i] += offsets[i];
    }
  });
}

}  // namespace mesm
