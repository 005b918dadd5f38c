// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Projections of listed rows, forwards and backwards.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>

#include <ATen/ops/empty.h>

#include <optional>

#include "rows.h"

namespace mesm {

// Rows that are projected at once.
constexpr int64_t kProjectedRows = 512;

// A tensor (items, length, D), or the sum of two, as a matrix whose listed rows can be taken.
struct Source {
  Source(const at::Tensor& x, const std::optional<at::Tensor>& addend)
      : x(x.contiguous().view({-1, x.size(2)})),
        addend(addend.has_value() ? addend->contiguous().view({-1, x.size(2)}) : at::Tensor()) {}

  at::Tensor take(const RowList& rows, int64_t start, int64_t size, const at::Tensor& room) const {
    if (!addend.defined()) return rows.take(x, start, size, room);
    const int64_t dims = x.size(1);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "projected_attention", [&] {
      const scalar_t *const a = x.const_data_ptr<scalar_t>(), *const b = addend.const_data_ptr<scalar_t>();
      scalar_t* const out = room.mutable_data_ptr<scalar_t>();
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = rows[start + i] * dims;
        add(a + at, b + at, out + i * dims, dims);
      }
    });
    return room.narrow(0, 0, size);
  }

  at::Tensor x, addend;
};

// The listed rows of a source, projected, at the front of a tensor whose shape does not depend on how many they are.
inline at::Tensor project(
    const Source& source, const RowList& rows, const at::Tensor& weight, const at::Tensor& bias, bool bfloat16) {
  at::Tensor out = at::empty({rows.total(), weight.size(0)}, weight.options());
  const at::Tensor across = weight_factor(weight, bfloat16).t();
  const Stretches plan(rows.count(), kProjectedRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor room = at::empty({plan.step, weight.size(1)}, weight.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      at::Tensor to = out.narrow(0, start, size);
      const at::Tensor factor = rows_factor(source.take(rows, start, size, room), bfloat16);
      biased_product_out(to, factor, across, bias);
    }
  });
  return out;
}

// Adds the gradients of a projection, from those of its packed rows (R, D'), to the rows of `grad_source`, or writes
// them there, and to each thread's `grad_weight` (threads, D', D) and `grad_bias` (threads, D').
inline void project_backward(
    const at::Tensor& gradient,
    const Source& source,
    const RowList& rows,
    const at::Tensor& weight,
    const at::Tensor& grad_source,
    bool adds,
    ThreadSums& grad_weight,
    const at::Tensor& grad_bias,
    bool bfloat16) {
  const at::Tensor factor = weight_factor(weight, bfloat16);
  const Stretches plan(rows.count(), kProjectedRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const int64_t thread = at::get_thread_num();
    const at::Tensor to_bias = grad_bias[thread];
    const at::Tensor room = at::empty({plan.step, weight.size(1)}, weight.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      const at::Tensor above = gradient.narrow(0, start, size);
      const at::Tensor above_factor = rows_factor(above, bfloat16);
      grad_weight.add_product(
          thread, above_factor.t(), rows_factor(source.take(rows, start, size, room), bfloat16));
      add_rows(above, to_bias);
      if (adds) {
        at::Tensor old = rows.take(grad_source, start, size, room);
        add_product(old, above_factor, factor);
        rows.put(old, grad_source, start, size);
      } else {
        at::Tensor to = rows.target(grad_source, start, size, room);
        product_out(to, above_factor, factor);
        rows.put(to, grad_source, start, size);
      }
    }
  });
}

}  // namespace mesm
