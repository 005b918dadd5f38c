// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Masked attention of one head, forwards and backwards, where its numbers lie: rows of queries, keys and values may be
// any distance apart. Some queries at a time are attended to, so that their weights stay in the cache; the backward
// pass computes the weights again from one number a row.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "philox.h"
#include "small_product.h"

namespace mesm {

// Queries that are attended to at once.
constexpr int64_t kQueries = 48;

// e^x for x <= 0, to two units in the last place, in a form that compilers turn into vector instructions.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504088896341f + 12582912.0f;
  const float whole = shifted - 12582912.0f;
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * rest + 1.3981999507e-3f;
  y = y * rest + 8.3334519073e-3f;
  y = y * rest + 4.1665795894e-2f;
  y = y * rest + 1.6666665459e-1f;
  y = y * rest + 5.0000001201e-1f;
  y = y * rest * rest + rest + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const int32_t power = (bits - 0x4B400000 + 127) << 23;
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return y * scale;
}
inline double exponential(double x) { return std::exp(x); }

// Rows (rows, dims) as (dims, padded rows), zeros at the end.
template <typename T>
inline void transpose(const T* x, int64_t stride, int64_t rows, int64_t dims, T* out, int64_t out_stride) {
  for (int64_t j = 0; j < dims; ++j) {
    for (int64_t i = 0; i < rows; ++i) out[j * out_stride + i] = x[i * stride + j];
    for (int64_t i = rows; i < out_stride; ++i) out[j * out_stride + i] = T(0);
  }
}

// Softmax of a row of dot products; returns the logarithm of the sum of its exponentials.
template <typename T>
inline T softmax_row(T* __restrict x, const T* __restrict padding, int64_t keys, T scale) {
  const T lowest = -std::numeric_limits<T>::infinity();
  T largest = lowest;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < keys; ++i) {
    const T y = x[i] * scale + padding[i];
    largest = y > largest ? y : largest;
  }
  if (largest == lowest) {
    // Without a valid key the weights are zero. Valid ones that are all -inf or NaN make NaN, as in PyTorch.
    bool any = false;
    for (int64_t i = 0; i < keys; ++i) any |= padding[i] == T(0);
    const T weight = any ? std::numeric_limits<T>::quiet_NaN() : T(0);
    std::fill_n(x, keys, weight);
    return weight;
  }
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < keys; ++i) {
    const T y = exponential(x[i] * scale - largest);
    x[i] = padding[i] == T(0) ? y : T(0);
    total += x[i];
  }
  const T factor = T(1) / total;
#pragma omp simd
  for (int64_t i = 0; i < keys; ++i) x[i] *= factor;
  return largest + std::log(total);
}

// The backward pass of a row in one go. Turns dot products `x` into the weights that the forward pass made of them,
// after dropout, by what it returned, and the gradient of these weights into that of the dot products:
// scale * (dropped * gradient - weights * delta).
template <typename T>
inline void softmax_row_backward(
    T* __restrict x,
    T* __restrict gradient,
    const T* __restrict padding,
    int64_t keys,
    T scale,
    T sum,
    T delta,
    uint64_t first_block,
    uint64_t seed,
    double p) {
  const uint32_t threshold = threshold_of(p);
  const T keep_scale = static_cast<T>(1 / (1 - p));
  const auto work = [=](int64_t start, auto count, const uint32_t* words) {
    T* __restrict const at = x + start;
    T* __restrict const grads = gradient + start;
    const T* __restrict const pad = padding + start;
#pragma omp simd
    for (int i = 0; i < count; ++i) {
      const T difference = at[i] * scale - sum;
      // Above 0 by a rounding error at most.
      const T y = exponential(difference > T(0) ? T(0) : difference);
      const T weight = pad[i] == T(0) ? y : T(0), dropped = weight * (words[i] < threshold ? T(0) : keep_scale);
      grads[i] = scale * (dropped * grads[i] - weight * delta);
      at[i] = dropped;
    }
  };
  for_blocks(0, blocks_of(keys), keys, first_block, seed, p > 0, work);
}

// Rows of a head: its numbers lie together in each of them.
template <typename T>
struct HeadRows {
  T* data;
  int64_t stride;
  T* row(int64_t i) const { return data + i * stride; }
  // Zeros in the rows [begin, end), each of `dims` numbers.
  void clear(int64_t begin, int64_t end, int64_t dims) const {
    for (int64_t i = begin; i < end; ++i) std::fill_n(row(i), dims, T(0));
  }
};

// Each row's random words begin at a block of their own.
struct Drop {
  double p;
  uint64_t seed, first_block;
};

template <typename T>
struct Head {
  HeadRows<const T> query, key, value;
  // 0 where a key is valid, else -inf.
  const T* padding;
  int64_t queries, keys, dims, value_dims;
  T scale;
  Drop drop;

  // Blocks of random words that the head takes.
  static int64_t blocks(int64_t queries, int64_t keys) { return queries * blocks_of(keys); }

  // Writes what each query attends to, and one number a query for the backward pass. `room` grows as needed.
  void forward(HeadRows<T> out, T* sums, std::vector<T>& room) const {
    const int64_t width = padded<T>(keys);
    room.resize((dims + kQueries) * width);
    T* const keys_across = room.data();
    T* const weights = keys_across + dims * width;
    transpose(key.data, key.stride, keys, dims, keys_across, width);
    for (int64_t start = 0; start < queries; start += kQueries) {
      const int64_t size = std::min(kQueries, queries - start);
      dot_products(start, size, keys_across, weights, width);
      for (int64_t i = 0; i < size; ++i) {
        T* const row = weights + i * width;
        sums[start + i] = softmax_row(row, padding, keys, scale);
        if (drop.p > 0) drop_row(row, row, keys, first_block(start + i), drop.seed, drop.p);
      }
      small_product<T, false>(
          weights, width, 1, value.data, value.stride, out.row(start), out.stride, size, keys, value_dims);
    }
  }

  // Writes the gradient of the queries, and adds those of the keys and values to what is there.
  void backward(
      HeadRows<const T> above,
      HeadRows<const T> out,
      const T* sums,
      HeadRows<T> grad_query,
      HeadRows<T> grad_key,
      HeadRows<T> grad_value,
      std::vector<T>& room) const {
    const int64_t width = padded<T>(keys);
    room.resize((dims + value_dims + 2 * kQueries) * width);
    T* const keys_across = room.data();
    T* const values_across = keys_across + dims * width;
    T* const weights = values_across + value_dims * width;
    T* const gradients = weights + kQueries * width;
    transpose(key.data, key.stride, keys, dims, keys_across, width);
    transpose(value.data, value.stride, keys, value_dims, values_across, width);
    for (int64_t start = 0; start < queries; start += kQueries) {
      const int64_t size = std::min(kQueries, queries - start);
      dot_products(start, size, keys_across, weights, width);
      small_product<T, false>(
          above.row(start), above.stride, 1, values_across, width, gradients, width, size, value_dims, width);
      for (int64_t i = 0; i < size; ++i) {
        const T* const of_row = above.row(start + i);
        const T* const attended = out.row(start + i);
        T delta = 0;
#pragma omp simd reduction(+ : delta)
        for (int64_t j = 0; j < value_dims; ++j) delta += of_row[j] * attended[j];
        softmax_row_backward(
            weights + i * width, gradients + i * width, padding, keys, scale, sums[start + i], delta,
            first_block(start + i), drop.seed, drop.p);
      }
      small_product<T, true>(
          weights, 1, width, above.row(start), above.stride, grad_value.data, grad_value.stride, keys, size,
          value_dims);
      small_product<T, true>(
          gradients, 1, width, query.row(start), query.stride, grad_key.data, grad_key.stride, keys, size, dims);
      small_product<T, false>(
          gradients, width, 1, key.data, key.stride, grad_query.row(start), grad_query.stride, size, keys, dims);
    }
  }

 private:
  void dot_products(int64_t start, int64_t size, const T* keys_across, T* weights, int64_t width) const {
    small_product<T, false>(query.row(start), query.stride, 1, keys_across, width, weights, width, size, dims, width);
  }

  uint64_t first_block(int64_t query_row) const { return drop.first_block + query_row * blocks_of(keys); }
};

}  // namespace mesm
