#include "plan_certainty.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "loracle/sim/confidence.hpp"
#include "loracle/sim/regimes.hpp"
#include "loracle/sim/stretches.hpp"

namespace loracle::detail {
namespace {

/// When a stretch begins: seconds from the first arrival, or which request it is.
double begin_of(const Plan& plan, const Trace& trace, const BatchStream& stream, std::uint32_t stretch,
                std::uint32_t stretches) {
  const std::uint64_t request = stretch_begin(stretch, stream.requests(), stretches);
  if (!(plan.span_s > 0)) return static_cast<double>(request);
  return trace.arrival_s[stream.origin[request]] - trace.arrival_s[0];
}

void fill_regimes(Plan& plan, const Trace& trace, const BatchStream& stream, const Regimes& regimes) {
  Certainty& certainty = plan.certainty;
  certainty.regimes = regimes.begin.size();
  if (regimes.stretches == 0) return;
  const double share = regimes.length_mean() / regimes.stretches;  // of the trace
  certainty.regime_requests = share * static_cast<double>(stream.requests());
  if (plan.span_s > 0) certainty.regime_s = share * plan.span_s;
  certainty.blocks = static_cast<std::uint32_t>(1 / (kBlockRegimes * share));
  for (std::size_t i = 1; i < regimes.begin.size(); ++i)
    certainty.changes.push_back(begin_of(plan, trace, stream, regimes.begin[i], regimes.stretches));
}

/// What is counted of neighbouring stretches together, so that no more than kServedMax are left.
void fill_served(Plan& plan, const Trace& trace, const BatchStream& stream,
                 const std::vector<StretchCounts>& stretches) {
  const std::size_t together = (stretches.size() + kServedMax - 1) / kServedMax;
  for (std::size_t i = 0; i < stretches.size(); ++i) {
    if (i % together == 0) {
      const auto all = static_cast<std::uint32_t>(stretches.size());
      plan.served.push_back({begin_of(plan, trace, stream, static_cast<std::uint32_t>(i), all), {}});
    }
    StretchCounts& sum = plan.served.back().counts;
    sum.requests += stretches[i].requests;
    sum.uses += stretches[i].uses;
    sum.gpu_hits += stretches[i].gpu_hits;
    sum.disk_loads += stretches[i].disk_loads;
    sum.waited_for_slot += stretches[i].waited_for_slot;
  }
}

/// [stretches] uses that are the first of their adapter.
std::vector<std::uint64_t> first_uses(const BatchStream& stream, std::uint32_t stretches) {
  std::vector<std::uint64_t> first(stretches, 0);
  std::vector<bool> seen(stream.uses.rows, false);
  for (std::uint64_t i = 0; i < stream.requests(); ++i) {
    for (const Row row : stream.batch(i)) {
      if (!seen[index_of(row)]) ++first[stretch_of(i, stream.requests(), stretches)];
      seen[index_of(row)] = true;
    }
  }
  return first;
}

/// The interval of a share whose part and whole are read off each stretch.
template <class Part, class Whole>
Interval interval_of(const std::vector<StretchCounts>& stretches, double block_min, Part part, Whole whole) {
  std::vector<std::uint64_t> parts;
  std::vector<std::uint64_t> wholes;
  for (const StretchCounts& stretch : stretches) {
    parts.push_back(part(stretch));
    wholes.push_back(whole(stretch));
  }
  return block_interval(parts, wholes, block_min);
}

}  // namespace

Result<Unit> fill_certainty(Plan& plan, const Trace& trace, const BatchStream& stream,
                            const EventOutcome* simulated, bool of_plan_tiers) {
  const Regimes regimes = find_regimes(stream);
  fill_regimes(plan, trace, stream, regimes);
  if (regimes.stretches == 0) return Unit{};
  const double block_min = kBlockRegimes * regimes.length_mean();
  const auto uses = [](const StretchCounts& stretch) { return stretch.uses; };

  std::vector<StretchCounts> stretches;
  if (simulated != nullptr) {
    plan.certainty.waited = interval_of(
        simulated->stretches, block_min, [](const StretchCounts& stretch) { return stretch.waited_for_slot; },
        [](const StretchCounts& stretch) { return stretch.requests; });
    if (of_plan_tiers) stretches = simulated->stretches;
  }
  if (stretches.empty()) {
    TierOptions options;
    options.tiers = plan.tiers;
    options.max_loras = plan.chosen.max_loras;
    options.max_cpu_loras = plan.chosen.max_cpu_loras;
    options.stretches = regimes.stretches;
    auto replayed = replay_tiers(stream, options);
    if (!replayed) return fail(std::move(replayed.error()));
    stretches = std::move(replayed->stretches);
  }
  fill_served(plan, trace, stream, stretches);
  plan.certainty.misses = interval_of(
      stretches, block_min, [](const StretchCounts& stretch) { return stretch.uses - stretch.gpu_hits; },
      uses);
  // Each first use is a load from disk; the trace begins with many of them, and nobody sizes for those.
  const std::vector<std::uint64_t> first = first_uses(stream, regimes.stretches);
  for (std::size_t i = 0; i < stretches.size(); ++i)
    stretches[i].disk_loads -= std::min(stretches[i].disk_loads, first[i]);
  plan.certainty.disk_loads = interval_of(
      stretches, block_min, [](const StretchCounts& stretch) { return stretch.disk_loads; }, uses);
  return Unit{};
}

}  // namespace loracle::detail
