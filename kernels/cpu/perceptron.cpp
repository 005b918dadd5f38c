// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Linear layers with ReLU between them, for CPU tensors. Each thread takes stretches of rows through all layers. Kept
// for the backward pass are the numbers between the layers.

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
#include "rows.h"

namespace {

using at::Tensor;
using at::TensorList;
using std::optional;
using torch::autograd::variable_list;

// Rows that pass at once.
constexpr int64_t kRows = 512;

template <typename T>
void add_bias(T* __restrict rows, const T* __restrict bias, int64_t dims, bool activates) {
  if (!activates) {
    mesm::accumulate(rows, bias, dims);
    return;
  }
  for (int64_t i = 0; i < dims; ++i) {
    const T x = rows[i] + bias[i];
    // What is not a number stays so.
    rows[i] = x < T(0) ? T(0) : x;
  }
}

template <typename T>
void activate_backward(T* __restrict gradient, const T* __restrict after, int64_t size) {
  for (int64_t i = 0; i < size; ++i) gradient[i] = after[i] <= T(0) ? T(0) : gradient[i];
}

// What each layer gave, the output last.
std::vector<Tensor> perceptron_cpu(const Tensor& x, TensorList weights, TensorList biases, bool bfloat16) {
  TORCH_CHECK_VALUE(
      x.dim() == 2 && !weights.empty() && weights.size() == biases.size(), "x must be a matrix, and each layer have both");
  for (size_t layer = 0; layer < weights.size(); ++layer) {
    TORCH_CHECK_VALUE(
        weights[layer].dim() == 2 && biases[layer].numel() == weights[layer].size(0), "a bias must fit its weight");
  }
  const Tensor input = x.contiguous();
  const int64_t layers = static_cast<int64_t>(weights.size());
  std::vector<Tensor> outputs, offsets;
  for (const Tensor& bias : biases) offsets.push_back(bias.contiguous());
  for (const Tensor& weight : weights) outputs.push_back(at::empty({x.size(0), weight.size(0)}, x.options()));
  std::vector<Tensor> factors;
  for (const Tensor& weight : weights) factors.push_back(mesm::weight_factor(weight, bfloat16).t());
  const mesm::Stretches plan(x.size(0), kRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      Tensor from = input.narrow(0, start, size);
      for (int64_t layer = 0; layer < layers; ++layer) {
        Tensor to = outputs[layer].narrow(0, start, size);
        mesm::product_out(to, mesm::rows_factor(from, bfloat16), factors[layer]);
        AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "perceptron", [&] {
          const int64_t dims = to.size(1);
          scalar_t* const rows = to.mutable_data_ptr<scalar_t>();
          const scalar_t* const bias = offsets[layer].const_data_ptr<scalar_t>();
          for (int64_t i = 0; i < size; ++i) add_bias(rows + i * dims, bias, dims, layer + 1 < layers);
        });
        from = to;
      }
    }
  });
  return outputs;
}

// Gradients of x, the weights and the biases; of x an empty one, if it needs none.
std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>> perceptron_backward_cpu(
    const Tensor& gradient, const Tensor& x, TensorList weights, TensorList hidden, bool of_x, bool bfloat16) {
  const Tensor input = x.contiguous(), above = gradient.contiguous();
  const int64_t layers = static_cast<int64_t>(weights.size()), threads = at::get_num_threads();
  Tensor grad_x = of_x ? at::empty_like(input) : at::empty({0}, x.options());
  std::vector<mesm::ThreadSums> grad_weights;
  std::vector<Tensor> partial_biases, factors;
  for (const Tensor& weight : weights) {
    factors.push_back(mesm::weight_factor(weight, bfloat16));
    grad_weights.emplace_back(weight);
    partial_biases.push_back(at::zeros({threads, weight.size(0)}, x.options()));
  }
  const mesm::Stretches plan(x.size(0), kRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const int64_t thread = at::get_thread_num();
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      Tensor inner = above.narrow(0, start, size);
      for (int64_t layer = layers - 1; layer >= 0; --layer) {
        const Tensor from = (layer > 0 ? hidden[layer - 1] : input).narrow(0, start, size);
        const Tensor factor = mesm::rows_factor(inner, bfloat16);
        grad_weights[layer].add_product(thread, factor.t(), mesm::rows_factor(from, bfloat16));
        mesm::add_rows(inner, partial_biases[layer][thread]);
        if (layer == 0) {
          if (!of_x) continue;
          Tensor to = grad_x.narrow(0, start, size);
          mesm::product_out(to, factor, factors[0]);
          continue;
        }
        inner = at::empty({size, weights[layer].size(1)}, x.options());
        mesm::product_out(inner, factor, factors[layer]);
        AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "perceptron_backward", [&] {
          activate_backward(
              inner.mutable_data_ptr<scalar_t>(), from.const_data_ptr<scalar_t>(), size * inner.size(1));
        });
      }
    }
  });
  std::vector<Tensor> of_weights, of_biases;
  for (int64_t layer = 0; layer < layers; ++layer) {
    of_weights.push_back(grad_weights[layer].total());
    of_biases.push_back(partial_biases[layer].sum(0));
  }
  return {grad_x, of_weights, of_biases};
}

auto forward_operator() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mesm_plugin::perceptron", "")
                       .typed<decltype(perceptron_cpu)>();
  return op;
}

// PyTorch's C++ functions take single tensors only, so that there is a most of layers.
constexpr int64_t kMostLayers = 3;

class Perceptron : public torch::autograd::Function<Perceptron> {
 public:
  static variable_list forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& x,
      const Tensor& weight1,
      const Tensor& bias1,
      const optional<Tensor>& weight2,
      const optional<Tensor>& bias2,
      const optional<Tensor>& weight3,
      const optional<Tensor>& bias3,
      bool bfloat16) {
    at::AutoDispatchBelowADInplaceOrView below;
    variable_list weights{weight1}, biases{bias1};
    if (weight2.has_value()) weights.push_back(*weight2), biases.push_back(*bias2);
    if (weight3.has_value()) weights.push_back(*weight3), biases.push_back(*bias3);
    auto outputs = forward_operator().call(x, weights, biases, bfloat16);
    variable_list saved{x};
    saved.insert(saved.end(), weights.begin(), weights.end());
    saved.insert(saved.end(), outputs.begin(), outputs.end() - 1);
    ctx->save_for_backward(saved);
    ctx->saved_data["layers"] = static_cast<int64_t>(weights.size());
    ctx->saved_data["of_x"] = x.requires_grad();
    ctx->saved_data["bfloat16"] = bfloat16;
    ctx->mark_non_differentiable({outputs.begin(), outputs.end() - 1});
    ctx->set_materialize_grads(false);
    return outputs;
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    variable_list out(2 + 2 * kMostLayers);
    if (!gradients.back().defined()) return out;
    const int64_t layers = ctx->saved_data["layers"].toInt();
    const auto saved = ctx->get_saved_variables();
    const bool of_x = ctx->saved_data["of_x"].toBool();
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::perceptron_backward", "")
                         .typed<decltype(perceptron_backward_cpu)>();
    const variable_list weights(saved.begin() + 1, saved.begin() + 1 + layers);
    const variable_list hidden(saved.begin() + 1 + layers, saved.end());
    const mesm::BackwardGuard guard("perceptron");
    auto [x, of_weights, of_biases] = op.call(
        gradients.back(), saved[0], weights, hidden, of_x, ctx->saved_data["bfloat16"].toBool());
    if (of_x) out[0] = x;
    for (int64_t layer = 0; layer < layers; ++layer) {
      out[1 + 2 * layer] = of_weights[layer];
      out[2 + 2 * layer] = of_biases[layer];
    }
    return out;
  }
};

std::vector<Tensor> perceptron_autograd(const Tensor& x, TensorList weights, TensorList biases, bool bfloat16) {
  const int64_t layers = static_cast<int64_t>(weights.size());
  TORCH_CHECK_VALUE(
      layers >= 1 && layers <= kMostLayers && biases.size() == weights.size(),
      "a perceptron has one to three layers with a weight and a bias each");
  const auto of = [layers](TensorList list, int64_t layer) {
    return layer < layers ? optional<Tensor>(list[layer]) : std::nullopt;
  };
  return Perceptron::apply(
      x, weights[0], biases[0], of(weights, 1), of(biases, 1), of(weights, 2), of(biases, 2), bfloat16);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def("perceptron(Tensor x, Tensor[] weights, Tensor[] biases, bool bfloat16=False) -> Tensor[]");
  library.def(
      "perceptron_backward(Tensor gradient, Tensor x, Tensor[] weights, Tensor[] hidden, bool of_x, "
      "bool bfloat16) -> "
      "(Tensor, Tensor[], Tensor[])");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("perceptron", perceptron_cpu);
  library.impl("perceptron_backward", perceptron_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("perceptron", perceptron_autograd);
}
