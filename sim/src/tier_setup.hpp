#pragma once
/// The hierarchy that tier options mean, with its pins in place; what replay_tiers and simulate_events share.

#include <cstdint>
#include <memory>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/result.hpp"
#include "loracle/policy/any_policy.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::detail {

/// `table` has the sizes; `next_use` is allocated if a policy asks for it.
struct TierStack {
  AdapterTable table;
  DecisionLog log;
  bool clairvoyant = false;
  std::unique_ptr<Hierarchy<AnyPolicy>> tiers;
  HierarchyCounts pinning;  // what the pins took

  explicit TierStack(DecisionSink* sink) : log(sink) {}
};

/// Errors: those of policies; kAllPinned, kTooLarge (pins). On the heap: tiers point into it.
[[nodiscard]] Result<std::unique_ptr<TierStack>> make_tier_stack(const UseStream& uses,
                                                                 const TierOptions& options,
                                                                 const TierPolicies& policies,
                                                                 DecisionSink* sink);

}  // namespace loracle::detail
