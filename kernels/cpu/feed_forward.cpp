// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// The feed-forward block of a transformer layer for CPU tensors: linear, PReLU or ReLU, dropout, linear, dropout, the
// sum with a residual, and layer normalisation. Each thread takes stretches of rows through all of it, so that hidden
// channels never leave its cache, and rows that a mask names as padding do not go through it at all. Kept for the
// backward pass are the rows, the numbers before the activation, the sum and the seed.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "backward.h"
#include "bfloat16.h"
#include "masks.h"
#include "residual_connection.h"
#include "rows.h"
#include "seed.h"

namespace {

using at::Tensor;
using std::optional;
using torch::autograd::variable_list;

// Hidden numbers of a stretch of rows: with the weights' gradients they fit into a second-level cache of 2 MB.
constexpr int64_t kStretch = 1 << 18;
// The second dropout takes its words from blocks that the first one cannot reach.
constexpr uint64_t kOutBlocks = uint64_t(1) << 56;

mesm::Stretches stretches_of(const mesm::RowList& rows, int64_t hidden, bool bfloat16) {
  return {rows.count(), std::max<int64_t>(32, kStretch / std::max<int64_t>(hidden, 1)), bfloat16};
}

// The rows that are no padding.
mesm::RowList rows_of(const optional<Tensor>& mask, int64_t size) {
  if (!mask.has_value()) return mesm::RowList(size);
  return {mesm::checked_mask("mask", *mask, {size}).const_data_ptr<bool>(), size};
}

// `before` may be `product`.
template <typename T>
inline void activate_block(
    const T* product,
    const T* bias,
    T* before,
    T* out,
    const uint32_t* words,
    int size,
    T slope,
    uint32_t threshold,
    T scale) {
#pragma omp simd
  for (int i = 0; i < size; ++i) {
    const T x = product[i] + bias[i];
    before[i] = x;
    out[i] = x * (x > T(0) ? T(1) : slope) * (words[i] < threshold ? T(0) : scale);
  }
}

inline void activate_block(
    const c10::BFloat16* product,
    const float* bias,
    c10::BFloat16* before,
    c10::BFloat16* out,
    const uint32_t* words,
    int size,
    float slope,
    uint32_t threshold,
    float scale) {
  static constexpr float kNoBias[mesm::kBlock] = {};
  float x[mesm::kBlock], y[mesm::kBlock];
  mesm::widen(product, x, size);
  mesm::accumulate<float>(x, bias, size);
  // The backward pass starts from the rounded numbers.
  mesm::narrow(x, before, size);
  mesm::widen(before, x, size);
  activate_block<float>(x, kNoBias, x, y, words, size, slope, threshold, scale);
  mesm::narrow(y, out, size);
}

template <typename T>
inline T activate_block_backward(
    const T* __restrict before,
    T* __restrict gradient,
    T* __restrict out,
    const uint32_t* __restrict words,
    int size,
    T slope,
    uint32_t threshold,
    T scale) {
  T grad_slope = 0;
#pragma omp simd reduction(+ : grad_slope)
  for (int i = 0; i < size; ++i) {
    const T x = before[i], kept = words[i] < threshold ? T(0) : scale, inner = gradient[i] * kept;
    const T side = x > T(0) ? T(1) : slope;
    grad_slope += x > T(0) ? T(0) : inner * x;
    gradient[i] = inner * side;
    out[i] = x * side * kept;
  }
  return grad_slope;
}

inline float activate_block_backward(
    const c10::BFloat16* before,
    c10::BFloat16* gradient,
    c10::BFloat16* out,
    const uint32_t* words,
    int size,
    float slope,
    uint32_t threshold,
    float scale) {
  float x[mesm::kBlock], y[mesm::kBlock], z[mesm::kBlock];
  mesm::widen(before, x, size);
  mesm::widen(gradient, y, size);
  const float grad_slope = activate_block_backward<float>(x, y, z, words, size, slope, threshold, scale);
  mesm::narrow(y, gradient, size);
  mesm::narrow(z, out, size);
  return grad_slope;
}

// ReLU is a PReLU of slope 0.
template <typename T>
T slope_of(const optional<Tensor>& slope) {
  return slope.has_value() ? *slope->const_data_ptr<T>() : T(0);
}

// Adds the bias, and writes the numbers before the activation to where they are kept. The product itself stays in the
// cache: to write it there at once, into memory that no cache holds, makes it slower.
template <typename T, typename H>
void activate_and_drop(
    const H* product,
    const T* bias,
    H* before,
    H* out,
    int64_t hidden,
    uint64_t first_block,
    T slope,
    uint64_t seed,
    double p) {
  const uint32_t threshold = mesm::threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  const auto work = [=](int64_t start, auto count, const uint32_t* words) {
    activate_block(
        product + start, bias + start, before + start, out + start, words, count, slope, threshold, scale);
  };
  mesm::for_blocks(0, mesm::blocks_of(hidden), hidden, first_block, seed, p > 0, work);
}

// Turns the gradient of what came out of the dropout into that of what went into the activation, writes what came out
// of the dropout once more, and returns the gradient of the slope.
template <typename T, typename H>
T activate_backward(
    const H* before, H* gradient, H* out, int64_t hidden, uint64_t first_block, T slope, uint64_t seed, double p) {
  const uint32_t threshold = mesm::threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  T total = 0;
  const auto work = [=, &total](int64_t start, auto count, const uint32_t* words) {
    total += activate_block_backward(
        before + start, gradient + start, out + start, words, count, slope, threshold, scale);
  };
  mesm::for_blocks(0, mesm::blocks_of(hidden), hidden, first_block, seed, p > 0, work);
  return total;
}

optional<Tensor> contiguous(const optional<Tensor>& x) {
  return x.has_value() ? optional<Tensor>(x->contiguous()) : std::nullopt;
}

template <typename T>
const T* data_of(const optional<Tensor>& x) {
  return x.has_value() ? x->const_data_ptr<T>() : nullptr;
}

// Output (R, D), and for the backward pass the hidden numbers before the activation, the sums and the norm's moments of
// the rows that are no padding, at the front.
std::tuple<Tensor, Tensor, Tensor, Tensor> feed_forward_cpu(
    const Tensor& x,
    const Tensor& residual,
    const optional<Tensor>& mask,
    const Tensor& weight1,
    const Tensor& bias1,
    const optional<Tensor>& slope,
    const Tensor& weight2,
    const Tensor& bias2,
    const optional<Tensor>& gamma,
    const optional<Tensor>& beta,
    double eps,
    optional<int64_t> seed_or_none,
    double p,
    bool keeps,
    bool bfloat16) {
  TORCH_CHECK_VALUE(x.dim() == 2 && weight1.dim() == 2 && weight2.dim() == 2, "x and the weights must be matrices");
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  TORCH_CHECK_VALUE(
      residual.dim() == 2 && residual.size(0) == x.size(0) && residual.size(1) == weight2.size(0),
      "residual must have the rows of x and the channels of the output");
  TORCH_CHECK_VALUE(
      gamma.has_value() == beta.has_value() &&
          (!gamma.has_value() || (gamma->numel() == weight2.size(0) && beta->numel() == weight2.size(0))),
      "gamma and beta must be given together, with the channels of the output");
  TORCH_CHECK_VALUE(
      bias1.numel() == weight1.size(0) && bias2.numel() == weight2.size(0), "the biases must fit their weights");
  TORCH_CHECK_VALUE(!slope.has_value() || slope->numel() == 1, "slope must be one number, got ", slope->sizes());
  const Tensor input = x.contiguous(), beside = residual.contiguous();
  const Tensor offsets1 = bias1.contiguous(), offsets2 = bias2.contiguous();
  const optional<Tensor> factors = contiguous(gamma), offsets = contiguous(beta);
  const mesm::RowList rows = rows_of(mask, x.size(0));
  const int64_t hidden = weight1.size(0), dims = weight2.size(0), blocks = mesm::blocks_of(hidden);
  const mesm::Stretches plan = stretches_of(rows, hidden, bfloat16);
  const uint64_t seed = static_cast<uint64_t>(mesm::seed_for(seed_or_none, p));
  const bool norms = gamma.has_value();
  // Their shape does not depend on the mask; pages behind the last valid row are never touched.
  const at::TensorOptions hidden_options = mesm::factor_options(x, bfloat16);
  const Tensor before = at::empty({keeps ? x.size(0) : 0, hidden}, hidden_options);
  const Tensor sums = at::empty({keeps && norms ? x.size(0) : 0, dims}, x.options());
  const Tensor moments = at::empty({keeps && norms ? x.size(0) : 0, 2}, x.options());
  Tensor out = at::empty({x.size(0), dims}, x.options());
  rows.fill_others(out);
  const Tensor first = mesm::weight_factor(weight1, bfloat16).t(), second = mesm::weight_factor(weight2, bfloat16).t();
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const Tensor room = at::empty({plan.step, input.size(1)}, x.options());
    const Tensor wide = at::empty({plan.step, hidden}, hidden_options), product_room = at::empty_like(wide);
    const Tensor narrow_room = at::empty({plan.step, dims}, x.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part), whole = mesm::whole_steps(size, bfloat16);
      Tensor product = product_room.narrow(0, 0, whole);
      mesm::product_out(product, mesm::rows_factor(rows.take(input, start, size, room), bfloat16), first);
      Tensor dropped = wide.narrow(0, 0, whole), update = narrow_room.narrow(0, 0, size);
      mesm::with_types(x.scalar_type(), bfloat16, [&](auto number, auto hidden_number) {
        using scalar_t = decltype(number);
        using hidden_t = decltype(hidden_number);
        hidden_t* const from = product.mutable_data_ptr<hidden_t>();
        hidden_t* const kept_before = keeps ? before.mutable_data_ptr<hidden_t>() + start * hidden : from;
        const scalar_t* const offset1 = offsets1.const_data_ptr<scalar_t>();
        hidden_t* const to = dropped.mutable_data_ptr<hidden_t>();
        const scalar_t side = slope_of<scalar_t>(slope);
        for (int64_t i = 0; i < size; ++i) {
          const int64_t at = i * hidden;
          activate_and_drop(
              from + at, offset1, kept_before + at, to + at, hidden, (start + i) * blocks, side, seed, p);
        }
        mesm::product_out(update, dropped, second);
        scalar_t* const added = update.mutable_data_ptr<scalar_t>();
        const scalar_t* const offset2 = offsets2.const_data_ptr<scalar_t>();
        const scalar_t* const old = beside.const_data_ptr<scalar_t>();
        const scalar_t *const w = data_of<scalar_t>(factors), *const offset = data_of<scalar_t>(offsets);
        scalar_t* const result = out.mutable_data_ptr<scalar_t>();
        scalar_t* const kept = sums.mutable_data_ptr<scalar_t>();
        auto* const stats = reinterpret_cast<mesm::Moments<scalar_t>*>(moments.mutable_data_ptr<scalar_t>());
        const int64_t out_blocks = mesm::blocks_of(dims);
        for (int64_t i = 0; i < size; ++i) {
          const int64_t row = rows[start + i];
          scalar_t* const target = result + row * dims;
          scalar_t* const sum = !norms ? target : keeps ? kept + (start + i) * dims : added + i * dims;
          const uint64_t block = kOutBlocks + (start + i) * out_blocks;
          mesm::accumulate(added + i * dims, offset2, dims);
          mesm::add_dropped(old + row * dims, added + i * dims, sum, dims, block, seed, p);
          if (!norms) continue;
          const auto of_row = mesm::normalise_row(sum, target, w, offset, dims, eps);
          if (keeps) stats[start + i] = of_row;
        }
      });
    }
  });
  return {out, before, sums, moments};
}

// Gradients of x, the residual, weight1, bias1, slope, weight2, bias2, gamma and beta.
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients feed_forward_backward_cpu(
    const Tensor& gradient,
    const Tensor& x,
    const optional<Tensor>& mask,
    const Tensor& weight1,
    const optional<Tensor>& slope,
    const Tensor& weight2,
    const optional<Tensor>& gamma,
    const Tensor& before,
    const Tensor& sums,
    const Tensor& moments,
    int64_t seed_number,
    double p,
    bool bfloat16) {
  const Tensor input = x.contiguous(), above_all = gradient.contiguous();
  const optional<Tensor> factors = contiguous(gamma);
  const mesm::RowList rows = rows_of(mask, x.size(0));
  const int64_t hidden = weight1.size(0), dims = weight2.size(0), blocks = mesm::blocks_of(hidden);
  const mesm::Stretches plan = stretches_of(rows, hidden, bfloat16);
  const auto seed = static_cast<uint64_t>(seed_number);
  const bool norms = gamma.has_value();
  Tensor grad_x = at::empty_like(input), grad_residual = at::empty_like(above_all);
  rows.fill_others(grad_x);
  rows.fill_others(grad_residual);
  // Each thread adds up the gradients of its own rows: both weights, and bias1, bias2, gamma, beta and slope.
  mesm::ThreadSums grads1(weight1), grads2(weight2);
  const Tensor first = mesm::weight_factor(weight1, bfloat16), second = mesm::weight_factor(weight2, bfloat16);
  const Tensor small = at::zeros({at::get_num_threads(), hidden + 3 * dims + 1}, x.options());
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const int64_t thread = at::get_thread_num();
    const Tensor room = at::empty({plan.step, input.size(1)}, x.options());
    const Tensor inner = at::empty({plan.step, hidden}, before.options()), after = at::empty_like(inner);
    const Tensor above_room = at::empty({plan.step, dims}, x.options());
    const Tensor result_room = at::empty({plan.step, input.size(1)}, x.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part), whole = mesm::whole_steps(size, bfloat16);
      Tensor above = above_room.narrow(0, 0, size), stretch = inner.narrow(0, 0, whole);
      Tensor dropped = after.narrow(0, 0, whole), above_factor;
      mesm::with_types(x.scalar_type(), bfloat16, [&](auto number, auto hidden_number) {
        using scalar_t = decltype(number);
        using hidden_t = decltype(hidden_number);
        scalar_t* const to_small = small.mutable_data_ptr<scalar_t>() + thread * small.size(1);
        scalar_t* const to_bias2 = to_small + hidden;
        scalar_t* const above_data = above.mutable_data_ptr<scalar_t>();
        const scalar_t* const all = above_all.const_data_ptr<scalar_t>();
        scalar_t* const to_residual = grad_residual.mutable_data_ptr<scalar_t>();
        const scalar_t* const w = data_of<scalar_t>(factors);
        const auto* const stats = reinterpret_cast<const mesm::Moments<scalar_t>*>(moments.const_data_ptr<scalar_t>());
        const int64_t out_blocks = mesm::blocks_of(dims);
        for (int64_t i = 0; i < size; ++i) {
          const int64_t row = rows[start + i];
          scalar_t* const of_sum = to_residual + row * dims;
          if (norms) {
            std::fill_n(of_sum, dims, scalar_t(0));
            mesm::normalise_row_backward(
                all + row * dims,
                sums.const_data_ptr<scalar_t>() + (start + i) * dims,
                w,
                stats[start + i],
                of_sum,
                to_bias2 + dims,
                to_bias2 + 2 * dims,
                dims);
          } else {
            std::copy_n(all + row * dims, dims, of_sum);
          }
          scalar_t* const of_update = above_data + i * dims;
          mesm::drop_row(of_sum, of_update, dims, kOutBlocks + (start + i) * out_blocks, seed, p);
          mesm::accumulate(to_bias2, of_update, dims);
        }
        above_factor = mesm::rows_factor(above, bfloat16);
        mesm::product_out(stretch, above_factor, second);
        hidden_t* const grads = stretch.mutable_data_ptr<hidden_t>();
        hidden_t* const out = dropped.mutable_data_ptr<hidden_t>();
        const hidden_t* const from = before.const_data_ptr<hidden_t>() + start * hidden;
        // The gradient has zeros in the rows that fill up the last step.
        std::fill_n(out + size * hidden, (whole - size) * hidden, hidden_t(0));
        const scalar_t side = slope_of<scalar_t>(slope);
        for (int64_t i = 0; i < size; ++i) {
          const int64_t at = i * hidden;
          to_small[hidden + 3 * dims] += activate_backward(
              from + at, grads + at, out + at, hidden, (start + i) * blocks, side, seed, p);
          mesm::accumulate(to_small, grads + at, hidden);
        }
      });
      grads2.add_product(thread, above_factor.t(), dropped);
      grads1.add_product(thread, stretch.t(), mesm::rows_factor(rows.take(input, start, size, room), bfloat16));
      Tensor result = rows.target(grad_x, start, size, result_room);
      mesm::product_out(result, stretch, first);
      rows.put(result, grad_x, start, size);
    }
  });
  const Tensor sum = small.sum(0);
  return {
      grad_x,
      grad_residual,
      grads1.total(),
      sum.narrow(0, 0, hidden),
      slope.has_value() ? sum.narrow(0, hidden + 3 * dims, 1).reshape(slope->sizes()) : at::empty({0}, x.options()),
      grads2.total(),
      sum.narrow(0, hidden, dims),
      sum.narrow(0, hidden + dims, dims),
      sum.narrow(0, hidden + 2 * dims, dims)};
}

auto forward_operator() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mesm_plugin::feed_forward", "")
                       .typed<decltype(feed_forward_cpu)>();
  return op;
}

class FeedForward : public torch::autograd::Function<FeedForward> {
 public:
  static variable_list forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& x,
      const Tensor& residual,
      const optional<Tensor>& mask,
      const Tensor& weight1,
      const Tensor& bias1,
      const optional<Tensor>& slope,
      const Tensor& weight2,
      const Tensor& bias2,
      const optional<Tensor>& gamma,
      const optional<Tensor>& beta,
      double eps,
      int64_t seed,
      double p,
      bool bfloat16) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [out, before, sums, moments] = forward_operator().call(
        x, residual, mask, weight1, bias1, slope, weight2, bias2, gamma, beta, eps, seed, p, true, bfloat16);
    const Tensor none;
    ctx->save_for_backward(
        {x, mask.value_or(none), weight1, slope.value_or(none), weight2, gamma.value_or(none), before, sums, moments});
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    ctx->saved_data["bfloat16"] = bfloat16;
    ctx->mark_non_differentiable({before, sums, moments});
    ctx->set_materialize_grads(false);
    return {out, before, sums, moments};
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    if (!gradients[0].defined()) return variable_list(14);
    const auto saved = ctx->get_saved_variables();
    const auto optional_of = [](const Tensor& x) { return x.defined() ? optional<Tensor>(x) : std::nullopt; };
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::feed_forward_backward", "")
                         .typed<decltype(feed_forward_backward_cpu)>();
    const mesm::BackwardGuard guard("feed_forward");
    auto [x, residual, weight1, bias1, slope, weight2, bias2, gamma, beta] = op.call(
        gradients[0],
        saved[0],
        optional_of(saved[1]),
        saved[2],
        optional_of(saved[3]),
        saved[4],
        optional_of(saved[5]),
        saved[6],
        saved[7],
        saved[8],
        ctx->saved_data["seed"].toInt(),
        ctx->saved_data["p"].toDouble(),
        ctx->saved_data["bfloat16"].toBool());
    const bool norms = saved[5].defined();
    return {
        x,
        residual,
        {},
        weight1,
        bias1,
        saved[3].defined() ? slope : Tensor(),
        weight2,
        bias2,
        norms ? gamma : Tensor(),
        norms ? beta : Tensor(),
        {},
        {},
        {},
        {}};
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> feed_forward_autograd(
    const Tensor& x,
    const Tensor& residual,
    const optional<Tensor>& mask,
    const Tensor& weight1,
    const Tensor& bias1,
    const optional<Tensor>& slope,
    const Tensor& weight2,
    const Tensor& bias2,
    const optional<Tensor>& gamma,
    const optional<Tensor>& beta,
    double eps,
    optional<int64_t> seed,
    double p,
    bool keeps,
    bool bfloat16) {
  if (!keeps) {
    at::AutoDispatchBelowADInplaceOrView below;
    return forward_operator().call(
        x, residual, mask, weight1, bias1, slope, weight2, bias2, gamma, beta, eps, seed, p, false, bfloat16);
  }
  const auto outputs = FeedForward::apply(
      x, residual, mask, weight1, bias1, slope, weight2, bias2, gamma, beta, eps, mesm::seed_for(seed, p), p,
      bfloat16);
  return {outputs[0], outputs[1], outputs[2], outputs[3]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def(
      "feed_forward(Tensor x, Tensor residual, Tensor? mask, Tensor weight1, Tensor bias1, Tensor? slope, "
      "Tensor weight2, Tensor bias2, Tensor? gamma, Tensor? beta, float eps, int? seed, float p, bool keeps, "
      "bool bfloat16=False) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "feed_forward_backward(Tensor gradient, Tensor x, Tensor? mask, Tensor weight1, Tensor? slope, Tensor weight2, "
      "Tensor? gamma, Tensor before, Tensor sums, Tensor moments, int seed, float p, bool bfloat16) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("feed_forward", feed_forward_cpu);
  library.impl("feed_forward_backward", feed_forward_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("feed_forward", feed_forward_autograd);
}
