#include "plan_waits.hpp"

#include <limits>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/regimes.hpp"

namespace loracle::detail {

EventOptions wait_options(const Plan& plan) {
  const Result<TierPolicies> policies = parse_tier_policies(plan.tiers);
  const bool can_be = policies && !is_clairvoyant(policies->device) && !is_clairvoyant(policies->host);
  EventOptions options;
  options.tiers.tiers = can_be ? plan.tiers : "lru/lru";
  options.max_num_seqs = std::numeric_limits<std::uint32_t>::max();  // waits for slots alone
  options.slot = plan.slot_load;
  options.disk = plan.disk_load;
  options.late_s = plan.cost_options.slo_s;
  return options;
}

WaitSimulator::WaitSimulator(const Plan& plan, const Trace& trace, const BatchStream& stream)
    : trace_(&trace),
      stream_(&stream),
      options_(wait_options(plan)),
      of_plan_tiers_(options_.tiers.tiers == plan.tiers) {
  options_.tiers.stretches = stretches_for(stream.requests());
}

Result<Unit> WaitSimulator::simulate(std::span<const GridCell> pairs, Executor& executor) {
  std::vector<Pair> missing;
  for (const GridCell& cell : pairs) {
    const Pair pair{cell.max_loras, cell.max_cpu_loras};
    if (outcomes_.emplace(pair, EventOutcome{}).second) missing.push_back(pair);
  }
  std::vector<Result<EventOutcome>> outcomes(missing.size(), fail(Errc::kInvalid, "not simulated"));
  executor.run(missing.size(), [&](std::size_t i) {
    EventOptions mine = options_;
    mine.tiers.max_loras = missing[i].first;
    mine.tiers.max_cpu_loras = missing[i].second;
    outcomes[i] = simulate_events(*trace_, *stream_, mine);
  });
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (!outcomes[i]) return fail(std::move(outcomes[i].error()));
    outcomes_[missing[i]] = *outcomes[i];
  }
  return Unit{};
}

const EventOutcome& WaitSimulator::at(const GridCell& pair) const {
  const auto found = outcomes_.find({pair.max_loras, pair.max_cpu_loras});
  LORACLE_CHECK(found != outcomes_.end());
  return found->second;
}

double WaitSimulator::waited(const GridCell& pair) const {
  const EventOutcome& outcome = at(pair);
  return static_cast<double>(outcome.waited_for_slot) / static_cast<double>(outcome.requests);
}

}  // namespace loracle::detail
