// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// The feed-forward network of a transformer layer for CPU tensors: linear, PReLU or ReLU, dropout, linear. Rows go
// through it in stretches whose hidden channels stay in the cache, and rows that a mask names as padding do not go
// through it at all. Kept for the backward pass are the rows, the numbers before the activation and the seed.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "philox.h"

namespace {

using at::Tensor;
using mesm::kBlock;
using torch::autograd::variable_list;

// Hidden numbers of a stretch of rows: with their gradients they fit into a second-level cache of 2 MB.
constexpr int64_t kStretch = 1 << 18;

int64_t rows_at_once(int64_t hidden) { return std::max<int64_t>(kBlock, kStretch / hidden / kBlock * kBlock); }

// The rows that are no padding, as indices; nothing where all are needed.
std::optional<Tensor> valid_rows(const std::optional<Tensor>& mask) {
  if (!mask.has_value()) return std::nullopt;
  const Tensor flat = mask->reshape({-1});
  const Tensor rows = at::nonzero(flat).squeeze(1);
  if (rows.numel() == flat.numel()) return std::nullopt;
  return rows;
}

Tensor take(const Tensor& x, const std::optional<Tensor>& rows) {
  return rows.has_value() ? x.index_select(0, *rows) : x.contiguous();
}

Tensor put_back(const Tensor& x, const std::optional<Tensor>& rows, int64_t size) {
  if (!rows.has_value()) return x;
  Tensor out = at::zeros({size, x.size(1)}, x.options());
  out.index_copy_(0, *rows, x);
  return out;
}

template <typename T>
inline void activate_block(
    const T* __restrict before,
    T* __restrict out,
    const uint32_t* __restrict words,
    int size,
    T slope,
    uint32_t threshold,
    T scale) {
  for (int i = 0; i < size; ++i) {
    out[i] = before[i] * (before[i] > T(0) ? T(1) : slope) * (words[i] < threshold ? T(0) : scale);
  }
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

// ReLU is a PReLU of slope 0.
template <typename T>
T slope_of(const std::optional<Tensor>& slope) {
  return slope.has_value() ? *slope->const_data_ptr<T>() : T(0);
}

template <typename T>
void activate_and_drop(const T* before, T* out, int64_t size, int64_t first_block, T slope, uint64_t seed, double p) {
  const uint32_t threshold = mesm::threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  at::parallel_for(0, mesm::blocks_of(size), mesm::kGrain / kBlock, [=](int64_t begin, int64_t end) {
    mesm::for_blocks(begin, end, size, first_block, seed, p > 0, [=](int64_t start, auto count, const uint32_t* words) {
      activate_block<T>(before + start, out + start, words, count, slope, threshold, scale);
    });
  });
}

// Turns the gradient of what came out of the dropout into that of what went into the activation, writes what came out
// of the dropout once more, and returns the gradient of the slope.
template <typename T>
double activate_backward(
    const T* before, T* gradient, T* out, int64_t size, int64_t first_block, T slope, uint64_t seed, double p) {
  const uint32_t threshold = mesm::threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  const int64_t blocks = mesm::blocks_of(size), grain = mesm::kGrain / kBlock;
  // One sum for each stretch of fixed length, so that the total does not depend on the number of threads.
  std::vector<double> sums((blocks + grain - 1) / grain, 0.0);
  double* const partial = sums.data();
  at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [=](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      double total = 0;
      const int64_t first = part * grain, last = std::min(blocks, first + grain);
      const auto work = [=, &total](int64_t start, auto count, const uint32_t* words) {
        total += activate_block_backward<T>(
            before + start, gradient + start, out + start, words, count, slope, threshold, scale);
      };
      mesm::for_blocks(first, last, size, first_block, seed, p > 0, work);
      partial[part] = total;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void check(const Tensor& x, const std::optional<Tensor>& mask, const Tensor& weight1, const Tensor& weight2, double p) {
  TORCH_CHECK_VALUE(x.dim() == 2 && weight1.dim() == 2 && weight2.dim() == 2, "x and the weights must be matrices");
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  TORCH_CHECK_VALUE(!mask.has_value() || mask->numel() == x.size(0), "mask must have an element for each row of x");
}

std::tuple<Tensor, Tensor> feed_forward_cpu(
    const Tensor& x,
    const std::optional<Tensor>& mask,
    const Tensor& weight1,
    const Tensor& bias1,
    const std::optional<Tensor>& slope,
    const Tensor& weight2,
    const Tensor& bias2,
    int64_t seed,
    double p,
    bool keeps) {
  check(x, mask, weight1, weight2, p);
  const auto rows = valid_rows(mask);
  const Tensor input = take(x, rows);
  const int64_t count = input.size(0), hidden = weight1.size(0), step = rows_at_once(hidden);
  // Its shape does not depend on the mask; pages behind the last valid row are never touched.
  Tensor before = at::empty({keeps ? x.size(0) : std::min(count, step), hidden}, x.options());
  Tensor after = keeps ? at::empty({std::min(count, step), hidden}, x.options()) : before;
  Tensor out = at::empty({count, weight2.size(0)}, x.options());
  const Tensor first = weight1.t(), second = weight2.t();
  for (int64_t start = 0; start < count; start += step) {
    const int64_t size = std::min(step, count - start);
    Tensor stretch = before.narrow(0, keeps ? start : 0, size);
    Tensor dropped = after.narrow(0, 0, size);
    at::addmm_out(stretch, bias1, input.narrow(0, start, size), first);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "feed_forward", [&] {
      activate_and_drop<scalar_t>(
          stretch.const_data_ptr<scalar_t>(),
          dropped.mutable_data_ptr<scalar_t>(),
          size * hidden,
          start * hidden / kBlock,
          slope_of<scalar_t>(slope),
          static_cast<uint64_t>(seed),
          p);
    });
    Tensor result = out.narrow(0, start, size);
    at::addmm_out(result, bias2, dropped, second);
  }
  return {put_back(out, rows, x.size(0)), keeps ? before : at::empty({0, hidden}, x.options())};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> feed_forward_backward_cpu(
    const Tensor& gradient,
    const Tensor& x,
    const std::optional<Tensor>& mask,
    const Tensor& weight1,
    const std::optional<Tensor>& slope,
    const Tensor& weight2,
    const Tensor& before,
    int64_t seed,
    double p) {
  const auto rows = valid_rows(mask);
  const Tensor input = take(x, rows), above = take(gradient, rows);
  const int64_t count = input.size(0), hidden = weight1.size(0), step = rows_at_once(hidden);
  Tensor grad_x = at::empty_like(input);
  Tensor grad_weight1 = at::zeros_like(weight1), grad_weight2 = at::zeros_like(weight2);
  Tensor grad_bias1 = at::zeros({hidden}, x.options());
  Tensor inner = at::empty({std::min(count, step), hidden}, x.options()), after = at::empty_like(inner);
  double grad_slope = 0;
  for (int64_t start = 0; start < count; start += step) {
    const int64_t size = std::min(step, count - start);
    const Tensor above_stretch = above.narrow(0, start, size);
    Tensor stretch = inner.narrow(0, 0, size), dropped = after.narrow(0, 0, size);
    at::mm_out(stretch, above_stretch, weight2);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "feed_forward_backward", [&] {
      grad_slope += activate_backward<scalar_t>(
          before.narrow(0, start, size).const_data_ptr<scalar_t>(),
          stretch.mutable_data_ptr<scalar_t>(),
          dropped.mutable_data_ptr<scalar_t>(),
          size * hidden,
          start * hidden / kBlock,
          slope_of<scalar_t>(slope),
          static_cast<uint64_t>(seed),
          p);
    });
    grad_weight2.addmm_(above_stretch.t(), dropped);
    grad_weight1.addmm_(stretch.t(), input.narrow(0, start, size));
    grad_bias1.add_(stretch.sum(0));
    Tensor result = grad_x.narrow(0, start, size);
    at::mm_out(result, stretch, weight1);
  }
  const Tensor slope_gradient =
      slope.has_value() ? at::full_like(*slope, grad_slope) : at::empty({0}, x.options());
  return {put_back(grad_x, rows, x.size(0)), grad_weight1, grad_bias1, slope_gradient, grad_weight2, above.sum(0)};
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
      const std::optional<Tensor>& mask,
      const Tensor& weight1,
      const Tensor& bias1,
      const std::optional<Tensor>& slope,
      const Tensor& weight2,
      const Tensor& bias2,
      int64_t seed,
      double p) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [out, before] = forward_operator().call(x, mask, weight1, bias1, slope, weight2, bias2, seed, p, true);
    ctx->save_for_backward({x, mask.value_or(Tensor()), weight1, slope.value_or(Tensor()), weight2, before});
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    ctx->mark_non_differentiable({before});
    ctx->set_materialize_grads(false);
    return {out, before};
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    if (!gradients[0].defined()) return variable_list(9);
    const auto saved = ctx->get_saved_variables();
    const auto optional = [](const Tensor& x) { return x.defined() ? std::optional<Tensor>(x) : std::nullopt; };
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::feed_forward_backward", "")
                         .typed<decltype(feed_forward_backward_cpu)>();
    auto [x, weight1, bias1, slope, weight2, bias2] = op.call(
        gradients[0],
        saved[0],
        optional(saved[1]),
        saved[2],
        optional(saved[3]),
        saved[4],
        saved[5],
        ctx->saved_data["seed"].toInt(),
        ctx->saved_data["p"].toDouble());
    return {x, {}, weight1, bias1, saved[3].defined() ? slope : Tensor(), weight2, bias2, {}, {}};
  }
};

std::tuple<Tensor, Tensor> feed_forward_autograd(
    const Tensor& x,
    const std::optional<Tensor>& mask,
    const Tensor& weight1,
    const Tensor& bias1,
    const std::optional<Tensor>& slope,
    const Tensor& weight2,
    const Tensor& bias2,
    int64_t seed,
    double p,
    bool keeps) {
  if (!keeps) {
    at::AutoDispatchBelowADInplaceOrView below;
    return forward_operator().call(x, mask, weight1, bias1, slope, weight2, bias2, seed, p, false);
  }
  const auto outputs = FeedForward::apply(x, mask, weight1, bias1, slope, weight2, bias2, seed, p);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def(
      "feed_forward(Tensor x, Tensor? mask, Tensor weight1, Tensor bias1, Tensor? slope, Tensor weight2, Tensor bias2, "
      "int seed, float p, bool keeps) -> (Tensor, Tensor)");
  library.def(
      "feed_forward_backward(Tensor gradient, Tensor x, Tensor? mask, Tensor weight1, Tensor? slope, Tensor weight2, "
      "Tensor before, int seed, float p) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("feed_forward", feed_forward_cpu);
  library.impl("feed_forward_backward", feed_forward_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("feed_forward", feed_forward_autograd);
}
