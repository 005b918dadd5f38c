// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Multi-head attention with its projections, for CPU tensors. Queries, keys and values that are padding are neither
// projected nor attended to: the others lie packed, one behind the other. Keys and values are projected once per
// distinct item, and each query item reads those of its own by an index. Where keys are few, the other projections are
// absorbed into them (absorbed_attention.h), but with factors in bfloat16, which would round the dot products.

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

#include "absorbed_attention.h"
#include "attention_head.h"
#include "attention_layout.h"
#include "backward.h"
#include "projection.h"
#include "rows.h"
#include "seed.h"

namespace {

using at::Tensor;
using mesm::kProjectedRows;
using mesm::Layout;
using mesm::project;
using mesm::project_backward;
using mesm::Source;
using std::optional;
using torch::autograd::variable_list;

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
      layout.queries_of(item),
      keys,
      dims,
      dims,
      static_cast<T>(1 / std::sqrt(static_cast<double>(dims))),
      {p, seed, static_cast<uint64_t>((first_query * heads + head * layout.queries_of(item)) * blocks)}};
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

bool absorbs(
    const Layout& layout,
    const optional<Tensor>& key,
    const Tensor& in_weight,
    const Tensor& out_weight,
    int64_t heads,
    bool bfloat16) {
  return key.has_value() && !bfloat16 &&
      mesm::absorbing_pays(layout, in_weight.size(1), out_weight.size(1), out_weight.size(0), heads);
}

using Kept = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Output (B, Lq, D), and packed for the backward pass: queries, keys, values, what they attended to and its sums; no
// queries nor what they attended to where the projections were absorbed.
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
  Packed packed{
      Tensor(),
      project(sources.key, layout.key_rows, weights[1], biases[1], bfloat16),
      project(sources.value, layout.key_rows, weights[2], biases[2], bfloat16)};
  Tensor out = at::empty({query.size(0), query.size(1), out_weight.size(0)}, query.options());
  const Tensor flat = out.view({-1, out_weight.size(0)});
  layout.query_rows.fill_others(flat);
  const Tensor sums = at::empty({layout.query_rows.total() * heads}, query.options());
  if (absorbs(layout, key, in_weight, out_weight, heads, bfloat16)) {
    const mesm::AbsorbedAttention attention{
        layout, sources.query, weights[0], biases[0], out_weight, packed.key, packed.value, heads, seed, p};
    attention.forward(out_offsets, flat, sums);
    const auto nothing = [&] { return at::empty({0}, query.options()); };
    return {out, nothing(), packed.key, packed.value, nothing(), sums};
  }
  packed.query = project(sources.query, layout.query_rows, weights[0], biases[0], bfloat16);
  const int64_t dims = packed.query.size(1), head_dims = dims / heads;
  const Tensor attended = at::empty_like(packed.query);
  AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "projected_attention", [&] {
    at::parallel_for(0, layout.query_items * heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room, padding;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t item = unit / heads, head = unit % heads, first = layout.query_ends[item];
        const int64_t queries = layout.queries_of(item);
        if (queries == 0) continue;
        const mesm::HeadRows<scalar_t> to{
            attended.mutable_data_ptr<scalar_t>() + first * dims + head * head_dims, dims};
        if (!layout.padding(item, padding)) {
          to.clear(0, queries, head_dims);
          continue;
        }
        head_of<scalar_t>(packed, layout, item, head, heads, padding, seed, p)
            .forward(to, sums.mutable_data_ptr<scalar_t>() + first * heads + head * queries, room);
      }
    });
  });
  const Tensor across = mesm::weight_factor(out_weight, bfloat16).t();
  const mesm::Stretches plan(layout.query_rows.count(), kProjectedRows, bfloat16);
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

// Writes the gradients of the listed queries, of the packed keys and values, of the weights of queries and outputs, and
// adds those of their biases to each thread's (threads, D').
void attend_backward(
    const Tensor& above,
    const Layout& layout,
    const Source& query,
    const Tensor& query_weight,
    const Tensor& out_weight,
    const Packed& packed,
    const Tensor& attended,
    const Tensor& sums,
    int64_t heads,
    uint64_t seed,
    double p,
    bool bfloat16,
    const Tensor& to_query,
    const Tensor& grad_key,
    const Tensor& grad_value,
    const Tensor& grad_query_weight,
    const Tensor& grad_query_bias,
    const Tensor& grad_out_weight,
    const Tensor& grad_out_bias) {
  const int64_t dims = packed.query.size(1), head_dims = dims / heads;
  // Each thread adds up the gradients of the parameters of its own rows.
  mesm::ThreadSums out_weight_sums(out_weight), query_weight_sums(query_weight);
  const Tensor grad_attended = at::empty_like(attended), out_factor = mesm::weight_factor(out_weight, bfloat16);
  const mesm::Stretches plan(layout.query_rows.count(), kProjectedRows, bfloat16);
  at::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const int64_t thread = at::get_thread_num();
    const Tensor room = at::empty({plan.step, out_weight.size(0)}, above.options());
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * plan.step, size = plan.size(part);
      const Tensor rows = layout.query_rows.take(above, start, size, room);
      Tensor to = grad_attended.narrow(0, start, size);
      const Tensor factor = mesm::rows_factor(rows, bfloat16);
      mesm::product_out(to, factor, out_factor);
      out_weight_sums.add_product(
          thread, factor.t(), mesm::rows_factor(attended.narrow(0, start, size), bfloat16));
      mesm::add_rows(rows, grad_out_bias[thread]);
    }
  });

  const Tensor grad_query = at::empty_like(packed.query);
  AT_DISPATCH_FLOATING_TYPES(above.scalar_type(), "projected_attention_backward", [&] {
    // A thread has all query items of a key item, whose gradients it adds up.
    at::parallel_for(0, layout.key_items * heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room, padding;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t key_item = unit / heads, head = unit % heads;
        const int64_t at_key = layout.key_ends[key_item] * dims + head * head_dims;
        const mesm::HeadRows<scalar_t> to_key{grad_key.mutable_data_ptr<scalar_t>() + at_key, dims};
        const mesm::HeadRows<scalar_t> to_value{grad_value.mutable_data_ptr<scalar_t>() + at_key, dims};
        to_key.clear(0, layout.keys_of(key_item), head_dims);
        to_value.clear(0, layout.keys_of(key_item), head_dims);
        for (const int64_t item : layout.members[key_item]) {
          const int64_t first = layout.query_ends[item], queries = layout.queries_of(item);
          if (queries == 0) continue;
          const int64_t at = first * dims + head * head_dims;
          const mesm::HeadRows<scalar_t> to{grad_query.mutable_data_ptr<scalar_t>() + at, dims};
          if (!layout.padding(item, padding)) {
            to.clear(0, queries, head_dims);
            continue;
          }
          head_of<scalar_t>(packed, layout, item, head, heads, padding, seed, p)
              .backward(
                  {grad_attended.const_data_ptr<scalar_t>() + at, dims},
                  {attended.const_data_ptr<scalar_t>() + at, dims},
                  sums.const_data_ptr<scalar_t>() + first * heads + head * queries,
                  to,
                  to_key,
                  to_value,
                  room);
        }
      }
    });
  });
  project_backward(
      grad_query, query, layout.query_rows, query_weight, to_query, false, query_weight_sums, grad_query_bias, bfloat16);
  query_weight_sums.total_into(grad_query_weight);
  out_weight_sums.total_into(grad_out_weight);
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
    const Tensor& in_bias,
    const Tensor& out_weight,
    const Tensor& packed_query,
    const Tensor& packed_key,
    const Tensor& packed_value,
    const Tensor& attended,
    const Tensor& sums,
    int64_t heads,
    int64_t seed_number,
    double p,
    bool bfloat16) {
  const Tensor& keys = key.has_value() ? *key : query;
  const Layout layout(query, keys.size(0), keys.size(1), key_mask, query_mask, index);
  const Sources sources(query, position, key, value);
  const auto weights = in_weight.chunk(3), biases = in_bias.contiguous().chunk(3);
  const Packed packed{packed_query, packed_key, packed_value};
  const auto seed = static_cast<uint64_t>(seed_number);
  const int64_t dims = packed.key.size(1), threads = at::get_num_threads(), inputs = in_weight.size(1);
  const auto to_rows = [&](const Tensor& x) { return x.view({-1, inputs}); };
  const Tensor above = gradient.contiguous().view({-1, out_weight.size(0)});
  Tensor to_query = at::empty(query.sizes(), query.options());
  layout.query_rows.fill_others(to_rows(to_query));
  const Tensor grad_key = at::empty_like(packed.key), grad_value = at::empty_like(packed.value);
  Tensor grad_in_weight = at::empty(in_weight.sizes(), in_weight.options());
  const Tensor grad_out_weight = at::empty(out_weight.sizes(), out_weight.options());
  const auto grad_weights = grad_in_weight.chunk(3);
  // Each thread adds up those of its own rows.
  const Tensor grad_biases = at::zeros({threads, 3 * dims + out_weight.size(0)}, query.options());
  const auto bias_part = [&](int64_t part) { return grad_biases.narrow(1, part * dims, dims); };
  const Tensor grad_out_bias = grad_biases.narrow(1, 3 * dims, out_weight.size(0));
  if (absorbs(layout, key, in_weight, out_weight, heads, bfloat16)) {
    const mesm::AbsorbedAttention attention{
        layout, sources.query, weights[0], biases[0], out_weight, packed.key, packed.value, heads, seed, p};
    attention.backward(
        above, sums, to_rows(to_query), grad_key, grad_value, grad_weights[0], bias_part(0)[0], grad_out_weight,
        grad_out_bias);
  } else {
    attend_backward(
        above, layout, sources.query, weights[0], out_weight, packed, attended, sums, heads, seed, p, bfloat16,
        to_rows(to_query), grad_key, grad_value, grad_weights[0], bias_part(0), grad_out_weight, grad_out_bias);
  }

  Tensor to_position = at::empty({0}, query.options()), to_key = to_position, to_value = to_position;
  mesm::ThreadSums key_weight_sums(weights[1]), value_weight_sums(weights[2]);
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
      key_weight_sums,
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
      value_weight_sums,
      bias_part(2),
      bfloat16);
  const Tensor bias_sums = grad_biases.sum(0);
  key_weight_sums.total_into(grad_weights[1]);
  value_weight_sums.total_into(grad_weights[2]);
  const Tensor nothing = at::empty({0}, query.options());
  return {
      to_query,
      to_position,
      attends_to_itself ? nothing : to_key,
      value.has_value() ? to_value : nothing,
      grad_in_weight,
      bias_sums.narrow(0, 0, 3 * dims),
      grad_out_weight,
      bias_sums.narrow(0, 3 * dims, out_weight.size(0))};
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
         index.value_or(none), in_weight, in_bias, out_weight, packed_query, packed_key, packed_value, attended, sums});
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
        saved[14],
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
      "Tensor key_mask, Tensor? query_mask, Tensor? index, Tensor in_weight, Tensor in_bias, Tensor out_weight, "
      "Tensor packed_query, Tensor packed_key, Tensor packed_value, Tensor attended, Tensor sums, int heads, int seed, "
      "float p, bool bfloat16) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("projected_attention", projected_attention_cpu);
  library.impl("projected_attention_backward", projected_attention_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("projected_attention", projected_attention_autograd);
}
