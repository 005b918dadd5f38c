// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Dropout of CPU tensors. With its seed given, the operator is linear in the tensor and its own adjoint: the backward
// pass applies it to the gradient, and keeps nothing but the seed.
//
// The mask is a function of the seed alone, whatever the number of threads. The elements in their logical order form
// blocks of 64, and block b takes the words of Philox4x32-10 (Salmon et al., 2011) at the counters 16 b to 16 b + 15,
// with the seed as key: first the words 0 and 1 of each counter, then the words 2 and 3. An element is dropped where
// its word lies below p * 2^32.

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX2__)
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
typedef uint64_t Lanes __attribute__((vector_size(8 * kLanes)));

// Products of the lower 32 bits of each lane, at full length. Compilers do not find this instruction by themselves.
inline Lanes multiply(Lanes words, uint32_t constant) {
#if defined(__AVX2__)
  return (Lanes)_mm256_mul_epu32((__m256i)words, _mm256_set1_epi64x(constant));
#elif defined(__SSE2__)
  return (Lanes)_mm_mul_epu32((__m128i)words, _mm_set1_epi64x(constant));
#else
  return (words & 0xFFFFFFFFu) * constant;
#endif
}

// So many counters are worked on at once that the latency of the multiplications is hidden.
constexpr int kCounters = 16;
constexpr int kVectors = kCounters / kLanes;
constexpr int kBlock = 4 * kCounters;
// Elements that are worth a thread, as in PyTorch's element-wise operators.
constexpr int64_t kGrain = 32768;

// Writes the random words of elements [block * kBlock, (block + 1) * kBlock).
inline void draw(uint64_t seed, uint64_t block, uint32_t* words) {
  // Each lane holds a word in its lower half. What its upper half holds is not read once the rounds begin.
  Lanes c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
  Lanes place;
  for (int lane = 0; lane < kLanes; ++lane) place[lane] = lane;
  for (int v = 0; v < kVectors; ++v) {
    c0[v] = place + (block * kCounters + v * kLanes);
    c1[v] = c0[v] >> 32;
    c2[v] = c3[v] = Lanes{};
  }
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    for (int v = 0; v < kVectors; ++v) {
      const Lanes product0 = multiply(c0[v], 0xD2511F53u), product1 = multiply(c2[v], 0xCD9E8D57u);
      c0[v] = (product1 >> 32) ^ c1[v] ^ key0;
      c1[v] = product1;
      c2[v] = (product0 >> 32) ^ c3[v] ^ key1;
      c3[v] = product0;
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int v = 0; v < kVectors; ++v) {
    const Lanes first = (c0[v] & 0xFFFFFFFFu) | (c1[v] << 32), second = (c2[v] & 0xFFFFFFFFu) | (c3[v] << 32);
    std::memcpy(words + 2 * kLanes * v, &first, sizeof first);
    std::memcpy(words + 2 * kLanes * (kVectors + v), &second, sizeof second);
  }
}

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
  const auto threshold = static_cast<uint32_t>(std::min(std::nearbyint(std::ldexp(p, 32)), 4294967295.0));
  const auto scale = static_cast<Factor>(1 / (1 - p));
  const int64_t blocks = (size + kBlock - 1) / kBlock;
  at::parallel_for(0, blocks, kGrain / kBlock, [=](int64_t begin, int64_t end) {
    alignas(64) uint32_t words[kBlock];
    for (int64_t block = begin; block < end; ++block) {
      draw(seed, block, words);
      const int64_t start = block * kBlock, rest = size - start;
      if (rest >= kBlock) {
        drop(x + start, out + start, words, kBlock, threshold, scale);
      } else {
        drop(x + start, out + start, words, static_cast<int>(rest), threshold, scale);
      }
    }
  });
}

at::Tensor dropout_cpu(const at::Tensor& x, const at::Tensor& seed, double p) {
  TORCH_CHECK_VALUE(
      seed.scalar_type() == at::kLong && seed.dim() == 0 && seed.is_cpu(),
      "seed must be an int64 tensor without dimensions on the CPU, got ",
      seed.toString());
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  const at::Tensor input = x.contiguous();
  at::Tensor out = at::empty_like(input);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "dropout_cpu", [&] {
    apply(
        input.const_data_ptr<scalar_t>(),
        out.mutable_data_ptr<scalar_t>(),
        input.numel(),
        static_cast<uint64_t>(*seed.const_data_ptr<int64_t>()),
        p);
  });
  return out;
}

at::Tensor call(const at::Tensor& x, const at::Tensor& seed, double p) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mesm_plugin::dropout", "")
                       .typed<at::Tensor(const at::Tensor&, const at::Tensor&, double)>();
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

at::Tensor dropout_autograd(const at::Tensor& x, const at::Tensor& seed, double p) {
  return Dropout::apply(x, seed, p);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def("dropout(Tensor x, Tensor seed, float p) -> Tensor");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("dropout", dropout_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("dropout", dropout_autograd);
}
