// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Attention of many queries to few keys, such as clips to words. The projections of the queries and of the outputs are
// absorbed into the keys and values, as in the multi-head latent attention of DeepSeek-V2: with the key k and the value v
// of a head, (W x + b) . k = x . (W^T k) + b . k, and what a value adds to the output is its weight times U v. So no
// query is projected: its rows meet those of W^T k and U v, `heads` for each key, in two matrix products.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_head.h"
#include "attention_layout.h"
#include "matrix_product.h"
#include "projection.h"
#include "small_product.h"

namespace mesm {

// Whether that takes fewer multiplications than to project queries and outputs.
inline bool absorbing_pays(const Layout& layout, int64_t channels, int64_t dims, int64_t outputs, int64_t heads) {
  int64_t absorbed = layout.key_rows.count() * dims * (channels + outputs);
  int64_t projected = layout.query_rows.count() * dims * (channels + outputs);
  for (int64_t item = 0; item < layout.query_items; ++item) {
    const int64_t pairs = layout.queries_of(item) * layout.keys_of(layout.key_of[item]);
    absorbed += pairs * heads * (channels + outputs);
    projected += pairs * 2 * dims;
  }
  return absorbed < projected;
}

struct AbsorbedAttention {
  const Layout& layout;
  const Source& query;
  // (D', D), (D',), (D'', D') and (D'',).
  const at::Tensor &query_weight, &query_bias, &out_weight;
  // Packed rows (R, D').
  const at::Tensor &key, &value;
  int64_t heads;
  uint64_t seed;
  double p;

  // Writes the output of the listed queries, and sums (queries * heads,) for the backward pass.
  void forward(const at::Tensor& out_bias, const at::Tensor& out, const at::Tensor& sums) const {
    const Factors factors = absorb();
    const int64_t longest = std::min(kQueriesAtOnce, query.x.size(0));
    // Stretches of the queries of an item.
    std::vector<std::array<int64_t, 3>> units;
    for (int64_t item = 0; item < layout.query_items; ++item) {
      for (int64_t start = 0; start < layout.queries_of(item); start += longest) {
        units.push_back({item, start, std::min(longest, layout.queries_of(item) - start)});
      }
    }
    AT_DISPATCH_FLOATING_TYPES(key.scalar_type(), "projected_attention", [&] {
      at::parallel_for(0, static_cast<int64_t>(units.size()), 1, [&](int64_t begin, int64_t end) {
        const at::AutoDispatchBelowADInplaceOrView below;
        const at::Tensor room = at::empty({longest, channels()}, key.options());
        const at::Tensor out_room = at::empty({longest, outputs()}, key.options());
        const at::Tensor weights_room = at::empty({longest * layout.key_length * heads}, key.options());
        std::vector<scalar_t> padding, largest(heads);
        for (int64_t unit = begin; unit < end; ++unit) {
          const auto [item, start, size] = units[unit];
          const int64_t first = layout.query_ends[item] + start;
          at::Tensor to = layout.query_rows.target(out, first, size, out_room);
          if (layout.padding(item, padding)) {
            const Keys keys = factors.of(layout, layout.key_of[item], heads);
            at::Tensor weights = matrix(weights_room, size, keys.width());
            at::mm_out(weights, query.take(layout.query_rows, first, size, room), keys.key.t());
            for (int64_t i = 0; i < size; ++i) {
              scalar_t* const row = weights.mutable_data_ptr<scalar_t>() + i * keys.width();
              softmax_of_heads(
                  row, keys.offset.template const_data_ptr<scalar_t>(), padding, heads, scale<scalar_t>(), largest.data(),
                  sums.mutable_data_ptr<scalar_t>() + (first + i) * heads);
              if (p > 0) drop(row, row, keys.width(), first + i);
            }
            biased_product_out(to, weights, keys.value, out_bias);
          } else {
            to.copy_(out_bias.expand_as(to));
          }
          layout.query_rows.put(to, out, first, size);
        }
      });
    });
  }

  // Writes the gradients of the listed queries and of query_weight, query_bias and out_weight, those of the packed keys
  // and values, and adds those of the output's bias to each thread's `grad_out_bias` (threads, D'').
  void backward(
      const at::Tensor& above,
      const at::Tensor& sums,
      const at::Tensor& grad_query,
      const at::Tensor& grad_key,
      const at::Tensor& grad_value,
      const at::Tensor& grad_query_weight,
      const at::Tensor& grad_query_bias,
      const at::Tensor& grad_out_weight,
      const at::Tensor& grad_out_bias) const {
    const Factors factors = absorb();
    Factors gradients{
        at::zeros_like(factors.key), at::zeros_like(factors.offset), at::zeros_like(factors.value)};
    const int64_t longest = std::min(kQueriesAtOnce, query.x.size(0));
    AT_DISPATCH_FLOATING_TYPES(key.scalar_type(), "projected_attention_backward", [&] {
      // A thread has all query items of a key item, whose gradients it adds up.
      at::parallel_for(0, layout.key_items, 1, [&](int64_t begin, int64_t end) {
        const at::AutoDispatchBelowADInplaceOrView below;
        const at::Tensor to_bias = grad_out_bias[at::get_thread_num()];
        const at::Tensor room = at::empty({longest, channels()}, key.options());
        const at::Tensor above_room = at::empty({longest, outputs()}, key.options());
        const at::Tensor result_room = at::empty({longest, channels()}, key.options());
        const at::Tensor rooms = at::empty({3, longest * layout.key_length * heads}, key.options());
        std::vector<scalar_t> padding, delta(heads);
        for (int64_t key_item = begin; key_item < end; ++key_item) {
          const Keys keys = factors.of(layout, key_item, heads);
          Keys to_keys = gradients.of(layout, key_item, heads);
          for (const int64_t item : layout.members[key_item]) {
            const bool any = layout.padding(item, padding);
            for (int64_t start = 0; start < layout.queries_of(item); start += longest) {
              const int64_t first = layout.query_ends[item] + start;
              const int64_t size = std::min(longest, layout.queries_of(item) - start);
              const at::Tensor of_rows = layout.query_rows.take(above, first, size, above_room);
              add_rows(of_rows, to_bias);
              at::Tensor result = layout.query_rows.target(grad_query, first, size, result_room);
              if (any) {
                const at::Tensor x = query.take(layout.query_rows, first, size, room);
                at::Tensor weights = matrix(rooms[0], size, keys.width());
                at::Tensor grads = matrix(rooms[1], size, keys.width());
                const at::Tensor dropped = p > 0 ? matrix(rooms[2], size, keys.width()) : weights;
                at::mm_out(weights, x, keys.key.t());
                at::mm_out(grads, of_rows, keys.value.t());
                for (int64_t i = 0; i < size; ++i) {
                  scalar_t* const row = weights.mutable_data_ptr<scalar_t>() + i * keys.width();
                  scalar_t* const kept = dropped.mutable_data_ptr<scalar_t>() + i * keys.width();
                  softmax_of_heads_again(
                      row, keys.offset.template const_data_ptr<scalar_t>(), padding, heads, scale<scalar_t>(),
                      sums.const_data_ptr<scalar_t>() + (first + i) * heads);
                  if (p > 0) drop(row, kept, keys.width(), first + i);
                  softmax_of_heads_backward(
                      grads.mutable_data_ptr<scalar_t>() + i * keys.width(), row, kept, padding.size(), heads,
                      scale<scalar_t>(), delta.data());
                }
                to_keys.value.addmm_(dropped.t(), of_rows);
                to_keys.key.addmm_(grads.t(), x);
                add_rows(grads, to_keys.offset);
                at::mm_out(result, grads, keys.key);
              } else {
                result.zero_();
              }
              layout.query_rows.put(result, grad_query, first, size);
            }
          }
        }
      });
    });
    // Head by head: the gradients of what was absorbed.
    at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView below;
      for (int64_t head = begin; head < end; ++head) {
        const at::Tensor of_key = rows_of_head(key, head), of_value = rows_of_head(value, head);
        const at::Tensor to_key = gradients.key.select(1, head), to_value = gradients.value.select(1, head);
        const at::Tensor to_offset = gradients.offset.select(1, head);
        at::Tensor out = rows_of_head(grad_key, head);
        at::mm_out(out, to_key, of_head(query_weight, 0, head).t());
        out.addr_(to_offset, of_head(query_bias, 0, head));
        out = rows_of_head(grad_value, head);
        at::mm_out(out, to_value, of_head(out_weight, 1, head));
        out = of_head(grad_query_weight, 0, head);
        at::mm_out(out, of_key.t(), to_key);
        out = of_head(grad_query_bias, 0, head);
        at::mv_out(out, of_key.t(), to_offset);
        out = of_head(grad_out_weight, 1, head);
        at::mm_out(out, to_value.t(), of_value);
      }
    });
  }

 private:
  // So many rows keep a product near the rate of large ones.
  static constexpr int64_t kQueriesAtOnce = 256;
  // The factors of so many keys fit into a second-level cache.
  static constexpr int64_t kKeysAtOnce = 48;

  // Of one key item, a row for each key and head: W^T k, b . k and U v.
  struct Keys {
    at::Tensor key, offset, value;
    int64_t width() const { return key.size(0); }
  };

  // Of all packed rows: (R, heads, D), (R, heads) and (R, heads, D'').
  struct Factors {
    at::Tensor key, offset, value;
    Keys of(const Layout& layout, int64_t key_item, int64_t heads) const {
      const int64_t first = layout.key_ends[key_item], count = layout.keys_of(key_item);
      return {
          key.narrow(0, first, count).flatten(0, 1),
          offset.narrow(0, first, count).flatten(),
          value.narrow(0, first, count).flatten(0, 1)};
    }
  };

  int64_t channels() const { return query_weight.size(1); }
  int64_t outputs() const { return out_weight.size(0); }
  // Channels of a head.
  int64_t head_dims() const { return key.size(1) / heads; }
  template <typename T>
  T scale() const {
    return static_cast<T>(1 / std::sqrt(static_cast<double>(head_dims())));
  }

  // The part of a dimension of size D' that belongs to a head.
  at::Tensor of_head(const at::Tensor& x, int64_t dim, int64_t head) const {
    return x.narrow(dim, head * head_dims(), head_dims());
  }
  // That of the rows which are in use, of packed ones.
  at::Tensor rows_of_head(const at::Tensor& x, int64_t head) const {
    return of_head(x.narrow(0, 0, layout.key_rows.count()), 1, head);
  }

  // Forward and backward pass each do this: to keep it would take `heads` rows for each key.
  Factors absorb() const {
    const int64_t rows = layout.key_rows.count();
    const Factors out{
        at::empty({rows, heads, channels()}, key.options()), at::empty({rows, heads}, key.options()),
        at::empty({rows, heads, outputs()}, key.options())};
    const at::Tensor from_query = query_weight.contiguous(), to_output = out_weight.t().contiguous();
    AT_DISPATCH_FLOATING_TYPES(key.scalar_type(), "projected_attention", [&] {
      at::parallel_for(0, rows, kKeysAtOnce, [&](int64_t begin, int64_t end) {
        // All heads of some keys: the rows that they write lie side by side, and stay in the cache.
        for (int64_t start = begin; start < end; start += kKeysAtOnce) {
          const int64_t size = std::min(kKeysAtOnce, end - start);
          absorb_into<scalar_t>(out.key, key, from_query, start, size);
          absorb_into<scalar_t>(out.value, value, to_output, start, size);
          absorb_bias<scalar_t>(out.offset, start, size);
        }
      });
    });
    return out;
  }

  // Products of each head's part of some rows of x (R, D') with its rows of a contiguous weight (D', columns).
  template <typename T>
  void absorb_into(
      const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, int64_t start, int64_t size) const {
    const int64_t dims = x.size(1), columns = weight.size(1), width = heads * columns;
    const T *const from = x.const_data_ptr<T>() + start * dims, *const by = weight.const_data_ptr<T>();
    T* const to = out.mutable_data_ptr<T>() + start * width;
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t at = head * head_dims();
      small_product<T, false>(
          from + at, dims, 1, by + at * columns, columns, to + head * columns, width, size, head_dims(), columns);
    }
  }

  template <typename T>
  void absorb_bias(const at::Tensor& out, int64_t start, int64_t size) const {
    const int64_t dims = head_dims();
    const T* x = key.const_data_ptr<T>() + start * heads * dims;
    T* to = out.mutable_data_ptr<T>() + start * heads;
    for (int64_t i = 0; i < size; ++i) {
      const T* bias = query_bias.const_data_ptr<T>();
      for (int64_t head = 0; head < heads; ++head, x += dims, bias += dims) {
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dims; ++j) sum += x[j] * bias[j];
        *to++ = sum;
      }
    }
  }

  static at::Tensor matrix(const at::Tensor& room, int64_t rows, int64_t columns) {
    return room.narrow(0, 0, rows * columns).view({rows, columns});
  }

  // A row of weights after dropout; each row's random words begin at a block of their own.
  template <typename T>
  void drop(const T* weights, T* out, int64_t width, int64_t row) const {
    const uint64_t block = row * blocks_of(layout.key_length * heads);
    drop_row(weights, out, width, block, seed, p);
  }

  // Softmax over the keys of each head of a row of dot products (keys, heads); writes the logarithms of the sums of
  // exponentials. `largest` has room for a number a head.
  template <typename T>
  static void softmax_of_heads(
      T* x, const T* offset, const std::vector<T>& padding, int64_t heads, T scale, T* largest, T* sums) {
    std::fill_n(largest, heads, -std::numeric_limits<T>::infinity());
    std::fill_n(sums, heads, T(0));
    const int64_t keys = padding.size();
    for (int64_t key = 0; key < keys; ++key) {
      if (padding[key] != T(0)) continue;
      T* const row = x + key * heads;
      const T* const added = offset + key * heads;
#pragma omp simd
      for (int64_t head = 0; head < heads; ++head) {
        row[head] = (row[head] + added[head]) * scale;
        largest[head] = row[head] > largest[head] ? row[head] : largest[head];
      }
    }
    for (int64_t key = 0; key < keys; ++key) {
      T* const row = x + key * heads;
      if (padding[key] != T(0)) {
        std::fill_n(row, heads, T(0));
        continue;
      }
#pragma omp simd
      for (int64_t head = 0; head < heads; ++head) {
        row[head] = exponential(row[head] - largest[head]);
        sums[head] += row[head];
      }
    }
    for (int64_t head = 0; head < heads; ++head) {
      const T total = sums[head];
      sums[head] = largest[head] + std::log(total);
      largest[head] = T(1) / total;
    }
    // No longer the largest ones.
    const T* const factor = largest;
    for (int64_t key = 0; key < keys; ++key) {
      T* const row = x + key * heads;
#pragma omp simd
      for (int64_t head = 0; head < heads; ++head) row[head] *= factor[head];
    }
  }

  // The same weights once more, from what the other one wrote.
  template <typename T>
  static void softmax_of_heads_again(
      T* x, const T* offset, const std::vector<T>& padding, int64_t heads, T scale, const T* sums) {
    const int64_t keys = padding.size();
    for (int64_t key = 0; key < keys; ++key) {
      T* const row = x + key * heads;
      const T* const added = offset + key * heads;
      if (padding[key] != T(0)) {
        std::fill_n(row, heads, T(0));
        continue;
      }
#pragma omp simd
      for (int64_t head = 0; head < heads; ++head) {
        const T difference = (row[head] + added[head]) * scale - sums[head];
        // Above 0 by a rounding error at most.
        row[head] = exponential(difference > T(0) ? T(0) : difference);
      }
    }
  }

  // Gradient of a row of dot products, written over that of its weights.
  template <typename T>
  static void softmax_of_heads_backward(
      T* gradient, const T* weights, const T* dropped, int64_t keys, int64_t heads, T scale, T* delta) {
    std::fill_n(delta, heads, T(0));
    for (int64_t key = 0; key < keys; ++key) {
      const int64_t at = key * heads;
#pragma omp simd
      for (int64_t head = 0; head < heads; ++head) delta[head] += dropped[at + head] * gradient[at + head];
    }
    for (int64_t key = 0; key < keys; ++key) {
      const int64_t at = key * heads;
#pragma omp simd
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t i = at + head;
        gradient[i] = scale * (dropped[i] * gradient[i] - weights[i] * delta[head]);
      }
    }
  }
};

}  // namespace mesm
