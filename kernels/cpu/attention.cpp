// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Masked multi-head attention with dropout of the weights, for CPU tensors. A few items at a time are attended to, so
// that their weights stay in the cache, up to their last valid key and query; the backward pass computes the weights
// again from one number a row.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "philox.h"

namespace {

using at::Tensor;
using mesm::kBlock;
using torch::autograd::variable_list;

// Weights of the items that are attended to at once.
constexpr int64_t kStretch = 1 << 19;

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

// One past the last True of each row of a mask (B, L).
std::vector<int64_t> lengths_of(const Tensor& mask) {
  const int64_t items = mask.size(0), size = mask.size(1);
  const bool* const valid = mask.const_data_ptr<bool>();
  std::vector<int64_t> lengths(items, 0);
  for (int64_t item = 0; item < items; ++item) {
    int64_t length = size;
    while (length > 0 && !valid[item * size + length - 1]) --length;
    lengths[item] = length;
  }
  return lengths;
}

// Items that are worked on at once, and how many of their queries and keys.
struct Stretch {
  int64_t first, items, queries, keys, first_block;
};

std::vector<Stretch> stretches_of(
    const Tensor& query, const Tensor& mask, const std::optional<Tensor>& query_mask) {
  const int64_t items = query.size(0), heads = query.size(2);
  const auto keys = lengths_of(mask);
  const auto queries =
      query_mask.has_value() ? lengths_of(*query_mask) : std::vector<int64_t>(items, query.size(1));
  std::vector<Stretch> stretches;
  int64_t first_block = 0;
  for (int64_t first = 0; first < items;) {
    Stretch stretch{first, 0, 0, 0, first_block};
    while (first + stretch.items < items) {
      const int64_t item = first + stretch.items;
      const int64_t q = std::max(stretch.queries, queries[item]), k = std::max(stretch.keys, keys[item]);
      if (stretch.items > 0 && (stretch.items + 1) * heads * q * k > kStretch) break;
      stretch.items += 1;
      stretch.queries = q;
      stretch.keys = k;
    }
    first_block += mesm::blocks_of(stretch.items * heads * stretch.queries * stretch.keys);
    first += stretch.items;
    if (stretch.queries > 0 && stretch.keys > 0) stretches.push_back(stretch);
  }
  return stretches;
}

// (items, length, H, d) of a tensor as (items * H, length, d).
Tensor heads_of(const Tensor& x, const Stretch& stretch, int64_t length) {
  const Tensor part = x.narrow(0, stretch.first, stretch.items).narrow(1, 0, length);
  return part.transpose(1, 2).reshape({-1, length, x.size(3)});
}

void put_heads(const Tensor& heads, const Tensor& out, const Stretch& stretch, int64_t length) {
  out.narrow(0, stretch.first, stretch.items)
      .narrow(1, 0, length)
      .transpose(1, 2)
      .copy_(heads.view({stretch.items, -1, length, heads.size(2)}));
}

// 0 where a key is valid, else -inf; (B, Lk) in the dtype of the attention.
Tensor padding_of(const Tensor& mask, const Tensor& query) {
  return at::zeros(mask.sizes(), query.options()).masked_fill_(mask.logical_not(), -INFINITY);
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
  for (int64_t i = 0; i < keys; ++i) x[i] *= factor;
  return largest + std::log(total);
}

// The same weights once more, from what the other one returned.
template <typename T>
inline void softmax_row_again(T* __restrict x, const T* __restrict padding, int64_t keys, T scale, T sum) {
#pragma omp simd
  for (int64_t i = 0; i < keys; ++i) {
    const T difference = x[i] * scale - sum;
    // Above 0 by a rounding error at most.
    const T y = exponential(difference > T(0) ? T(0) : difference);
    x[i] = padding[i] == T(0) ? y : T(0);
  }
}

template <typename T>
inline void drop_block(
    const T* weights, T* out, const uint32_t* __restrict words, int size, uint32_t threshold, T scale) {
  // `out` may be `weights`, element by element.
#pragma omp simd
  for (int i = 0; i < size; ++i) out[i] = weights[i] * (words[i] < threshold ? T(0) : scale);
}

template <typename T>
void drop(const T* weights, T* out, int64_t size, int64_t first_block, uint64_t seed, double p) {
  const uint32_t threshold = mesm::threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  at::parallel_for(0, mesm::blocks_of(size), mesm::kGrain / kBlock, [=](int64_t begin, int64_t end) {
    mesm::for_blocks(begin, end, size, first_block, seed, true, [=](int64_t start, auto count, const uint32_t* words) {
      drop_block<T>(weights + start, out + start, words, count, threshold, scale);
    });
  });
}

// Rows of weights that are worth a thread.
int64_t grain_of(int64_t keys) { return std::max<int64_t>(1, 8192 / keys); }

// Gradient of a row of dot products, written over that of its weights: scale * (dropped * gradient - weights * delta).
template <typename T>
inline void softmax_row_backward(
    T* __restrict gradient,
    const T* weights,
    const T* dropped,
    const T* __restrict above,
    const T* __restrict out,
    int64_t keys,
    int64_t dims,
    T scale) {
  T delta = 0;
#pragma omp simd reduction(+ : delta)
  for (int64_t i = 0; i < dims; ++i) delta += above[i] * out[i];
#pragma omp simd
  for (int64_t i = 0; i < keys; ++i) gradient[i] = scale * (dropped[i] * gradient[i] - weights[i] * delta);
}

std::tuple<Tensor, Tensor> attention_cpu(
    const Tensor& query,
    const Tensor& key,
    const Tensor& value,
    const Tensor& key_mask,
    const std::optional<Tensor>& query_mask,
    int64_t seed,
    double p,
    double scale) {
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  const Tensor mask = key_mask.contiguous(), padding = padding_of(mask, query);
  const auto queries_mask = query_mask.has_value() ? std::optional<Tensor>(query_mask->contiguous()) : std::nullopt;
  const int64_t heads = query.size(2);
  Tensor out = at::zeros({query.size(0), query.size(1), heads, value.size(3)}, query.options());
  Tensor sums = at::zeros({query.size(0) * heads * query.size(1)}, query.options());
  int64_t first_row = 0;
  for (const Stretch& s : stretches_of(query, mask, queries_mask)) {
    Tensor weights = at::bmm(heads_of(query, s, s.queries), heads_of(key, s, s.keys).transpose(1, 2));
    const int64_t rows = s.items * heads * s.queries;
    AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "attention", [&] {
      scalar_t* const data = weights.mutable_data_ptr<scalar_t>();
      const scalar_t* const padded = padding.const_data_ptr<scalar_t>() + s.first * mask.size(1);
      scalar_t* const row_sums = sums.mutable_data_ptr<scalar_t>() + first_row;
      const int64_t rows_of_item = heads * s.queries, width = mask.size(1), keys = s.keys;
      at::parallel_for(0, rows, grain_of(keys), [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const scalar_t* const of_item = padded + row / rows_of_item * width;
          row_sums[row] = softmax_row<scalar_t>(data + row * keys, of_item, keys, static_cast<scalar_t>(scale));
        }
      });
      if (p > 0) drop<scalar_t>(data, data, rows * s.keys, s.first_block, static_cast<uint64_t>(seed), p);
    });
    put_heads(at::bmm(weights, heads_of(value, s, s.keys)), out, s, s.queries);
    first_row += rows;
  }
  return {out, sums};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward_cpu(
    const Tensor& gradient,
    const Tensor& query,
    const Tensor& key,
    const Tensor& value,
    const Tensor& key_mask,
    const std::optional<Tensor>& query_mask,
    const Tensor& out,
    const Tensor& sums,
    int64_t seed,
    double p,
    double scale) {
  const Tensor mask = key_mask.contiguous(), padding = padding_of(mask, query);
  const auto queries_mask = query_mask.has_value() ? std::optional<Tensor>(query_mask->contiguous()) : std::nullopt;
  const int64_t heads = query.size(2);
  Tensor grad_query = at::zeros(query.sizes(), query.options());
  Tensor grad_key = at::zeros(key.sizes(), key.options());
  Tensor grad_value = at::zeros(value.sizes(), value.options());
  int64_t first_row = 0;
  for (const Stretch& s : stretches_of(query, mask, queries_mask)) {
    const Tensor q = heads_of(query, s, s.queries), k = heads_of(key, s, s.keys), v = heads_of(value, s, s.keys);
    const Tensor above = heads_of(gradient, s, s.queries).contiguous();
    const Tensor result = heads_of(out, s, s.queries).contiguous();
    Tensor weights = at::bmm(q, k.transpose(1, 2));
    Tensor dropped = p > 0 ? at::empty_like(weights) : weights;
    Tensor inner = at::bmm(above, v.transpose(1, 2));
    const int64_t rows = s.items * heads * s.queries;
    AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "attention_backward", [&] {
      scalar_t* const data = weights.mutable_data_ptr<scalar_t>();
      scalar_t* const grads = inner.mutable_data_ptr<scalar_t>();
      scalar_t* const kept = dropped.mutable_data_ptr<scalar_t>();
      const scalar_t* const padded = padding.const_data_ptr<scalar_t>() + s.first * mask.size(1);
      const scalar_t* const row_sums = sums.const_data_ptr<scalar_t>() + first_row;
      const scalar_t* const grad_out = above.const_data_ptr<scalar_t>();
      const scalar_t* const attended = result.const_data_ptr<scalar_t>();
      const int64_t rows_of_item = heads * s.queries, width = mask.size(1), keys = s.keys, dims = v.size(2);
      const auto factor = static_cast<scalar_t>(scale);
      at::parallel_for(0, rows, grain_of(keys), [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const scalar_t* const of_item = padded + row / rows_of_item * width;
          softmax_row_again<scalar_t>(data + row * keys, of_item, keys, factor, row_sums[row]);
        }
      });
      if (p > 0) drop<scalar_t>(data, kept, rows * keys, s.first_block, static_cast<uint64_t>(seed), p);
      at::parallel_for(0, rows, grain_of(keys), [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t at = row * keys, from = row * dims;
          softmax_row_backward<scalar_t>(
              grads + at, data + at, kept + at, grad_out + from, attended + from, keys, dims, factor);
        }
      });
    });
    put_heads(at::bmm(dropped.transpose(1, 2), above), grad_value, s, s.keys);
    put_heads(at::bmm(inner, k), grad_query, s, s.queries);
    put_heads(at::bmm(inner.transpose(1, 2), q), grad_key, s, s.keys);
    first_row += rows;
  }
  return {grad_query, grad_key, grad_value};
}

auto forward_operator() {
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mesm_plugin::attention", "").typed<decltype(attention_cpu)>();
  return op;
}

class Attention : public torch::autograd::Function<Attention> {
 public:
  static variable_list forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& query,
      const Tensor& key,
      const Tensor& value,
      const Tensor& key_mask,
      const std::optional<Tensor>& query_mask,
      int64_t seed,
      double p,
      double scale) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [out, sums] = forward_operator().call(query, key, value, key_mask, query_mask, seed, p, scale);
    ctx->save_for_backward({query, key, value, key_mask, query_mask.value_or(Tensor()), out, sums});
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    ctx->saved_data["scale"] = scale;
    ctx->mark_non_differentiable({sums});
    ctx->set_materialize_grads(false);
    return {out, sums};
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    if (!gradients[0].defined()) return variable_list(8);
    const auto saved = ctx->get_saved_variables();
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::attention_backward", "")
                         .typed<decltype(attention_backward_cpu)>();
    auto [query, key, value] = op.call(
        gradients[0],
        saved[0],
        saved[1],
        saved[2],
        saved[3],
        saved[4].defined() ? std::optional<Tensor>(saved[4]) : std::nullopt,
        saved[5],
        saved[6],
        ctx->saved_data["seed"].toInt(),
        ctx->saved_data["p"].toDouble(),
        ctx->saved_data["scale"].toDouble());
    return {query, key, value, {}, {}, {}, {}, {}};
  }
};

std::tuple<Tensor, Tensor> attention_autograd(
    const Tensor& query,
    const Tensor& key,
    const Tensor& value,
    const Tensor& key_mask,
    const std::optional<Tensor>& query_mask,
    int64_t seed,
    double p,
    double scale) {
  const auto outputs = Attention::apply(query, key, value, key_mask, query_mask, seed, p, scale);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor key_mask, Tensor? query_mask, int seed, float p, "
      "float scale) -> (Tensor, Tensor)");
  library.def(
      "attention_backward(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor key_mask, "
      "Tensor? query_mask, Tensor out, Tensor sums, int seed, float p, float scale) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("attention", attention_cpu);
  library.impl("attention_backward", attention_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("attention", attention_autograd);
}
