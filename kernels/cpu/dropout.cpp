// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Dropout of CPU tensors. With its seed given, the operator is linear in the tensor and its own adjoint: the backward
// pass applies it to the gradient, and keeps nothing but the seed.

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

#include "philox.h"
#include "seed.h"

namespace {

using mesm::kBlock;

template <typename T, typename Factor>
inline void drop(
    const T* __restrict x,
    T* __restrict out,
    const uint32_t* __restrict words,
    int size,
    uint32_t threshold,
    Factor scale) {
  // A product, so that what is not a number stays visible where it is dropped, as in PyTorch's dropout.
  for (int i = 0; i < size; ++i) out[i] = static_cast<T>(x[i] * (words[i] < threshold ? Factor(0) : scale));
}

template <typename T>
void apply(const T* x, T* out, int64_t size, uint64_t seed, double p) {
  using Factor = at::opmath_type<T>;
  const uint32_t threshold = mesm::threshold_of(p);
  const auto scale = static_cast<Factor>(1 / (1 - p));
  at::parallel_for(0, mesm::blocks_of(size), mesm::kGrain / kBlock, [=](int64_t begin, int64_t end) {
    mesm::for_blocks(begin, end, size, 0, seed, p > 0, [=](int64_t start, auto count, const uint32_t* words) {
      drop(x + start, out + start, words, count, threshold, scale);
    });
  });
}

at::Tensor seeded_dropout_cpu(const at::Tensor& x, int64_t seed, double p) {
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  const at::Tensor input = x.contiguous();
  at::Tensor out = at::empty_like(input);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "dropout_cpu", [&] {
    apply(
        input.const_data_ptr<scalar_t>(),
        out.mutable_data_ptr<scalar_t>(),
        input.numel(),
        static_cast<uint64_t>(seed),
        p);
  });
  return out;
}

// Compiled graphs, which may not hold a number that changes, give the seed as a tensor.
at::Tensor dropout_cpu(const at::Tensor& x, const std::optional<at::Tensor>& seed, double p) {
  if (!seed.has_value()) return seeded_dropout_cpu(x, mesm::seed_for(std::nullopt, p), p);
  TORCH_CHECK_VALUE(
      seed->scalar_type() == at::kLong && seed->dim() == 0 && seed->is_cpu(),
      "seed must be an int64 tensor without dimensions on the CPU, got ",
      seed->toString());
  return seeded_dropout_cpu(x, *seed->const_data_ptr<int64_t>(), p);
}

at::Tensor call(const at::Tensor& x, const at::Tensor& seed, double p) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mesm_plugin::dropout", "")
                       .typed<decltype(dropout_cpu)>();
  return op.call(x, seed, p);
}

at::Tensor call(const at::Tensor& x, int64_t seed, double p) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mesm_plugin::seeded_dropout", "")
                       .typed<decltype(seeded_dropout_cpu)>();
  return op.call(x, seed, p);
}

class Dropout : public torch::autograd::Function<Dropout> {
 public:
  static at::Tensor forward(
      torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& seed, double p) {
    ctx->save_for_backward({seed});
    ctx->saved_data["p"] = p;
    at::AutoDispatchBelowADInplaceOrView below;
    return call(x, seed, p);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& gradients) {
    return {call(gradients[0], ctx->get_saved_variables()[0], ctx->saved_data["p"].toDouble()), {}, {}};
  }
};

class SeededDropout : public torch::autograd::Function<SeededDropout> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, int64_t seed, double p) {
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    at::AutoDispatchBelowADInplaceOrView below;
    return call(x, seed, p);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& gradients) {
    return {call(gradients[0], ctx->saved_data["seed"].toInt(), ctx->saved_data["p"].toDouble()), {}, {}};
  }
};

at::Tensor dropout_autograd(const at::Tensor& x, const std::optional<at::Tensor>& seed, double p) {
  if (seed.has_value()) return Dropout::apply(x, *seed, p);
  return SeededDropout::apply(x, mesm::seed_for(std::nullopt, p), p);
}

at::Tensor seeded_dropout_autograd(const at::Tensor& x, int64_t seed, double p) {
  return SeededDropout::apply(x, seed, p);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def("dropout(Tensor x, Tensor? seed, float p) -> Tensor");
  library.def("seeded_dropout(Tensor x, int seed, float p) -> Tensor");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("dropout", dropout_cpu);
  library.impl("seeded_dropout", seeded_dropout_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("dropout", dropout_autograd);
  library.impl("seeded_dropout", seeded_dropout_autograd);
}
