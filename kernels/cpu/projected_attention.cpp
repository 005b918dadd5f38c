// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Multi-head attention with its projections, for CPU tensors. Queries, keys and values that are padding are neither
// projected nor attended to: the others lie packed, one behind the other. Keys and values are projected once per
// distinct item, and each query item reads those of its own by an index.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "attention_head.h"
#include "backward.h"
#include "masks.h"
#include "rows.h"
#include "seed.h"

namespace {

using at::Tensor;
using std::optional;
using torch::autograd::variable_list;

// Rows that are projected at once.
constexpr int64_t kRows = 512;

// One past the last row of each item among the listed ones, after a 0.
std::vector<int64_t> ends_of(const mesm::RowList& rows, int64_t items, int64_t length) {
  std::vector<int64_t> ends(items + 1, 0);
  for (int64_t i = 0; i < rows.count(); ++i) ends[rows[i] / length + 1] += 1;
  for (int64_t item = 0; item < items; ++item) ends[item + 1] += ends[item];
  return ends;
}

// Which rows of queries and keys are worked on, and which query items attend to which key item.
class Layout {
 public:
  Layout(
      const Tensor& query,
      int64_t key_items,
      int64_t key_length,
      const Tensor& key_mask,
      const optional<Tensor>& query_mask,
      const optional<Tensor>& index)
      : query_items(query.size(0)),
        key_items(key_items),
        key_length(key_length),
        mask(mesm::checked_mask("key_mask", key_mask, {query_items, key_length})),
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
    const int64_t key_item = key_of[item], first = key_ends[key_item], count = key_ends[key_item + 1] - first;
    out.resize(count);
    bool any = false;
    for (int64_t i = 0; i < count; ++i) {
      const bool is_valid = valid[key_rows[first + i] - key_item * key_length];
      out[i] = is_valid ? T(0) : -std::numeric_limits<T>::infinity();
      any |= is_valid;
    }
    return any;
  }

  int64_t query_items, key_items, key_length;
  Tensor mask;
  mesm::RowList query_rows;
  std::vector<int64_t> key_of;
  mesm::RowList key_rows;
  std::vector<int64_t> query_ends, key_ends;
  // Query items of each key item.
  std::vector<std::vector<int64_t>> members;

 private:
  static mesm::RowList rows_of(const Tensor& query, const optional<Tensor>& query_mask) {
    if (!query_mask.has_value()) return mesm::RowList(query.size(0) * query.size(1));
    const Tensor valid = mesm::checked_mask("query_mask", *query_mask, {query.size(0), query.size(1)});
    return {valid.const_data_ptr<bool>(), valid.numel()};
  }

  std::vector<int64_t> items_of(int64_t items, const optional<Tensor>& index) const {
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
    const Tensor numbers = index->to(at::kLong).contiguous();
    std::copy_n(numbers.const_data_ptr<int64_t>(), items, out.begin());
    for (const int64_t item : out) {
      TORCH_CHECK_INDEX(item >= 0 && item < key_items, "index must be in [0, ", key_items, "), got ", item);
    }
    return out;
  }

  mesm::RowList needed_keys() const {
    std::vector<char> needed(key_items * key_length, 0);
    const bool* const valid = mask.const_data_ptr<bool>();
    for (int64_t item = 0; item < query_items; ++item) {
      char* const of_item = needed.data() + key_of[item] * key_length;
      for (int64_t i = 0; i < key_length; ++i) of_item[i] |= valid[item * key_length + i];
    }
    return {reinterpret_cast<const bool*>(needed.data()), static_cast<int64_t>(needed.size())};
  }
};

// A tensor (items, length, D), or the sum of two, as a matrix whose listed rows can be taken.
struct Source {
  Source(const Tensor& x, const optional<Tensor>& addend)
      : x(x.contiguous().view({-1, x.size(2)})),
        addend(addend.has_value() ? addend->contiguous().view({-1, x.size(2)}) : Tensor()) {}

  Tensor take(const mesm::RowList& rows, int64_t start, int64_t size, const Tensor& room) const {
    if (!addend.defined()) return rows.take(x, start, size, room);
    const int64_t dims = x.size(1);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "projected_attention", [&] {
      const scalar_t *const a = x.const_data_ptr<scalar_t>(), *const b = addend.const_data_ptr<scalar_t>();
      scalar_t* const out = room.mutable_data_ptr<scalar_t>();
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = rows[start + i] * dims;
        mesm::add(a + at, b + at, out + i * dims, dims);
      }
    });
    return room.narrow(0, 0, size);
  }

  Tensor x, addend;
};

// The listed rows of a source, projected, at the front of a tensor whose shape does not depend on how many they are.
Tensor project(
    const Source& source, const mesm::RowList& rows, const Tensor& weight, const Tensor& bias, bool bfloat16) {
  Tensor out = at::empty({rows.total(), weight.size(0)}, weight.options());
  const Tensor across = mesm::weight_factor(weight, bfloat16).t();
  const mesm::Stretches plan(rows.count(), kRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const Tensor room = at::empty({plan.step, weight.size(1)}, weight.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      Tensor to = out.narrow(0, start, size);
      const Tensor factor = mesm::rows_factor(source.take(rows, start, size, room), bfloat16);
      mesm::biased_product_out(to, factor, across, bias);
    }
  });
  return out;
}

// Adds the gradients of a projection, from those of its packed rows (R, D'), to the rows of `grad_source`, or writes
// them there, and to each thread's `grad_weight` (threads, D', D) and `grad_bias` (threads, D').
void project_backward(
    const Tensor& gradient,
    const Source& source,
    const mesm::RowList& rows,
    const Tensor& weight,
    const Tensor& grad_source,
    bool adds,
    mesm::ThreadSums& grad_weight,
    const Tensor& grad_bias,
    bool bfloat16) {
  const Tensor factor = mesm::weight_factor(weight, bfloat16);
  const mesm::Stretches plan(rows.count(), kRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const int64_t thread = at::get_thread_num();
    const Tensor to_bias = grad_bias[thread];
    const Tensor room = at::empty({plan.step, weight.size(1)}, weight.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      const Tensor above = gradient.narrow(0, start, size);
      const Tensor above_factor = mesm::rows_factor(above, bfloat16);
      grad_weight.add_product(
          thread, above_factor.t(), mesm::rows_factor(source.take(rows, start, size, room), bfloat16));
      AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "projected_attention_backward", [&] {
        const int64_t dims = above.size(1);
        const scalar_t* const from = above.const_data_ptr<scalar_t>();
        scalar_t* const to = to_bias.mutable_data_ptr<scalar_t>();
        for (int64_t i = 0; i < size; ++i) mesm::accumulate(to, from + i * dims, dims);
      });
      if (adds) {
        Tensor old = rows.take(grad_source, start, size, room);
        mesm::add_product(old, above_factor, factor);
        rows.put(old, grad_source, start, size);
      } else {
        Tensor to = rows.target(grad_source, start, size, room);
        mesm::product_out(to, above_factor, factor);
        rows.put(to, grad_source, start, size);
      }
    }
  });
}

struct Packed {
  Tensor query, key, value;
};

template <typename T>
mesm::Head<T> head_of(
    const Packed& packed,
    const Layout& layout,
    int64_t item,
    int64_t head,
    int64_t heads,
    const std::vector<T>& padding,
    uint64_t seed,
    double p) {
  const int64_t stride = packed.query.size(1), dims = stride / heads, key_item = layout.key_of[item];
  const int64_t first_query = layout.query_ends[item], first_key = layout.key_ends[key_item];
  const int64_t keys = static_cast<int64_t>(padding.size());
  // As many blocks for each item and head as the longest could take.
  const int64_t blocks = mesm::blocks_of(layout.key_length);
  return {
      {packed.query.const_data_ptr<T>() + first_query * stride + head * dims, stride},
      {packed.key.const_data_ptr<T>() + first_key * stride + head * dims, stride},
      {packed.value.const_data_ptr<T>() + first_key * stride + head * dims, stride},
      padding.data(),
      layout.query_ends[item + 1] - first_query,
      keys,
      dims,
      dims,
      static_cast<T>(1 / std::sqrt(static_cast<double>(dims))),
      {p, seed, static_cast<uint64_t>((first_query * heads + head * (layout.query_ends[item + 1] - first_query)) * blocks)}};
}

// The sources of queries, keys and values. Without a value, the key is that, too; without a key, queries attend to one
// another: keys are the queries with their positions, values the queries without.
struct Sources {
  Sources(
      const Tensor& query,
      const optional<Tensor>& position,
      const optional<Tensor>& key,
      const optional<Tensor>& value)
      : query(query, position),
        key(key.has_value() ? Source(*key, std::nullopt) : this->query),
        value(value.has_value() ? *value : key.has_value() ? *key : query, std::nullopt) {}
  Source query, key, value;
};

using Kept = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Output (B, Lq, D), and packed for the backward pass: queries, keys, values, what they attended to and its sums.
Kept projected_attention_cpu(
    const Tensor& query,
    const optional<Tensor>& position,
    const optional<Tensor>& key,
    const optional<Tensor>& value,
    const Tensor& key_mask,
    const optional<Tensor>& query_mask,
    const optional<Tensor>& index,
    const Tensor& in_weight,
    const Tensor& in_bias,
    const Tensor& out_weight,
    const Tensor& out_bias,
    int64_t heads,
    optional<int64_t> seed_or_none,
    double p,
    bool,
    bool bfloat16) {
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  const int64_t channels = query.size(-1);
  const auto fits = [&](const optional<Tensor>& x, const Tensor& like) {
    return !x.has_value() || x->sizes() == like.sizes();
  };
  TORCH_CHECK_VALUE(
      query.dim() == 3 && fits(position, query) && (!key.has_value() || (key->dim() == 3 && key->size(2) == channels)) &&
          fits(value, key.has_value() ? *key : query),
      "query must be (items, length, channels), position like it, key of as many channels, and value like key");
  TORCH_CHECK_VALUE(
      heads > 0 && in_weight.dim() == 2 && in_weight.size(0) % (3 * heads) == 0 && in_weight.size(1) == channels &&
          in_bias.numel() == in_weight.size(0) && out_weight.dim() == 2 &&
          out_weight.size(1) == in_weight.size(0) / 3 && out_bias.numel() == out_weight.size(0),
      "the projections do not fit the channels, the heads or one another");
  const auto seed = static_cast<uint64_t>(mesm::seed_for(seed_or_none, p));
  const Tensor& keys = key.has_value() ? *key : query;
  const Layout layout(query, keys.size(0), keys.size(1), key_mask, query_mask, index);
  const Sources sources(query, position, key, value);
  const auto weights = in_weight.chunk(3), biases = in_bias.contiguous().chunk(3);
  const Tensor out_offsets = out_bias.contiguous();
  const Packed packed{
      project(sources.query, layout.query_rows, weights[0], biases[0], bfloat16),
      project(sources.key, layout.key_rows, weights[1], biases[1], bfloat16),
      project(sources.value, layout.key_rows, weights[2], biases[2], bfloat16)};
  const int64_t dims = packed.query.size(1), head_dims = dims / heads;
  const Tensor attended = at::empty_like(packed.query);
  const Tensor sums = at::empty({packed.query.size(0) * heads}, query.options());
  AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "projected_attention", [&] {
    at::parallel_for(0, layout.query_items * heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room, padding;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t item = unit / heads, head = unit % heads, first = layout.query_ends[item];
        const int64_t queries = layout.query_ends[item + 1] - first;
        if (queries == 0) continue;
        const mesm::Rows<scalar_t> to{
            attended.mutable_data_ptr<scalar_t>() + first * dims + head * head_dims, dims};
        if (!layout.padding(item, padding)) {
          for (int64_t i = 0; i < queries; ++i) std::fill_n(to.row(i), head_dims, scalar_t(0));
          continue;
        }
        head_of<scalar_t>(packed, layout, item, head, heads, padding, seed, p)
            .forward(to, sums.mutable_data_ptr<scalar_t>() + first * heads + head * queries, room);
      }
    });
  });
  Tensor out = at::empty({query.size(0), query.size(1), out_weight.size(0)}, query.options());
  const Tensor flat = out.view({-1, out_weight.size(0)}), across = mesm::weight_factor(out_weight, bfloat16).t();
  layout.query_rows.fill_others(flat);
  const mesm::Stretches plan(layout.query_rows.count(), kRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const Tensor room = at::empty({plan.step, out_weight.size(0)}, query.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      Tensor to = layout.query_rows.target(flat, start, size, room);
      const Tensor factor = mesm::rows_factor(attended.narrow(0, start, size), bfloat16);
      mesm::biased_product_out(to, factor, across, out_offsets);
      layout.query_rows.put(to, flat, start, size);
    }
  });
  return {out, packed.query, packed.key, packed.value, attended, sums};
}

// Gradients of query, position, key, value, in_weight, in_bias, out_weight and out_bias; empty where there is no input.
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients projected_attention_backward_cpu(
    const Tensor& gradient,
    const Tensor& query,
    const optional<Tensor>& position,
    const optional<Tensor>& key,
    const optional<Tensor>& value,
    const Tensor& key_mask,
    const optional<Tensor>& query_mask,
    const optional<Tensor>& index,
    const Tensor& in_weight,
    const Tensor& out_weight,
    const Tensor& packed_query,
    const Tensor& packed_key,
    const Tensor& packed_value,
    const Tensor& attended,
    const Tensor& sums,
    int64_t heads,
    int64_t seed,
    double p,
    bool bfloat16) {
  const Tensor& keys = key.has_value() ? *key : query;
  const Layout layout(query, keys.size(0), keys.size(1), key_mask, query_mask, index);
  const Sources sources(query, position, key, value);
  const auto weights = in_weight.chunk(3);
  const Packed packed{packed_query, packed_key, packed_value};
  const int64_t dims = packed.query.size(1), head_dims = dims / heads, threads = at::get_num_threads();
  const int64_t inputs = in_weight.size(1);

  // Each thread adds up the gradients of the parameters of its own rows.
  mesm::ThreadSums grad_out_weight(out_weight), grad_query_weight(weights[0]), grad_key_weight(weights[1]);
  mesm::ThreadSums grad_value_weight(weights[2]);
  const Tensor grad_biases = at::zeros({threads, 3 * dims + out_weight.size(0)}, query.options());

  const Tensor above = gradient.contiguous().view({-1, out_weight.size(0)});
  const Tensor grad_attended = at::empty_like(attended), out_factor = mesm::weight_factor(out_weight, bfloat16);
  const mesm::Stretches plan(layout.query_rows.count(), kRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const int64_t thread = at::get_thread_num();
    const Tensor room = at::empty({plan.step, out_weight.size(0)}, query.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      const Tensor rows = layout.query_rows.take(above, start, size, room);
      Tensor to = grad_attended.narrow(0, start, size);
      const Tensor factor = mesm::rows_factor(rows, bfloat16);
      mesm::product_out(to, factor, out_factor);
      grad_out_weight.add_product(
          thread, factor.t(), mesm::rows_factor(attended.narrow(0, start, size), bfloat16));
      AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "projected_attention_backward", [&] {
        scalar_t* const to_bias = grad_biases.mutable_data_ptr<scalar_t>() + thread * grad_biases.size(1) + 3 * dims;
        const scalar_t* const from = rows.const_data_ptr<scalar_t>();
        const int64_t width = rows.size(1);
        for (int64_t i = 0; i < size; ++i) mesm::accumulate(to_bias, from + i * width, width);
      });
    }
  });

  const Tensor grad_query = at::empty_like(packed.query);
  const Tensor grad_key = at::zeros_like(packed.key), grad_value = at::zeros_like(packed.value);
  AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "projected_attention_backward", [&] {
    // A thread has all query items of a key item, whose gradients it adds up.
    at::parallel_for(0, layout.key_items * heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room, padding;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t key_item = unit / heads, head = unit % heads, at_key = layout.key_ends[key_item] * dims;
        for (const int64_t item : layout.members[key_item]) {
          const int64_t first = layout.query_ends[item], queries = layout.query_ends[item + 1] - first;
          if (queries == 0) continue;
          const int64_t at = first * dims + head * head_dims;
          const mesm::Rows<scalar_t> to{grad_query.mutable_data_ptr<scalar_t>() + at, dims};
          if (!layout.padding(item, padding)) {
            for (int64_t i = 0; i < queries; ++i) std::fill_n(to.row(i), head_dims, scalar_t(0));
            continue;
          }
          head_of<scalar_t>(packed, layout, item, head, heads, padding, static_cast<uint64_t>(seed), p)
              .backward(
                  {grad_attended.const_data_ptr<scalar_t>() + at, dims},
                  {attended.const_data_ptr<scalar_t>() + at, dims},
                  sums.const_data_ptr<scalar_t>() + first * heads + head * queries,
                  to,
                  {grad_key.mutable_data_ptr<scalar_t>() + at_key + head * head_dims, dims},
                  {grad_value.mutable_data_ptr<scalar_t>() + at_key + head * head_dims, dims},
                  room);
        }
      }
    });
  });

  const auto bias_part = [&](int64_t part) { return grad_biases.narrow(1, part * dims, dims); };
  const auto to_rows = [&](const Tensor& x) { return x.view({-1, inputs}); };
  Tensor to_query = at::empty(query.sizes(), query.options());
  Tensor to_position = at::empty({0}, query.options()), to_key = to_position, to_value = to_position;
  layout.query_rows.fill_others(to_rows(to_query));
  project_backward(
      grad_query, sources.query, layout.query_rows, weights[0], to_rows(to_query), false, grad_query_weight, bias_part(0),
      bfloat16);
  if (key.has_value()) {
    if (position.has_value()) to_position = to_query;
    to_key = at::empty(key->sizes(), query.options());
    layout.key_rows.fill_others(to_rows(to_key));
  } else {
    to_key = to_query;
  }
  const bool attends_to_itself = !key.has_value();
  project_backward(
      grad_key,
      sources.key,
      layout.key_rows,
      weights[1],
      to_rows(to_key),
      attends_to_itself,
      grad_key_weight,
      bias_part(1),
      bfloat16);
  if (attends_to_itself && position.has_value()) to_position = to_query.clone();
  if (value.has_value()) {
    to_value = at::empty(value->sizes(), query.options());
    layout.key_rows.fill_others(to_rows(to_value));
  } else {
    to_value = to_key;
  }
  project_backward(
      grad_value,
      sources.value,
      layout.key_rows,
      weights[2],
      to_rows(to_value),
      !value.has_value(),
      grad_value_weight,
      bias_part(2),
      bfloat16);
  const Tensor biases = grad_biases.sum(0);
  Tensor grad_in_weight = at::empty(in_weight.sizes(), in_weight.options());
  const auto parts = grad_in_weight.chunk(3);
  grad_query_weight.total(parts[0]);
  grad_key_weight.total(parts[1]);
  grad_value_weight.total(parts[2]);
  const Tensor nothing = at::empty({0}, query.options());
  return {
      to_query,
      to_position,
      attends_to_itself ? nothing : to_key,
      value.has_value() ? to_value : nothing,
      grad_in_weight,
      biases.narrow(0, 0, 3 * dims),
      grad_out_weight.total(),
      biases.narrow(0, 3 * dims, out_weight.size(0))};
}

auto forward_operator() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mesm_plugin::projected_attention", "")
                       .typed<decltype(projected_attention_cpu)>();
  return op;
}

class ProjectedAttention : public torch::autograd::Function<ProjectedAttention> {
 public:
  static variable_list forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& query,
      const optional<Tensor>& position,
      const optional<Tensor>& key,
      const optional<Tensor>& value,
      const Tensor& key_mask,
      const optional<Tensor>& query_mask,
      const optional<Tensor>& index,
      const Tensor& in_weight,
      const Tensor& in_bias,
      const Tensor& out_weight,
      const Tensor& out_bias,
      int64_t heads,
      int64_t seed,
      double p,
      bool bfloat16) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [out, packed_query, packed_key, packed_value, attended, sums] = forward_operator().call(
        query, position, key, value, key_mask, query_mask, index, in_weight, in_bias, out_weight, out_bias, heads, seed,
        p, true, bfloat16);
    const Tensor none;
    ctx->save_for_backward(
        {query, position.value_or(none), key.value_or(none), value.value_or(none), key_mask, query_mask.value_or(none),
         index.value_or(none), in_weight, out_weight, packed_query, packed_key, packed_value, attended, sums});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    ctx->saved_data["bfloat16"] = bfloat16;
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({packed_query, packed_key, packed_value, attended, sums});
    return {out, packed_query, packed_key, packed_value, attended, sums};
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    if (!gradients[0].defined()) return variable_list(15);
    const auto saved = ctx->get_saved_variables();
    const auto optional_of = [](const Tensor& x) { return x.defined() ? optional<Tensor>(x) : std::nullopt; };
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::projected_attention_backward", "")
                         .typed<decltype(projected_attention_backward_cpu)>();
    const mesm::BackwardGuard guard("projected_attention");
    auto [query, position, key, value, in_weight, in_bias, out_weight, out_bias] = op.call(
        gradients[0],
        saved[0],
        optional_of(saved[1]),
        optional_of(saved[2]),
        optional_of(saved[3]),
        saved[4],
        optional_of(saved[5]),
        optional_of(saved[6]),
        saved[7],
        saved[8],
        saved[9],
        saved[10],
        saved[11],
        saved[12],
        saved[13],
        ctx->saved_data["heads"].toInt(),
        ctx->saved_data["seed"].toInt(),
        ctx->saved_data["p"].toDouble(),
        ctx->saved_data["bfloat16"].toBool());
    const auto where = [&saved](int input, const Tensor& x) { return saved[input].defined() ? x : Tensor(); };
    return {
        query,     where(1, position), where(2, key), where(3, value), {}, {}, {}, in_weight, in_bias, out_weight,
        out_bias,  {},                 {},            {},               {}};
  }
};

Kept projected_attention_autograd(
    const Tensor& query,
    const optional<Tensor>& position,
    const optional<Tensor>& key,
    const optional<Tensor>& value,
    const Tensor& key_mask,
    const optional<Tensor>& query_mask,
    const optional<Tensor>& index,
    const Tensor& in_weight,
    const Tensor& in_bias,
    const Tensor& out_weight,
    const Tensor& out_bias,
    int64_t heads,
    optional<int64_t> seed,
    double p,
    bool keeps,
    bool bfloat16) {
  if (!keeps) {
    at::AutoDispatchBelowADInplaceOrView below;
    return forward_operator().call(
        query, position, key, value, key_mask, query_mask, index, in_weight, in_bias, out_weight, out_bias, heads, seed,
        p, false, bfloat16);
  }
  const auto outputs = ProjectedAttention::apply(
      query, position, key, value, key_mask, query_mask, index, in_weight, in_bias, out_weight, out_bias, heads,
      mesm::seed_for(seed, p), p, bfloat16);
  return {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4], outputs[5]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def(
      "projected_attention(Tensor query, Tensor? position, Tensor? key, Tensor? value, Tensor key_mask, "
      "Tensor? query_mask, Tensor? index, Tensor in_weight, Tensor in_bias, Tensor out_weight, Tensor out_bias, "
      "int heads, int? seed, float p, bool keeps, bool bfloat16=False) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "projected_attention_backward(Tensor gradient, Tensor query, Tensor? position, Tensor? key, Tensor? value, "
      "Tensor key_mask, Tensor? query_mask, Tensor? index, Tensor in_weight, Tensor out_weight, Tensor packed_query, "
      "Tensor packed_key, Tensor packed_value, Tensor attended, Tensor sums, int heads, int seed, float p, "
      "bool bfloat16) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("projected_attention", projected_attention_cpu);
  library.impl("projected_attention_backward", projected_attention_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("projected_attention", projected_attention_autograd);
}
