// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Which queries attend to which keys, padding left out: the other rows lie packed, one behind the other.

#pragma once

#include <ATen/core/Tensor.h>

#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "masks.h"
#include "rows.h"

namespace mesm {

// One past the last row of each item among the listed ones, after a 0.
inline std::vector<int64_t> ends_of(const RowList& rows, int64_t items, int64_t length) {
  std::vector<int64_t> ends(items + 1, 0);
  for (int64_t i = 0; i < rows.count(); ++i) ends[rows[i] / length + 1] += 1;
  for (int64_t item = 0; item < items; ++item) ends[item + 1] += ends[item];
  return ends;
}

// Which rows of queries and keys are worked on, and which query items attend to which key item.
class Layout {
 public:
  Layout(
      const at::Tensor& query,
      int64_t key_items,
      int64_t key_length,
      const at::Tensor& key_mask,
      const std::optional<at::Tensor>& query_mask,
      const std::optional<at::Tensor>& index)
      : query_items(query.size(0)),
        key_items(key_items),
        key_length(key_length),
        mask(checked_mask("key_mask", key_mask, {query_items, key_length})),
        query_rows(rows_of(query, query_mask)),
        key_of(items_of(query_items, index)),
        key_rows(needed_keys()),
        query_ends(ends_of(query_rows, query_items, query.size(1))),
        key_ends(ends_of(key_rows, key_items, key_length)),
        members(key_items) {
    for (int64_t item = 0; item < query_items; ++item) members[key_of[item]].push_back(item);
  }

  // 0 where a key row of a query item is valid, else -inf; false where none is.
  template <typename T>
  bool padding(int64_t item, std::vector<T>& out) const {
    const bool* const valid = mask.const_data_ptr<bool>() + item * key_length;
    const int64_t key_item = key_of[item], first = key_ends[key_item], count = keys_of(key_item);
    out.resize(count);
    bool any = false;
    for (int64_t i = 0; i < count; ++i) {
      const bool is_valid = valid[key_rows[first + i] - key_item * key_length];
      out[i] = is_valid ? T(0) : -std::numeric_limits<T>::infinity();
      any |= is_valid;
    }
    return any;
  }

  int64_t queries_of(int64_t item) const { return query_ends[item + 1] - query_ends[item]; }
  int64_t keys_of(int64_t key_item) const { return key_ends[key_item + 1] - key_ends[key_item]; }

  int64_t query_items, key_items, key_length;
  at::Tensor mask;
  RowList query_rows;
  std::vector<int64_t> key_of;
  RowList key_rows;
  std::vector<int64_t> query_ends, key_ends;
  // Query items of each key item.
  std::vector<std::vector<int64_t>> members;

 private:
  static RowList rows_of(const at::Tensor& query, const std::optional<at::Tensor>& query_mask) {
    if (!query_mask.has_value()) return RowList(query.size(0) * query.size(1));
    const at::Tensor valid = checked_mask("query_mask", *query_mask, {query.size(0), query.size(1)});
    return {valid.const_data_ptr<bool>(), valid.numel()};
  }

  std::vector<int64_t> items_of(int64_t items, const std::optional<at::Tensor>& index) const {
    std::vector<int64_t> out(items);
    if (!index.has_value()) {
      TORCH_CHECK_VALUE(
          key_items == items, "without an index key must have the ", items, " items of query, got ", key_items);
      std::iota(out.begin(), out.end(), 0);
      return out;
    }
    TORCH_CHECK_VALUE(
        index->numel() == items && (index->scalar_type() == at::kLong || index->scalar_type() == at::kInt),
        "index must be int64 with the ", items, " items of query, got ", index->scalar_type(), " of shape ",
        index->sizes());
    const at::Tensor numbers = index->to(at::kLong).contiguous();
    std::copy_n(numbers.const_data_ptr<int64_t>(), items, out.begin());
    for (const int64_t item : out) {
      TORCH_CHECK_INDEX(item >= 0 && item < key_items, "index must be in [0, ", key_items, "), got ", item);
    }
    return out;
  }

  RowList needed_keys() const {
    std::vector<char> needed(key_items * key_length, 0);
    const bool* const valid = mask.const_data_ptr<bool>();
    for (int64_t item = 0; item < query_items; ++item) {
      char* const of_item = needed.data() + key_of[item] * key_length;
      for (int64_t i = 0; i < key_length; ++i) of_item[i] |= valid[item * key_length + i];
    }
    return {reinterpret_cast<const bool*>(needed.data()), static_cast<int64_t>(needed.size())};
  }
};

}  // namespace mesm
