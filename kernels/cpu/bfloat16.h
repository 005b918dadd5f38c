// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Numbers of bfloat16 in C++, as float for as long as something is done with them, in forms that compilers turn into
// vector instructions, which they do not with the arithmetic of c10::BFloat16.

#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>

namespace mesm {

inline void widen(const c10::BFloat16* __restrict x, float* __restrict out, int64_t size) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const uint32_t bits = static_cast<uint32_t>(x[i].x) << 16;
    std::memcpy(out + i, &bits, sizeof bits);
  }
}

// To the nearest, ties to even; what is not a number stays so.
inline void narrow(const float* __restrict x, c10::BFloat16* __restrict out, int64_t size) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    out[i].x = static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : rounded);
  }
}

}  // namespace mesm
