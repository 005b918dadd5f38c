// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Random masks of dropout, a function of the seed alone, whatever the number of threads. The elements in their order
// form blocks of 64, and block b takes the words of Philox4x32-10 (Salmon et al., 2011) at the counters 16 b to
// 16 b + 15, with the seed as key: first the words 0 and 1 of each counter, then the words 2 and 3. An element is
// dropped where its word lies below p * 2^32.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace mesm {

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

inline uint32_t threshold_of(double p) {
  return static_cast<uint32_t>(std::min(std::nearbyint(std::ldexp(p, 32)), 4294967295.0));
}

// Calls work(start, size, words) for each block of `size` elements in all, a whole block's size being a constant, which
// is what lets compilers unroll its loops. `words` are those of block `first_block` and the following.
template <typename Work>
inline void for_blocks(
    int64_t begin, int64_t end, int64_t size, int64_t first_block, uint64_t seed, bool drops, const Work& work) {
  alignas(64) uint32_t words[kBlock];
  // Above every threshold.
  if (!drops) std::fill_n(words, kBlock, 0xFFFFFFFFu);
  for (int64_t block = begin; block < end; ++block) {
    if (drops) draw(seed, first_block + block, words);
    const int64_t start = block * kBlock, rest = size - start;
    if (rest >= kBlock) {
      work(start, std::integral_constant<int, kBlock>(), words);
    } else {
      work(start, static_cast<int>(rest), words);
    }
  }
}

inline int64_t blocks_of(int64_t size) { return (size + kBlock - 1) / kBlock; }

// A row after dropout, whose words begin at `first_block`; `out` may be `x`.
template <typename T>
inline void drop_row(const T* x, T* out, int64_t size, uint64_t first_block, uint64_t seed, double p) {
  const uint32_t threshold = threshold_of(p);
  const T scale = static_cast<T>(1 / (1 - p));
  for_blocks(0, blocks_of(size), size, first_block, seed, p > 0, [=](int64_t start, auto count, const uint32_t* words) {
    const T* const from = x + start;
    T* const to = out + start;
#pragma omp simd
    for (int i = 0; i < count; ++i) to[i] = from[i] * (words[i] < threshold ? T(0) : scale);
  });
}

}  // namespace mesm
