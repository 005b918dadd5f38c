// Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0

#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

namespace mesm {

// In force while a backward pass computes gradients. They have none themselves, and are computed in the dtype of the
// forward pass, also where autocast, whose products are of another, is on by then.
class BackwardGuard {
 public:
  explicit BackwardGuard(const char* name) {
    TORCH_CHECK(
        !c10::GradMode::is_enabled(),
        "gradients of mesm_plugin::",
        name,
        " cannot be differentiated once more, got create_graph=True; with MESM_CPP_OPERATORS=0 in the environment "
        "PyTorch's operators take its place");
  }

 private:
  at::AutoDispatchBelowADInplaceOrView below_;
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

}  // namespace mesm
