// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0

#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <mutex>
#include <optional>

namespace mesm {

// The seed that was given, or else one from PyTorch's default generator where anything is to be dropped.
inline int64_t seed_for(std::optional<int64_t> given, double p) {
  if (given.has_value() || !(p > 0)) return given.value_or(0);
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return static_cast<int64_t>(at::check_generator<at::CPUGeneratorImpl>(generator)->random64());
}

}  // namespace mesm
