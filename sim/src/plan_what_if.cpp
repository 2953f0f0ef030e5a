#include "plan_what_if.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "loracle/sim/what_if.hpp"
#include "loracle/traces/transform.hpp"
#include "plan_waits.hpp"

namespace loracle::detail {
namespace {

constexpr std::uint64_t kSeed = 1;

/// One change: what is simulated, and with what.
struct Question {
  std::string change;
  EventOptions options;
  std::function<Trace()> changed{};  // empty: today's trace
  bool same_uses = true;             // and order: the stream of today is that of the changed trace
  bool fits = true;                  // the changed adapters, as many as the sizes say
};

/// Slots, and adapters in host memory, of twice the rank: as many as the limits leave.
void double_ranks(const Plan& plan, Question& question) {
  TierOptions& tiers = question.options.tiers;
  for (LoadChannel* const way : {&question.options.slot, &question.options.disk}) {
    if (std::isfinite(way->bytes_per_s))
      way->bytes_per_s /= 2;
    else
      way->latency_s *= 2;  // nobody knows what of it is for the bytes
  }
  if (plan.host_bytes_known) {
    std::uint32_t host = tiers.max_cpu_loras;
    while (host > 0 && plan.host_bytes[host].value > plan.host_memory_limit.value / 2) --host;
    tiers.max_cpu_loras = host;
  }
  if (plan.slot_bytes.value > 0) {
    const std::uint64_t slots = plan.gpu_memory_limit.value / 2 / plan.slot_bytes.value;
    tiers.max_loras = static_cast<std::uint32_t>(std::min<std::uint64_t>(tiers.max_loras, slots));
  }
  tiers.max_loras = std::min(tiers.max_loras, tiers.max_cpu_loras);
  question.fits = tiers.max_loras > 0 && 2 * plan.max_lora_rank <= vllm_lora_ranks().back();
}

struct Simulated {
  Result<EventOutcome> outcome = fail(Errc::kInvalid, "not simulated");
  std::uint64_t first_uses = 0;  // adapters used
};

Simulated simulate(const Question& question, const Trace& trace, const BatchStream& stream,
                   std::uint64_t first_uses) {
  if (!question.changed) return {simulate_events(trace, stream, question.options), first_uses};
  const Trace changed = question.changed();
  if (question.same_uses) return {simulate_events(changed, stream, question.options), first_uses};
  return {simulate_events(changed, question.options), changed.rows()};
}

WhatIf answer_of(const Plan& plan, const Question& question, const EventOutcome& outcome,
                 std::uint64_t adapters_used) {
  WhatIf answer;
  answer.change = question.change;
  answer.max_loras = question.options.tiers.max_loras;
  answer.max_cpu_loras = question.options.tiers.max_cpu_loras;
  const HierarchyCounts& counts = outcome.counts;
  const auto uses = static_cast<double>(counts.gpu_hits + counts.host_to_device_loads + counts.refused_uses);
  if (!(uses > 0) || outcome.requests == 0) return answer;
  const auto first_uses = static_cast<double>(adapters_used);
  answer.fits = true;
  answer.gpu_hits = static_cast<double>(counts.gpu_hits) / uses;
  answer.disk_loads = std::max(0.0, static_cast<double>(counts.disk_loads) - first_uses) / uses;
  answer.waited = static_cast<double>(outcome.waited_for_slot) / static_cast<double>(outcome.requests);
  answer.delay_p99_s = outcome.delay.p99;
  answer.too_many_wait = answer.waited > plan.max_wait_probability;
  answer.meets_target = outcome.refused == 0 && answer.disk_loads <= plan.target_disk_loads;
  return answer;
}

}  // namespace

Result<Unit> fill_what_ifs(Plan& plan, const Trace& trace, const BatchStream& stream,
                           const EventOutcome& today, Executor& executor) {
  EventOptions unchanged = wait_options(plan);
  unchanged.tiers.max_loras = plan.chosen.max_loras;
  unchanged.tiers.max_cpu_loras = plan.chosen.max_cpu_loras;
  std::vector<Question> questions;
  for (std::size_t i = 0; i < kChanges; ++i)
    questions.push_back({change_text(Change{static_cast<std::uint8_t>(i)}, plan.changes), unchanged});
  const auto asked = [&](Change change) -> Question& { return questions[static_cast<std::size_t>(change)]; };
  asked(Change::kTraffic).changed = [&] { return with_traffic(trace, 2); };
  asked(Change::kReplica).changed = [&] { return with_traffic(trace, traffic_without_one(plan.changes)); };
  asked(Change::kBursts).changed = [&] { return with_bursts(trace, kBurst, kBurstPeriodS); };
  asked(Change::kSplit).changed = [&] { return with_split_adapters(trace, 2, kSeed); };
  asked(Change::kAdapters).changed = [&] { return with_more_adapters(trace, 0.5, kSeed); };
  asked(Change::kBusiest).changed = [&] { return with_busiest_twice(trace); };
  for (const Change change : {Change::kSplit, Change::kAdapters, Change::kBusiest})
    asked(change).same_uses = false;
  double_ranks(plan, asked(Change::kRank));
  asked(Change::kSlowDisk).options.disk.latency_s *= 4;
  asked(Change::kSlowDisk).options.disk.bytes_per_s /= 4;
  asked(Change::kObjectStore).options.disk = {plan.changes.store_load_s};

  std::vector<Simulated> answers(questions.size());
  executor.run(questions.size(), [&](std::size_t i) {
    if (i == static_cast<std::size_t>(Change::kNothing))
      answers[i] = {today, plan.adapters};
    else if (!questions[i].fits)
      answers[i] = {EventOutcome{}, plan.adapters};
    else
      answers[i] = simulate(questions[i], trace, stream, plan.adapters);
  });
  for (std::size_t i = 0; i < questions.size(); ++i) {
    if (!answers[i].outcome) return fail(std::move(answers[i].outcome.error()));
    plan.what_ifs.push_back(answer_of(plan, questions[i], *answers[i].outcome, answers[i].first_uses));
  }
  return Unit{};
}

}  // namespace loracle::detail
