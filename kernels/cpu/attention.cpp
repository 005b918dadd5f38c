// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
//
// Masked multi-head attention with dropout of the weights, for CPU tensors, up to the last valid key and query of each
// item. No weights are kept for the backward pass.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "attention_head.h"
#include "backward.h"
#include "masks.h"
#include "seed.h"

namespace {

using at::Tensor;
using torch::autograd::variable_list;

// One past the last True of each row of a mask (B, L).
std::vector<int64_t> lengths_of(const Tensor& mask) {
  const int64_t items = mask.size(0), size = mask.size(1);
  const bool* const valid = mask.const_data_ptr<bool>();
  std::vector<int64_t> lengths(items, 0);
  for (int64_t item = 0; item < items; ++item) {
    int64_t length = size;
    while (length > 0 && !valid[item * size + length - 1]) --length;
    lengths[item] = length;
  }
  return lengths;
}

// Numbers of a row of heads lie together.
Tensor in_rows(const Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

// How far each item goes, and which of its keys are valid.
struct Items {
  Items(const Tensor& query, const Tensor& key, const Tensor& key_mask, const std::optional<Tensor>& query_mask)
      : mask(mesm::checked_mask("key_mask", key_mask, {key.size(0), key.size(1)})),
        keys(lengths_of(mask)),
        queries(
            query_mask.has_value()
                ? lengths_of(mesm::checked_mask("query_mask", *query_mask, {query.size(0), query.size(1)}))
                : std::vector<int64_t>(query.size(0), query.size(1))) {}

  template <typename T>
  void padding(int64_t item, std::vector<T>& out) const {
    const bool* const valid = mask.const_data_ptr<bool>() + item * mask.size(1);
    out.resize(keys[item]);
    for (int64_t i = 0; i < keys[item]; ++i) out[i] = valid[i] ? T(0) : -std::numeric_limits<T>::infinity();
  }

  Tensor mask;
  std::vector<int64_t> keys, queries;
};

template <typename T>
mesm::HeadRows<const T> head_of(const Tensor& x, int64_t item, int64_t head) {
  return {x.const_data_ptr<T>() + item * x.stride(0) + head * x.stride(2), x.stride(1)};
}

template <typename T>
mesm::HeadRows<T> head_to(const Tensor& x, int64_t item, int64_t head) {
  return {x.mutable_data_ptr<T>() + item * x.stride(0) + head * x.stride(2), x.stride(1)};
}

std::tuple<Tensor, Tensor> attention_cpu(
    const Tensor& query_in,
    const Tensor& key_in,
    const Tensor& value_in,
    const Tensor& key_mask,
    const std::optional<Tensor>& query_mask,
    std::optional<int64_t> seed_or_none,
    double p,
    double scale) {
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "p must be at least 0 and below 1, got ", p);
  TORCH_CHECK_VALUE(
      query_in.dim() == 4, "query must have 4 dimensions, (items, length, heads, channels), got ", query_in.sizes());
  TORCH_CHECK_VALUE(
      key_in.dim() == 4 && key_in.size(0) == query_in.size(0) && key_in.size(2) == query_in.size(2) &&
          key_in.size(3) == query_in.size(3),
      "key must match query but for the length, got ", key_in.sizes(), " and ", query_in.sizes());
  TORCH_CHECK_VALUE(
      value_in.dim() == 4 && value_in.sizes().slice(0, 3) == key_in.sizes().slice(0, 3),
      "value must match key but for the channels, got ", value_in.sizes(), " and ", key_in.sizes());
  const auto seed = static_cast<uint64_t>(mesm::seed_for(seed_or_none, p));
  const Tensor query = in_rows(query_in), key = in_rows(key_in), value = in_rows(value_in);
  const Items items(query, key, key_mask, query_mask);
  const int64_t heads = query.size(2), length = query.size(1), most_keys = key.size(1);
  Tensor out = at::empty({query.size(0), length, heads, value.size(3)}, query.options());
  Tensor sums = at::empty({query.size(0), heads, length}, query.options());
  AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "attention", [&] {
    at::parallel_for(0, query.size(0) * heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room, padding;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t item = unit / heads, head = unit % heads;
        const int64_t queries = items.keys[item] > 0 ? items.queries[item] : 0;
        const auto to = head_to<scalar_t>(out, item, head);
        to.clear(queries, length, value.size(3));
        if (queries == 0) continue;
        items.padding(item, padding);
        const mesm::Head<scalar_t> attention{
            head_of<scalar_t>(query, item, head),
            head_of<scalar_t>(key, item, head),
            head_of<scalar_t>(value, item, head),
            padding.data(),
            queries,
            items.keys[item],
            query.size(3),
            value.size(3),
            static_cast<scalar_t>(scale),
            {p, seed, static_cast<uint64_t>(unit * mesm::Head<scalar_t>::blocks(length, most_keys))}};
        attention.forward(to, sums.mutable_data_ptr<scalar_t>() + unit * length, room);
      }
    });
  });
  return {out, sums};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward_cpu(
    const Tensor& gradient_in,
    const Tensor& query_in,
    const Tensor& key_in,
    const Tensor& value_in,
    const Tensor& key_mask,
    const std::optional<Tensor>& query_mask,
    const Tensor& out,
    const Tensor& sums,
    int64_t seed,
    double p,
    double scale) {
  const Tensor query = in_rows(query_in), key = in_rows(key_in), value = in_rows(value_in);
  const Tensor gradient = in_rows(gradient_in);
  const Items items(query, key, key_mask, query_mask);
  const int64_t heads = query.size(2), length = query.size(1), most_keys = key.size(1);
  Tensor grad_query = at::empty(query.sizes(), query.options());
  Tensor grad_key = at::empty(key.sizes(), key.options());
  Tensor grad_value = at::empty(value.sizes(), value.options());
  AT_DISPATCH_FLOATING_TYPES(query.scalar_type(), "attention_backward", [&] {
    at::parallel_for(0, query.size(0) * heads, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> room, padding;
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t item = unit / heads, head = unit % heads;
        const int64_t queries = items.keys[item] > 0 ? items.queries[item] : 0;
        const auto to_query = head_to<scalar_t>(grad_query, item, head);
        const auto to_key = head_to<scalar_t>(grad_key, item, head);
        const auto to_value = head_to<scalar_t>(grad_value, item, head);
        to_query.clear(queries, length, query.size(3));
        to_key.clear(0, most_keys, key.size(3));
        to_value.clear(0, most_keys, value.size(3));
        if (queries == 0) continue;
        items.padding(item, padding);
        const mesm::Head<scalar_t> attention{
            head_of<scalar_t>(query, item, head),
            head_of<scalar_t>(key, item, head),
            head_of<scalar_t>(value, item, head),
            padding.data(),
            queries,
            items.keys[item],
            query.size(3),
            value.size(3),
            static_cast<scalar_t>(scale),
            {p,
             static_cast<uint64_t>(seed),
             static_cast<uint64_t>(unit * mesm::Head<scalar_t>::blocks(length, most_keys))}};
        attention.backward(
            head_of<scalar_t>(gradient, item, head),
            head_of<scalar_t>(out, item, head),
            sums.const_data_ptr<scalar_t>() + unit * length,
            to_query,
            to_key,
            to_value,
            room);
      }
    });
  });
  return {grad_query, grad_key, grad_value};
}

auto forward_operator() {
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mesm_plugin::attention", "").typed<decltype(attention_cpu)>();
  return op;
}

class Attention : public torch::autograd::Function<Attention> {
 public:
  static variable_list forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& query,
      const Tensor& key,
      const Tensor& value,
      const Tensor& key_mask,
      const std::optional<Tensor>& query_mask,
      int64_t seed,
      double p,
      double scale) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [out, sums] = forward_operator().call(query, key, value, key_mask, query_mask, seed, p, scale);
    ctx->save_for_backward({query, key, value, key_mask, query_mask.value_or(Tensor()), out, sums});
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["p"] = p;
    ctx->saved_data["scale"] = scale;
    ctx->mark_non_differentiable({sums});
    ctx->set_materialize_grads(false);
    return {out, sums};
  }

  static variable_list backward(torch::autograd::AutogradContext* ctx, const variable_list& gradients) {
    if (!gradients[0].defined()) return variable_list(8);
    const auto saved = ctx->get_saved_variables();
    static auto op = c10::Dispatcher::singleton()
                         .findSchemaOrThrow("mesm_plugin::attention_backward", "")
                         .typed<decltype(attention_backward_cpu)>();
    const mesm::BackwardGuard guard("attention");
    auto [query, key, value] = op.call(
        gradients[0],
        saved[0],
        saved[1],
        saved[2],
        saved[3],
        saved[4].defined() ? std::optional<Tensor>(saved[4]) : std::nullopt,
        saved[5],
        saved[6],
        ctx->saved_data["seed"].toInt(),
        ctx->saved_data["p"].toDouble(),
        ctx->saved_data["scale"].toDouble());
    return {query, key, value, {}, {}, {}, {}, {}};
  }
};

std::tuple<Tensor, Tensor> attention_autograd(
    const Tensor& query,
    const Tensor& key,
    const Tensor& value,
    const Tensor& key_mask,
    const std::optional<Tensor>& query_mask,
    std::optional<int64_t> seed,
    double p,
    double scale) {
  const auto outputs =
      Attention::apply(query, key, value, key_mask, query_mask, mesm::seed_for(seed, p), p, scale);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mesm_plugin, library) {
  library.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor key_mask, Tensor? query_mask, int? seed, float p, "
      "float scale) -> (Tensor, Tensor)");
  library.def(
      "attention_backward(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor key_mask, "
      "Tensor? query_mask, Tensor out, Tensor sums, int seed, float p, float scale) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mesm_plugin, CPU, library) {
  library.impl("attention", attention_cpu);
  library.impl("attention_backward", attention_backward_cpu);
}

TORCH_LIBRARY_IMPL(mesm_plugin, Autograd, library) {
  library.impl("attention", attention_autograd);
}
