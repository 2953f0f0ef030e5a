#include "loracle/sim/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <optional>
#include <utility>

#include "chart_data.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/transform.hpp"
#include "plan_advisory.hpp"
#include "plan_bounds.hpp"
#include "plan_certainty.hpp"
#include "plan_evidence.hpp"
#include "plan_headroom.hpp"
#include "plan_load_times.hpp"
#include "plan_money.hpp"
#include "plan_rules.hpp"
#include "plan_sentences.hpp"
#include "plan_sizes.hpp"
#include "plan_what_if.hpp"
#include "running.hpp"

namespace loracle {
namespace {

// Requests of unknown duration are taken to hold no slot where they are no larger a share than this, or than
// what may wait; where they are more, each is taken to hold its slot as long as another one does.
constexpr double kUnknownDurationsMax = 0.01;
// With fewer known ones there is nothing that the others could be taken to be like.
constexpr std::uint64_t kKnownDurationsMin = 30;

Result<Unit> check_options(const PlanOptions& options) {
  if (!(options.target_disk_loads >= 0 && options.target_disk_loads <= 1))
    return fail(Errc::kInvalid, "the target for disk loads must be a share from 0 to 1 of the uses");
  if (!(options.max_wait_probability >= 0 && options.max_wait_probability < 1))
    return fail(Errc::kInvalid, "the share of requests that may wait must be from 0 to below 1");
  if (!(options.slot_worth >= 0 && options.slot_worth_time >= 0 && options.slot_load_s >= 0 &&
        options.disk_load_s >= 0))
    return fail(Errc::kInvalid, "what a slot must save, and what a load takes, must be 0 or more");
  if (options.current_max_loras == 0 && options.current_max_cpu_loras > 0)
    return fail(Errc::kInvalid,
                "today's host memory alone says nothing: give today's slots too, vLLM's default is 1");
  if (options.current_max_cpu_loras > 0 && options.current_max_cpu_loras < options.current_max_loras)
    return fail(Errc::kInvalid,
                fmt::format("today's {} adapters in host memory are fewer than the {} slots, which vLLM "
                            "refuses: what is in a slot is there too",
                            options.current_max_cpu_loras, options.current_max_loras));
  if (options.model.empty() && options.gpu_memory != Bytes::max())
    return fail(
        Errc::kInvalid,
        "a limit on GPU memory needs the model: give its name or config.json, so that a slot can be sized");
  if (options.changes.replicas < 2)
    return fail(Errc::kInvalid,
                "a service of one replica cannot lose it and go on: say 2 or more, or nothing");
  if (!(options.changes.store_load_s >= 0))
    return fail(Errc::kInvalid, "a load from object storage must take 0 seconds or more");
  return check_cost_options(options.costs, !options.model.empty());
}

/// What is known of how long the requests with an adapter hold it, and the trace in which enough is.
Trace fill_durations(Plan& plan, const Trace& trace, const BatchStream& stream) {
  std::vector<float> known_s;
  if (trace.duration_s.empty()) return trace;
  for (std::uint64_t i = 0; i < stream.requests(); ++i)
    if (const float lasts_s = trace.duration_s[stream.origin[i]]; detail::holds(lasts_s))
      known_s.push_back(lasts_s);
  if (known_s.empty()) return trace;
  const auto middle = known_s.begin() + std::ssize(known_s) / 2;
  std::nth_element(known_s.begin(), middle, known_s.end());
  plan.duration_median_s = static_cast<double>(*middle);
  if (trace.arrival_s.empty()) return trace;
  plan.unknown_durations = stream.requests() - known_s.size();
  const bool are_few =
      static_cast<double>(plan.unknown_durations) <=
      std::min(kUnknownDurationsMax, plan.max_wait_probability) * static_cast<double>(stream.requests());
  plan.active.known = are_few || known_s.size() >= kKnownDurationsMin;
  if (are_few || !plan.active.known) return trace;
  plan.assumed_durations = plan.unknown_durations;
  return with_assumed_durations(trace);
}

void fill_trace(Plan& plan, const Trace& trace, const BatchStream& stream) {
  plan.source = trace.source;
  plan.format = trace.format;
  plan.mapping = trace.mapping;
  plan.requests = trace.requests;
  plan.skipped_lines = trace.skipped_lines;
  plan.requests_with_adapter = stream.requests();
  for (std::uint64_t i = 0; i < stream.requests(); ++i)
    if (stream.batch(i).size() > 1) ++plan.requests_with_several;
  plan.largest_request = stream.batch_max;
  plan.uses = stream.uses.uses.size();
  if (!trace.arrival_s.empty()) {
    const double first = trace.arrival_s[0];
    plan.span_s = trace.arrival_s[trace.arrival_s.size() - 1] - first;
    plan.has_whole_arrivals = true;
    for (std::size_t i = 0; i < trace.arrival_s.size() && plan.has_whole_arrivals; ++i)
      plan.has_whole_arrivals = std::floor(trace.arrival_s[i] - first) == trace.arrival_s[i] - first;
  }
}

/// REQUIRES: the durations are known.
Result<Unit> fill_active(Plan& plan, const Trace& trace, const BatchStream& stream) {
  Result<ActivityCurve> activity = activity_curve(trace, stream);
  if (!activity) return fail(std::move(activity.error()));
  plan.active = {true,
                 activity->active_mean(),
                 activity->active_quantile(0.5),
                 activity->active_quantile(0.99),
                 activity->active_quantile(0.999),
                 static_cast<std::uint32_t>(activity->arrivals_at.size() - 1)};
  plan.activity = std::move(*activity);
  return Unit{};
}

/// What was asked, as the plan repeats it.
void fill_options(Plan& plan, const PlanOptions& options) {
  plan.trace_note = options.trace_note;
  plan.reproduce = options.reproduce;
  plan.targets = options.targets;
  plan.dtype = options.dtype;
  plan.tiers = options.tiers;
  plan.gpu_memory_given = options.gpu_memory;
  plan.gpu_memory_limit = options.gpu_memory;
  plan.host_memory_limit = options.host_memory;
  plan.target_disk_loads = options.target_disk_loads;
  plan.max_wait_probability = options.max_wait_probability;
  plan.slot_worth_time = options.slot_worth_time;
  plan.slot_worth = options.slot_worth;
  plan.cost_options = options.costs;
  plan.changes = options.changes;
}

/// What is said of the choice. `waits`: null where they are unknown.
Result<Unit> explain(Plan& plan, const Trace& trace, BatchStream& stream, const LruCurve& lru,
                     const PlanOptions& options, detail::WaitSimulator* waits, Executor& executor) {
  if (options.what_ifs)
    if (const auto known = detail::fill_breakpoints(plan, trace, stream, executor); !known)
      return fail(known.error());
  detail::fill_advisory(plan);
  if (waits != nullptr) {
    if (const auto filled = detail::fill_waits(plan, *waits, executor); !filled) return fail(filled.error());
    if (options.what_ifs)
      if (const auto asked = detail::fill_what_ifs(plan, trace, stream, waits->at(plan.chosen), executor);
          !asked)
        return fail(asked.error());
  }

  if (const auto judged = detail::fill_current(plan, options, stream, waits, executor); !judged)
    return fail(judged.error());
  detail::fill_costs(plan);

  const EventOutcome* const simulated = waits != nullptr ? &waits->at(plan.chosen) : nullptr;
  if (const auto filled =
          detail::fill_certainty(plan, trace, stream, simulated, waits != nullptr && waits->of_plan_tiers());
      !filled)
    return fail(filled.error());

  const std::array<std::uint32_t, 1> slots = {plan.chosen.max_loras};
  const std::array<std::uint32_t, 1> host = {plan.chosen.max_cpu_loras};
  const auto vllm = sweep_grid(stream, "vllm", slots, host, executor);
  if (!vllm) return fail(vllm.error());
  plan.vllm = vllm->at(0, 0);

  const auto compared = detail::fill_policies(plan, stream.uses, lru, options.policies, executor);
  if (!compared) return fail(compared.error());
  const auto bounded =
      detail::fill_bounds(plan, stream.uses, detail::adapter_sizes(plan, trace, stream.uses), executor);
  if (!bounded) return fail(bounded.error());
  plan.popularity = detail::popularity_ranks(stream.uses);
  plan.distances = detail::distance_bins(lru);
  const auto windows = detail::fill_working_set(plan, trace, stream.uses);
  if (!windows) return fail(windows.error());
  if (const auto filled = detail::fill_chart_data(plan, trace, stream,
                                                  detail::adapter_sizes(plan, trace, stream.uses), executor);
      !filled)
    return fail(filled.error());
  detail::fill_caveats(plan);
  return Unit{};
}

/// Everything that follows from the trace, whose durations are known or will not be.
Result<Unit> fill_plan(Plan& plan, const Trace& trace, BatchStream& stream, const PlanOptions& options,
                       Executor& executor) {
  plan.changes.has_tenants = has_tenants(trace);
  fill_trace(plan, trace, stream);
  if (plan.active.known)
    if (const auto filled = fill_active(plan, trace, stream); !filled) return fail(filled.error());
  const LruCurve lru = lru_curve(stream.uses);
  plan.adapters = lru.compulsory_misses;

  if (detail::knows_the_future(plan.tiers)) compute_next_uses(stream.uses);

  using Step = std::function<Result<Unit>()>;
  const std::array<Step, 5> steps = {
      [&] { return detail::fill_rank(plan, trace, options); },
      [&] { return detail::fill_sizes(plan, trace, stream.uses, options); },
      [&] { return detail::fill_plan_memory(plan, trace, stream.uses); },
      [&] { return detail::fill_limits(plan); },
      [&] { return detail::fill_grid(plan, stream, executor); },
  };
  for (const Step& step : steps)
    if (const auto done = step(); !done) return fail(done.error());
  detail::fill_load_times(plan, trace, detail::adapter_sizes(plan, trace, stream.uses), options);

  detail::choose(plan);
  std::optional<detail::WaitSimulator> waits;
  if (plan.active.known) {
    waits.emplace(plan, trace, stream);
    const auto chosen = options.costs.objective == Objective::kCost
                            ? detail::choose_by_cost(plan, stream, *waits, executor)
                            : detail::raise_floor(plan, *waits, executor);
    if (!chosen) return fail(chosen.error());
  } else if (options.costs.objective == Objective::kCost) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: --objective cost must know how long requests wait, and the trace has no arrival "
                    "times, or durations for too few of them (arrival_s, duration_s)",
                    trace.source));
  }
  if (const auto found = detail::find_enough(plan, waits ? &*waits : nullptr, executor); !found)
    return fail(found.error());
  plan.flags = fmt::format("--enable-lora --max-loras {} --max-cpu-loras {} --max-lora-rank {}",
                           plan.chosen.max_loras, plan.chosen.max_cpu_loras, plan.max_lora_rank);
  plan.reason = detail::reason_of(plan);
  return explain(plan, trace, stream, lru, options, waits ? &*waits : nullptr, executor);
}

}  // namespace

const char* name_of(PlanVerdict verdict) noexcept {
  switch (verdict) {
    case PlanVerdict::kMeetsTarget:
      return "meets_target";
    case PlanVerdict::kMissesTarget:
      return "misses_target";
    case PlanVerdict::kInfeasible:
      break;
  }
  return "infeasible";
}

const char* name_of(SlotsBound bound) noexcept {
  switch (bound) {
    case SlotsBound::kLargestRequest:
      return "largest_request";
    case SlotsBound::kQuantile:
      return "quantile";
    case SlotsBound::kMean:
      return "mean";
    case SlotsBound::kSimulation:
      return "simulation";
    case SlotsBound::kWorth:
      return "worth";
    case SlotsBound::kGpuMemory:
      return "gpu_memory";
    case SlotsBound::kHostMemory:
      return "host_memory";
    case SlotsBound::kAxisEnd:
      return "axis_end";
    case SlotsBound::kCost:
      return "cost";
    case SlotsBound::kEveryAdapter:
      break;
  }
  return "every_adapter";
}

double excess_disk_loads(const Plan& plan, const GridCell& cell) noexcept {
  const std::uint64_t excess = cell.disk_loads > plan.adapters ? cell.disk_loads - plan.adapters : 0;
  return plan.uses == 0 ? 0.0 : static_cast<double>(excess) / static_cast<double>(plan.uses);
}

bool meets_target(const Plan& plan, const GridCell& cell) noexcept {
  return cell.refused == 0 && detail::meets_disk_target(plan, cell);
}

Result<Plan> make_plan(const Trace& trace, const PlanOptions& options, Executor& executor) {
  const auto checked = check_options(options);
  if (!checked) return fail(checked.error());
  auto stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  if (stream->requests() == 0)
    return fail(Errc::kInvalid,
                fmt::format("{}: no request names an adapter; choose a mapping", trace.source));
  Plan plan;
  fill_options(plan, options);
  const Trace with_durations = fill_durations(plan, trace, *stream);
  if (const auto filled = fill_plan(plan, with_durations, *stream, options, executor); !filled)
    return fail(filled.error());
  return plan;
}

}  // namespace loracle
