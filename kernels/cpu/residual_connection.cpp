// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Residual connection for CPU tensors: dropout of an update, its sum with what it updates, and layer normalisation of
// the sum, in one pass over the rows. Kept for the backward pass are the sum, two numbers a row and the seed.

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

#include "backward.h"
#include "residual_connection.h"
#include "seed.h"

namespace {

using at::Tensor;
using torch::autograd::variable_list;

int64_t grain_of(int64_t dims) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(dims, 1)); }

std::tuple<Tensor, Tensor, Tensor> add_norm_cpu(
    const Tensor& x,
    const Tensor& update,
    const Tensor& weight,
    const Tensor& bias,
    double eps,
    std::optional<int64_t> seed_or_none,
    double p) {
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  TORCH_CHECK_VALUE(x.sizes() == update.sizes(), "x and update must have the same shape");
  TORCH_CHECK_VALUE(
      x.dim() > 0 && weight.numel() == x.size(-1) && bias.numel() == x.size(-1),
      "weight and bias must have the channels of x");
  const auto seed = static_cast<uint64_t>(mesm::seed_for(seed_or_none, p));
  const Tensor residual = x.contiguous(), added = update.contiguous();
  const Tensor gamma = weight.contiguous(), beta = bias.contiguous();
  const int64_t dims = weight.numel(), rows = x.numel() / std::max<int64_t>(dims, 1), blocks = mesm::blocks_of(dims);
  Tensor sum = at::empty_like(residual), normed = at::empty_like(residual);
  Tensor moments = at::empty({rows, 2}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "add_norm", [&] {
    const auto* const a = residual.const_data_ptr<scalar_t>();
    const auto* const b = added.const_data_ptr<scalar_t>();
    const auto* const w = gamma.const_data_ptr<scalar_t>();
    const auto* const offset = beta.const_data_ptr<scalar_t>();
    auto* const s = sum.mutable_data_ptr<scalar_t>();
    auto* const out = normed.mutable_data_ptr<scalar_t>();
    auto* const kept = reinterpret_cast<mesm::Moments<scalar_t>*>(moments.mutable_data_ptr<scalar_t>());
    at::parallel_for(0, rows, grain_of(dims), [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * dims;
        mesm::add_dropped(a + at, b + at, s + at, dims, row * blocks, seed, p);
        kept[row] = mesm::normalise_row(s + at, out + at, w, offset, dims, eps);
      }
    });
  });
  return {sum, normed, moments};
}

// Gradients of x, the update, the weight and the bias, from those of the sum (if there is one) and the normed sum.
std::tuple<Tensor, Tensor, Tensor, Tensor> add_norm_backward_cpu(
    const std::optional<Tensor>& grad_sum,
    const Tensor& grad_normed,
    const Tensor& sum,
    const Tensor& moments,
    const Tensor& weight,
    int64_t seed,
    double p) {
  const int64_t dims = weight.numel(), rows = sum.numel() / std::max<int64_t>(dims, 1), blocks = mesm::blocks_of(dims);
  const Tensor above = grad_normed.contiguous(), gamma = weight.contiguous();
  const Tensor beside = grad_sum.has_value() ? grad_sum->contiguous() : Tensor();
  Tensor grad_x = at::empty_like(sum), grad_update = p > 0 ? at::empty_like(sum) : grad_x;
  const int64_t grain = grain_of(dims), parts = (rows + grain - 1) / grain;
  // One sum for each stretch of rows, so that the total does not depend on the number of threads.
  Tensor partial = at::zeros({parts, 2, dims}, sum.options());
  AT_DISPATCH_FLOATING_TYPES(sum.scalar_type(), "add_norm_backward", [&] {
    const auto* const gradient = above.const_data_ptr<scalar_t>();
    const auto* const other = beside.defined() ? beside.const_data_ptr<scalar_t>() : nullptr;
    const auto* const s = sum.const_data_ptr<scalar_t>();
    const auto* const w = gamma.const_data_ptr<scalar_t>();
    const auto* const kept = reinterpret_cast<const mesm::Moments<scalar_t>*>(moments.const_data_ptr<scalar_t>());
    auto* const to_x = grad_x.mutable_data_ptr<scalar_t>();
    auto* const to_update = grad_update.mutable_data_ptr<scalar_t>();
    auto* const parameters = partial.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, parts, 1, [=](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        auto* const of_weight = parameters + part * 2 * dims;
        for (int64_t row = part * grain; row < std::min(rows, (part + 1) * grain); ++row) {
          const int64_t at = row * dims;
          if (other != nullptr) {
            std::copy_n(other + at, dims, to_x + at);
          } else {
            std::fill_n(to_x + at, dims, scalar_t(0));
          }
          mesm::normalise_row_backward(
              gradient + at, s + at, w, kept[row], to_x + at, of_weight, of_weight + dims, dims);
          if (p > 0) mesm::drop_row(to_x + at, to_update + at, dims, row * blocks, static_cast<uint64_t>(seed), p);
        }
      }
    });
  });
  const Tensor total = partial.sum(0);
  return {grad_x, grad_update, total[0], total[1]};
}

auto forward_operator() {
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mesm_plugin::add_norm", "").typed<decltype(add_norm_cpu)>();
  return op;
}

class AddNorm : public torch::autograd::Function<AddNorm> {
 public:
  static variable_list forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& x,
      const Tensor& update,
      const Tensor& weight,
      const Tensor& bias,
      double eps,
      int64_t seed,
      double p) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [sum, normed, moments] = forward_operator().call(x, update, weight, bias, eps, seed, p);
    ctx->save_for_backward({sum, moments, weight});
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    ctx->mark_non_differentiable({moments});
    ctx->set_materialize_grads(false);
    return {sum, normed, moments};
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    if (!gradients[0].defined() && !gradients[1].defined()) return variable_list(7);
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::add_norm_backward", "")
                         .typed<decltype(add_norm_backward_cpu)>();
    const mesm::BackwardGuard guard("add_norm");
    auto [x, update, weight, bias] = op.call(
        gradients[0].defined() ? std::optional<Tensor>(gradients[0]) : std::nullopt,
        gradients[1].defined() ? gradients[1] : at::zeros(saved[0].sizes(), saved[0].options()),
        saved[0],
        saved[1],
        saved[2],
        ctx->saved_data["seed"].toInt(),
        ctx->saved_data["p"].toDouble());
    return {x, update, weight, bias, {}, {}, {}};
  }
};

std::tuple<Tensor, Tensor, Tensor> add_norm_autograd(
    const Tensor& x,
    const Tensor& update,
    const Tensor& weight,
    const Tensor& bias,
    double eps,
    std::optional<int64_t> seed,
    double p) {
  const auto outputs = AddNorm::apply(x, update, weight, bias, eps, mesm::seed_for(seed, p), p);
  return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def(
      "add_norm(Tensor x, Tensor update, Tensor weight, Tensor bias, float eps, int? seed, float p) -> "
      "(Tensor, Tensor, Tensor)");
  library.def(
      "add_norm_backward(Tensor? grad_sum, Tensor grad_normed, Tensor sum, Tensor moments, Tensor weight, int seed, "
      "float p) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("add_norm", add_norm_cpu);
  library.impl("add_norm_backward", add_norm_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("add_norm", add_norm_autograd);
}
