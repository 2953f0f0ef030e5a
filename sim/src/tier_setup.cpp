#include "tier_setup.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "loracle/policy/all_policies.hpp"

namespace loracle::detail {
namespace {

Result<Unit> refusal_of_pin(std::size_t index, const char* reason, Errc code) {
  return fail(code, fmt::format("pin number {} cannot be honoured: {}", index + 1, reason));
}

}  // namespace

Result<std::unique_ptr<TierStack>> make_tier_stack(const UseStream& uses, const TierOptions& options,
                                                   const TierPolicies& policies, DecisionSink* sink) {
  const std::uint32_t rows = uses.rows;
  auto stack = std::make_unique<TierStack>(sink);
  stack->table.size = uses.size;
  const Capacity device{options.max_loras, options.gpu_memory};
  const Capacity host{options.max_cpu_loras, options.cpu_memory};
  Result<AnyPolicy> device_policy = make_any_policy(policies.device, rows, device);
  if (!device_policy) return fail(std::move(device_policy.error()));
  Result<AnyPolicy> host_policy = make_any_policy(policies.host, rows, host);
  if (!host_policy) return fail(std::move(host_policy.error()));
  stack->clairvoyant = device_policy->clairvoyant() || host_policy->clairvoyant();
  if (stack->clairvoyant) stack->table.next_use.assign(rows, kNever);

  std::vector<TierSetup<AnyPolicy>> setups;
  setups.push_back({Place::kDevice, device, std::move(*device_policy), options.boundary});
  setups.push_back({Place::kHost, host, std::move(*host_policy), Boundary::kInclusive});
  stack->tiers = std::make_unique<Hierarchy<AnyPolicy>>(rows, std::move(setups), stack->table, stack->log);
  for (std::size_t i = 0; i < options.pins.size(); ++i) {
    switch (stack->tiers->pin(options.pins[i], Tick{0})) {
      case Verdict::kServed:
        break;
      case Verdict::kTooLarge:
        return fail(refusal_of_pin(i, "the adapter is larger than a tier", Errc::kTooLarge).error());
      case Verdict::kTooManyAdapters:
      case Verdict::kAllHeld:
        return fail(refusal_of_pin(i, "the pins before it fill a tier", Errc::kAllPinned).error());
    }
  }
  stack->pinning = stack->tiers->counts();
  return stack;
}

}  // namespace loracle::detail
