// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products that are too small for a library to be worth its call, as those of one head of attention.

#pragma once

#include <cstdint>
#include <cstring>

namespace mesm {

constexpr int kSmallestVector = 32;

// How long a buffer's rows must be so that vectors cover their columns.
template <typename T>
inline int64_t padded(int64_t columns) {
  constexpr int64_t kStep = kSmallestVector / sizeof(T);
  return (columns + kStep - 1) / kStep * kStep;
}

// Some rows of as many columns as `Vectors` vectors of `Bytes` bytes hold, which stay in registers.
template <typename T, int Bytes, int Vectors, int Rows, bool Adds>
inline void small_product_tile(
    const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t inner) {
  typedef T V __attribute__((vector_size(Bytes)));
  constexpr int kSize = Bytes / sizeof(T);
  V sums[Rows][Vectors] = {};
  for (int64_t k = 0; k < inner; ++k) {
    V right[Vectors];
    std::memcpy(right, b + k * b_row, sizeof right);
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
      const T factor = a[i * a_row + k * a_column];
#pragma GCC unroll 2
      for (int j = 0; j < Vectors; ++j) sums[i][j] += factor * right[j];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < Rows; ++i) {
    T* const to = c + i * c_row;
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; ++j) {
      if (Adds) {
        V old;
        std::memcpy(&old, to + j * kSize, sizeof old);
        sums[i][j] += old;
      }
      std::memcpy(to + j * kSize, &sums[i][j], sizeof(V));
    }
  }
}

// The columns from `column` on that fill such tiles; returns the first one that is left.
template <typename T, int Bytes, int Vectors, bool Adds>
inline int64_t small_product_columns(
    int64_t column, const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row,
    int64_t rows, int64_t inner, int64_t columns) {
  constexpr int kRows = 6, kWidth = Vectors * Bytes / sizeof(T);
  for (; column + kWidth <= columns; column += kWidth) {
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) {
      small_product_tile<T, Bytes, Vectors, kRows, Adds>(
          a + row * a_row, a_row, a_column, b + column, b_row, c + row * c_row + column, c_row, inner);
    }
    for (; row + 2 <= rows; row += 2) {
      small_product_tile<T, Bytes, Vectors, 2, Adds>(
          a + row * a_row, a_row, a_column, b + column, b_row, c + row * c_row + column, c_row, inner);
    }
    for (; row < rows; ++row) {
      small_product_tile<T, Bytes, Vectors, 1, Adds>(
          a + row * a_row, a_row, a_column, b + column, b_row, c + row * c_row + column, c_row, inner);
    }
  }
  return column;
}

// c (rows, columns) = or += a (rows, inner) b (inner, columns). Rows of b and c are contiguous, a lies in any way.
template <typename T, bool Adds>
inline void small_product(
    const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row,
    int64_t rows, int64_t inner, int64_t columns) {
  int64_t column = 0;
#if defined(__AVX512F__)
  column = small_product_columns<T, 64, 2, Adds>(
      column, a, a_row, a_column, b, b_row, c, c_row, rows, inner, columns);
#endif
  column = small_product_columns<T, kSmallestVector, 2, Adds>(
      column, a, a_row, a_column, b, b_row, c, c_row, rows, inner, columns);
  column = small_product_columns<T, kSmallestVector, 1, Adds>(
      column, a, a_row, a_column, b, b_row, c, c_row, rows, inner, columns);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = column; j < columns; ++j) {
      T sum = Adds ? c[row * c_row + j] : T(0);
      for (int64_t k = 0; k < inner; ++k) sum += a[row * a_row + k * a_column] * b[k * b_row + j];
      c[row * c_row + j] = sum;
    }
  }
}

}  // namespace mesm
