// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Rows of a matrix, some of which are padding, shared out among threads.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "bfloat16.h"
#include "matrix_product.h"

namespace mesm {

// Rows in stretches of about one size, as many for each thread.
struct Stretches {
  // `most` rows at once, where there are enough; with bfloat16, all but the last are whole steps.
  Stretches(int64_t rows, int64_t most, bool bfloat16) : rows(rows) {
    const int64_t threads = at::get_num_threads();
    const int64_t rounds = std::max<int64_t>(1, (rows + threads * most - 1) / (threads * most));
    step = whole_steps(std::max<int64_t>(1, (rows + rounds * threads - 1) / (rounds * threads)), bfloat16);
    count = (rows + step - 1) / step;
  }
  int64_t size(int64_t part) const { return std::min(step, rows - part * step); }

  int64_t rows, step, count;
};

// Some rows of a matrix, in their order.
class RowList {
 public:
  // All of them.
  explicit RowList(int64_t size) : size_(size), rows_(size) { std::iota(rows_.begin(), rows_.end(), 0); }

  // Those where a mask of `size` elements is true.
  RowList(const bool* valid, int64_t size) : size_(size) {
    rows_.reserve(size);
    for (int64_t row = 0; row < size; ++row) {
      if (valid[row]) rows_.push_back(row);
    }
  }

  // Rows of the matrix, listed or not.
  int64_t total() const { return size_; }
  int64_t count() const { return static_cast<int64_t>(rows_.size()); }
  int64_t operator[](int64_t i) const { return rows_[i]; }

  // The listed rows from `start` on of a contiguous matrix: a view of them where they lie together, else a copy in
  // `room`.
  at::Tensor take(const at::Tensor& x, int64_t start, int64_t size, const at::Tensor& room) const {
    if (together(start, size)) return x.narrow(0, rows_[start], size);
    const size_t bytes = x.size(1) * x.element_size();
    const char* const from = static_cast<const char*>(x.const_data_ptr());
    char* const to = static_cast<char*>(room.mutable_data_ptr());
    for (int64_t i = 0; i < size; ++i) std::memcpy(to + i * bytes, from + rows_[start + i] * bytes, bytes);
    return room.narrow(0, 0, size);
  }

  // Where to write those rows: into the matrix itself, or first into `room`, from where `put` brings them there.
  at::Tensor target(const at::Tensor& x, int64_t start, int64_t size, const at::Tensor& room) const {
    return together(start, size) ? x.narrow(0, rows_[start], size) : room.narrow(0, 0, size);
  }

  void put(const at::Tensor& written, const at::Tensor& x, int64_t start, int64_t size) const {
    if (together(start, size)) return;
    const size_t bytes = x.size(1) * x.element_size();
    const char* const from = static_cast<const char*>(written.const_data_ptr());
    char* const to = static_cast<char*>(x.mutable_data_ptr());
    for (int64_t i = 0; i < size; ++i) std::memcpy(to + rows_[start + i] * bytes, from + i * bytes, bytes);
  }

  // Zeros in the rows of a contiguous matrix that are not listed.
  void fill_others(const at::Tensor& x) const {
    const size_t bytes = x.size(1) * x.element_size();
    char* const to = static_cast<char*>(x.mutable_data_ptr());
    int64_t next = 0;
    for (const int64_t row : rows_) {
      if (row > next) std::memset(to + next * bytes, 0, (row - next) * bytes);
      next = row + 1;
    }
    if (size_ > next) std::memset(to + next * bytes, 0, (size_ - next) * bytes);
  }

 private:
  bool together(int64_t start, int64_t size) const { return rows_[start + size - 1] - rows_[start] == size - 1; }

  int64_t size_;
  std::vector<int64_t> rows_;
};

// A matrix of which each thread adds up its own share.
class ThreadSums {
 public:
  // Like `matrix`.
  explicit ThreadSums(const at::Tensor& matrix) : options_(matrix.options()), shares_(at::get_num_threads()) {
    rows_ = matrix.size(0);
    columns_ = matrix.size(1);
  }

  void add_product(int64_t thread, const at::Tensor& a, const at::Tensor& b) {
    at::Tensor& share = shares_[thread];
    if (share.defined()) {
      mesm::add_product(share, a, b);
    } else {
      share = at::empty({rows_, columns_}, options_);
      mesm::product_out(share, a, b);
    }
  }

  // The sum of the shares, in the memory of one of them; to be called once.
  at::Tensor total() {
    at::Tensor out;
    for (const at::Tensor& share : shares_) {
      if (!share.defined()) continue;
      if (out.defined()) {
        out.add_(share);
      } else {
        out = share;
      }
    }
    return out.defined() ? out : at::zeros({rows_, columns_}, options_);
  }

  void total_into(at::Tensor out) { out.copy_(total()); }

 private:
  at::TensorOptions options_;
  std::vector<at::Tensor> shares_;
  int64_t rows_, columns_;
};

template <typename T>
inline void accumulate(T* __restrict sum, const T* __restrict x, int64_t size) {
  for (int64_t i = 0; i < size; ++i) sum[i] += x[i];
}

inline void accumulate(float* sum, const c10::BFloat16* x, int64_t size) {
  constexpr int64_t kChunk = 256;
  float chunk[kChunk];
  for (int64_t start = 0; start < size; start += kChunk) {
    const int64_t rest = std::min(kChunk, size - start);
    widen(x + start, chunk, rest);
    accumulate<float>(sum + start, chunk, rest);
  }
}

// Adds the rows of a matrix (R, D) up in `sums` (D,), both contiguous.
inline void add_rows(const at::Tensor& rows, const at::Tensor& sums) {
  const int64_t dims = rows.size(1);
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "add_rows", [&] {
    const scalar_t* const from = rows.const_data_ptr<scalar_t>();
    scalar_t* const to = sums.mutable_data_ptr<scalar_t>();
    for (int64_t i = 0; i < rows.size(0); ++i) accumulate(to, from + i * dims, dims);
  });
}

template <typename T>
inline void add(const T* __restrict a, const T* __restrict b, T* __restrict sum, int64_t size) {
  for (int64_t i = 0; i < size; ++i) sum[i] = a[i] + b[i];
}

}  // namespace mesm
