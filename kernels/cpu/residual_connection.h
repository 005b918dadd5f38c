// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// What ends each block of a transformer layer, row by row: dropout of the update, the sum with the residual, and layer
// normalisation. The random words of a row begin at a block of their own, so that rows may be shared out as one likes.

#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <optional>

#include "philox.h"

namespace mesm {

// sum = residual + dropped update, for one row; `sum` may be `update`.
template <typename T>
inline void add_dropped(
    const T* residual, const T* update, T* sum, int64_t dims, uint64_t first_block, uint64_t seed, double p) {
  const uint32_t threshold = threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  for_blocks(0, blocks_of(dims), dims, first_block, seed, p > 0, [=](int64_t start, auto count, const uint32_t* words) {
    const T* const a = residual + start;
    const T* const b = update + start;
    T* const out = sum + start;
    // `out` may be `b`, element by element.
#pragma omp simd
    for (int i = 0; i < count; ++i) out[i] = a[i] + b[i] * (words[i] < threshold ? T(0) : scale);
  });
}

// Mean and reciprocal deviation of a row, by which its backward pass normalises again.
template <typename T>
struct Moments {
  T mean, rstd;
};

template <typename T>
inline Moments<T> normalise_row(
    const T* __restrict x, T* __restrict out, const T* __restrict weight, const T* __restrict bias, int64_t dims,
    double eps) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < dims; ++i) total += x[i];
  const T mean = total / static_cast<T>(dims);
  T squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < dims; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const T rstd = T(1) / std::sqrt(squares / static_cast<T>(dims) + static_cast<T>(eps));
  for (int64_t i = 0; i < dims; ++i) out[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
  return {mean, rstd};
}

// Adds the gradient of what went into the norm to `grad_x`, and those of its parameters to theirs.
template <typename T>
inline void normalise_row_backward(
    const T* __restrict gradient,
    const T* __restrict x,
    const T* __restrict weight,
    Moments<T> moments,
    T* __restrict grad_x,
    T* __restrict grad_weight,
    T* __restrict grad_bias,
    int64_t dims) {
  const T mean = moments.mean, rstd = moments.rstd;
  T total = 0, projected = 0;
#pragma omp simd reduction(+ : total, projected)
  for (int64_t i = 0; i < dims; ++i) {
    const T normed = (x[i] - mean) * rstd, inner = gradient[i] * weight[i];
    total += inner;
    projected += inner * normed;
  }
  total /= static_cast<T>(dims);
  projected /= static_cast<T>(dims);
  for (int64_t i = 0; i < dims; ++i) {
    const T normed = (x[i] - mean) * rstd;
    grad_weight[i] += gradient[i] * normed;
    grad_bias[i] += gradient[i];
    grad_x[i] += (gradient[i] * weight[i] - total - normed * projected) * rstd;
  }
}

}  // namespace mesm
