#include "plan_evidence.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/summary.hpp"
#include "loracle/traces/transform.hpp"
#include "plan_format.hpp"
#include "plan_load_times.hpp"
#include "plan_money.hpp"

namespace loracle::detail {
namespace {

/// A round number of seconds that cuts `span` into at most `windows`.
double round_window(double span, double windows) {
  static constexpr std::array<double, 15> kRound = {0.1,  1,     5,     15,    60,     300,    900,    3600,
                                                    7200, 21600, 43200, 86400, 172800, 604800, 2592000};
  for (const double window : kRound)
    if (span / window <= windows) return window;
  return span / windows;
}

std::vector<std::uint32_t> curve_sizes(const Plan& plan) {
  std::vector<std::uint32_t> sizes = {plan.chosen.max_loras, plan.chosen.max_cpu_loras,
                                      static_cast<std::uint32_t>(plan.adapters)};
  // Each size costs a replay per policy; long traces get every octave, short ones every half.
  const bool halves = plan.uses < 500'000;
  for (std::uint64_t size = 1; size < plan.adapters; size *= 2) {
    sizes.push_back(static_cast<std::uint32_t>(size));
    if (halves && size >= 2 && size + size / 2 < plan.adapters)
      sizes.push_back(static_cast<std::uint32_t>(size + size / 2));
  }
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

std::size_t place_of(const Plan& plan, std::uint32_t entries) {
  const auto found = std::lower_bound(plan.curve_entries.begin(), plan.curve_entries.end(), entries);
  return static_cast<std::size_t>(found - plan.curve_entries.begin());
}

PolicyGap gap_at(const Plan& plan, std::uint32_t entries) {
  const std::size_t at = place_of(plan, entries);
  PolicyGap gap;
  gap.entries = entries;
  gap.best = std::numeric_limits<std::uint64_t>::max();
  for (const PolicyCurve& curve : plan.curves) {
    const std::uint64_t misses = curve.misses[at];
    if (curve.policy == "lru") gap.lru = misses;
    if (curve.policy == "belady") gap.belady = misses;
    if (curve.clairvoyant || curve.bypasses[at] > 0 || misses >= gap.best) continue;
    gap.best = misses;
    gap.best_policy = curve.policy;
  }
  const auto closed = static_cast<double>(gap.lru - gap.best);
  const auto whole = static_cast<double>(gap.lru) - static_cast<double>(gap.belady);
  gap.policy_matters = whole > 0 && closed / whole >= 0.1 && closed >= 0.005 * static_cast<double>(plan.uses);
  return gap;
}

/// Each policy once, under its own name; those that the gap is measured between always.
Result<std::vector<std::string>> canonical_names(std::span<const std::string> policies) {
  std::vector<std::string> names;
  for (const std::string& written : policies) {
    Result<PolicySpec> spec = parse_policy_spec(written);
    if (!spec) return fail(std::move(spec.error()));
    // Aliases become names, so that "opt" is seen to be belady.
    const std::size_t parameters = written.find(':');
    std::string name = spec->name + (parameters == std::string::npos ? "" : written.substr(parameters));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  for (const char* needed : {"lru", "belady"})
    if (std::find(names.begin(), names.end(), needed) == names.end()) names.emplace_back(needed);
  return names;
}

/// Misses of each policy at curve_sizes. REQUIRES: next uses are known.
Result<Unit> fill_curves(Plan& plan, const UseStream& stream, const LruCurve& lru,
                         const std::vector<std::string>& names, Executor& executor) {
  plan.curve_entries = curve_sizes(plan);
  plan.lru_misses = lru.misses_at;
  std::vector<ReplayJob> jobs;
  for (const std::string& name : names) {
    if (name == "lru") continue;  // the curve has it
    for (const std::uint32_t entries : plan.curve_entries) {
      Capacity capacity;
      capacity.entries = entries;
      jobs.push_back({name, capacity});
    }
  }
  const auto results = replay_all(stream, SizeUnit::kObjects, jobs, executor);
  if (!results) return fail(results.error());
  std::size_t job = 0;
  for (const std::string& name : names) {
    PolicyCurve curve;
    curve.policy = name;
    curve.clairvoyant = is_clairvoyant(*parse_policy_spec(name));
    for (const std::uint32_t entries : plan.curve_entries) {
      const ReplayCounts* counts = name == "lru" ? nullptr : &(*results)[job++].counts;
      curve.misses.push_back(counts == nullptr ? lru.misses(entries) : counts->misses);
      curve.bypasses.push_back(counts == nullptr ? 0 : counts->bypasses);
    }
    plan.curves.push_back(std::move(curve));
  }
  return Unit{};
}

/// The table and the gaps, at the chosen sizes, from the curves.
void fill_rows(Plan& plan) {
  const std::size_t device = place_of(plan, plan.chosen.max_loras);
  const std::size_t host = place_of(plan, plan.chosen.max_cpu_loras);
  for (const PolicyCurve& curve : plan.curves)
    plan.policies.push_back({curve.policy, curve.clairvoyant,
                             curve.bypasses[device] + curve.bypasses[host] > 0, curve.misses[device],
                             curve.misses[host]});
  std::stable_sort(plan.policies.begin(), plan.policies.end(), [](const PolicyRow& a, const PolicyRow& b) {
    return std::pair(a.clairvoyant, a.device_misses) < std::pair(b.clairvoyant, b.device_misses);
  });
  plan.device_gap = gap_at(plan, plan.chosen.max_loras);
  plan.host_gap = gap_at(plan, plan.chosen.max_cpu_loras);
}

/// What makes the advice doubtful: the trace itself, or what slots leave the server.
void fill_cautions(Plan& plan) {
  constexpr double kFewest = 10;        // that a share must stand on
  constexpr double kLongestS = 600;     // half of all requests
  constexpr double kLongS = 60;         // the same, in a trace
  constexpr double kLongestPart = 4;    // of which this part is as short
  constexpr double kWideGapS = 10;      // between requests on average, and
  constexpr double kGaps = 100;         // as many of them
  constexpr double kSkipped = 0.01;     // of the lines
  constexpr double kMostOfCache = 0.5;  // that slots may take
  const auto stands_on_few = [](double share, std::uint64_t of) {
    return share > 0 && share * static_cast<double>(of) < kFewest;
  };
  const bool waits =
      plan.active.known && stands_on_few(plan.max_wait_probability, plan.requests_with_adapter);
  plan.is_short = waits || stands_on_few(plan.target_disk_loads, plan.uses);
  if (plan.is_short) {
    plan.cautions.push_back(
        fmt::format("The trace is short: {} of its {} are fewer than ten, and so few are left to chance. Use "
                    "a longer one.",
                    share_text(waits ? plan.max_wait_probability : plan.target_disk_loads),
                    waits ? counted(plan.requests_with_adapter, "request") + " with an adapter"
                          : counted(plan.uses, "use")));
  }
  const std::uint64_t lines = plan.requests + plan.skipped_lines;
  if (static_cast<double>(plan.skipped_lines) > kSkipped * static_cast<double>(lines))
    plan.cautions.push_back(
        fmt::format("{} of {} were bad and are not in this plan. Is the trace of another format "
                    "(--trace-format)?",
                    share_text(plan.skipped_lines, lines), counted(lines, "line")));
  const Bytes slots{plan.slot_bytes.value * plan.chosen.max_loras};
  if (static_cast<double>(slots.value) > kMostOfCache * static_cast<double>(plan.memory.kv_pool.value) &&
      plan.memory.kv_pool.value > 0)
    plan.cautions.push_back(
        fmt::format("The slots take {} of the memory that the KV cache would have without them ({} of {}): "
                    "few requests fit in what is left. Give the server more GPU memory, or fewer adapters.",
                    share_text(slots.value, plan.memory.kv_pool.value), human_bytes(slots),
                    human_bytes(plan.memory.kv_pool)));
  if (const Bytes pinned = pinned_memory(plan); pinned > plan.host_memory_limit)
    plan.cautions.push_back(fmt::format(
        "vLLM pins up to {} of host memory for {}, more than the {} given: it rounds each tensor up "
        "to a power of two. Give it that much, or lower --max-cpu-loras.",
        human_bytes(pinned), counted(plan.chosen.max_cpu_loras, "adapter"),
        human_bytes(plan.host_memory_limit)));
  if (plan.format == "openai" && plan.mapping == "lora")
    plan.cautions.emplace_back(
        "Every model that the log names counts as an adapter, the base model too if it is among them: "
        "leave it out with --map lora:base=NAME.");
  if (2 * plan.assumed_durations > plan.requests_with_adapter)
    plan.cautions.push_back(fmt::format(
        "{} that have a duration stand for all {}. If the others hold their slots longer, the slots are too "
        "few.",
        counted(plan.requests_with_adapter - plan.unknown_durations, "request"),
        count_text(plan.requests_with_adapter)));
  if (plan.duration_median_s > kLongestS ||
      (plan.span_s > 0 && plan.duration_median_s > std::max(kLongS, plan.span_s / kLongestPart))) {
    plan.cautions.push_back(fmt::format(
        "Half of the requests hold their slots for {} or longer. If the trace counts milliseconds, call them "
        "duration_ms, not duration_s: in JSONL, or in the column map of a CSV.",
        seconds_text(plan.duration_median_s)));
  }
  // Milliseconds taken for seconds: whole numbers, and so far apart that requests never meet.
  const double gap_s = plan.span_s / static_cast<double>(std::max<std::uint64_t>(plan.requests, 1));
  if (plan.has_whole_arrivals && static_cast<double>(plan.requests) >= kGaps && gap_s >= kWideGapS &&
      gap_s > plan.duration_median_s) {
    plan.cautions.push_back(fmt::format(
        "Requests come {} apart on average, all at whole seconds. If the trace counts "
        "milliseconds, divide its arrival_s by 1,000: it has requests that meet, and this plan has "
        "not seen them.",
        seconds_text(gap_s)));
  }
}

}  // namespace

std::vector<RankCount> popularity_ranks(const UseStream& stream) {
  const std::vector<std::uint64_t> counts = popularity(stream);
  std::vector<RankCount> ranks;
  for (std::uint64_t rank = 1; rank <= counts.size();) {
    ranks.push_back({rank, counts[rank - 1]});
    if (rank == counts.size()) break;
    const std::uint64_t step = rank < 100 ? 1 : rank / 32;
    rank = std::min<std::uint64_t>(rank + step, counts.size());
  }
  return ranks;
}

std::vector<DistanceBin> distance_bins(const LruCurve& curve) {
  std::vector<DistanceBin> bins;
  const std::uint64_t last = curve.hits_at_distance.empty() ? 0 : curve.hits_at_distance.size() - 1;
  for (std::uint64_t low = 1; low <= last;) {
    // 1, 2, 3, 4-5, 6-7, 8-11, 12-15, 16-23, ...
    std::uint64_t octave = 1;
    while (octave * 2 <= low) octave *= 2;
    const std::uint64_t high =
        std::min(last, low < octave + octave / 2 ? octave + octave / 2 - 1 : 2 * octave - 1);
    DistanceBin bin{low, std::max(low, high), 0};
    for (std::uint64_t d = bin.low; d <= bin.high; ++d) bin.uses += curve.hits_at_distance[d];
    bins.push_back(bin);
    low = bin.high + 1;
  }
  return bins;
}

Result<Unit> fill_working_set(Plan& plan, const Trace& trace, const UseStream& stream) {
  constexpr double kWindowsMax = 200;
  if (plan.span_s > 0) {
    plan.window = round_window(plan.span_s, kWindowsMax);
    const auto windows = working_set_over_time(trace, plan.window);
    if (!windows) return fail(windows.error());
    for (const WorkingSetWindow& window : *windows)
      plan.working_set.push_back({window.begin_s - windows->front().begin_s, window.distinct, window.uses});
    return Unit{};
  }
  // No times: stretches of so many uses.
  const auto length = static_cast<std::uint64_t>(std::ceil(static_cast<double>(plan.uses) / kWindowsMax));
  plan.window = static_cast<double>(length);
  std::vector<std::uint64_t> seen_in(stream.rows, 0);  // the stretch, from 1, an adapter was last counted in
  const auto uses = stream.uses.view();
  for (std::uint64_t use = 0; use < uses.size(); ++use) {
    if (use % length == 0) plan.working_set.push_back({static_cast<double>(use), 0, 0});
    const std::uint64_t stretch = plan.working_set.size();
    ++plan.working_set.back().uses;
    if (std::exchange(seen_in[index_of(uses[use])], stretch) != stretch) ++plan.working_set.back().distinct;
  }
  return Unit{};
}

Result<Unit> fill_policies(Plan& plan, UseStream& stream, const LruCurve& lru,
                           std::span<const std::string> policies, Executor& executor) {
  const auto names = canonical_names(policies);
  if (!names) return fail(names.error());
  if (stream.next_use.empty()) compute_next_uses(stream);
  if (auto filled = fill_curves(plan, stream, lru, *names, executor); !filled) return filled;
  fill_rows(plan);
  return Unit{};
}

void fill_caveats(Plan& plan) {
  fill_cautions(plan);
  auto& says = plan.assumptions;
  says.push_back(fmt::format("Requests name adapters by mapping '{}'{}.",
                             plan.mapping.empty() ? "none" : plan.mapping,
                             plan.trace_note.empty() ? "" : "; " + plan.trace_note));
  says.push_back(
      fmt::format("First uses ({} of uses) must load from disk at any size; the target leaves them out.",
                  share_text(plan.adapters, plan.uses)));
  if (plan.rank_given) {
    says.push_back(fmt::format("max_lora_rank {} was given.", plan.max_lora_rank));
  } else if (plan.rank_known) {
    says.push_back(
        fmt::format("max_lora_rank {} is the smallest vLLM accepts that holds every rank in the trace.",
                    plan.max_lora_rank));
  } else {
    says.push_back(
        fmt::format("max_lora_rank {} is vLLM's default: the trace has no ranks.", plan.max_lora_rank));
  }
  if (plan.has_model) {
    std::string names;
    for (const LinearModule& module : plan.modules) names += (names.empty() ? "" : ", ") + module.name;
    says.push_back(fmt::format("A slot of {} holds rank {} on {}, {} bytes an element: {} bytes.",
                               plan.model.name, plan.max_lora_rank, names, plan.element_bytes,
                               count_text(plan.slot_bytes.value)));
    if (plan.model.experts > 0 && plan.targets != "all-linear")
      says.emplace_back("Mixture of experts: the experts' own layers are not counted as LoRA targets.");
    says.emplace_back(
        "LoRA on the embedding and lm_head is not counted unless named as a target; with tensor "
        "parallelism each GPU holds about its share of a slot.");
  } else {
    says.emplace_back("No model was given: the memory of a slot is not known, and no GPU limit applies.");
  }
  if (plan.host_bytes_known)
    says.emplace_back("Host memory is what the largest max_cpu_loras adapters of the trace take together.");

  auto& wrong = plan.limits;
  wrong.emplace_back(
      "Requests are taken to hold their slots as long as the trace says, or is taken to say: batches that "
      "slow each other down are not modelled.");
  if (plan.active.known) {
    wrong.push_back(
        fmt::format("Requests wait for a slot whenever more than {} adapters are active at once; in this "
                    "trace arrivals find at most {} in 99 % and {} in 99.9 % of cases.",
                    plan.chosen.max_loras, plan.active.p99, plan.active.p999));
    says.push_back(load_times_text(plan));
    if (std::string beyond = extrapolation_text(plan); !beyond.empty()) wrong.push_back(std::move(beyond));
    if (plan.assumed_durations > 0)
      says.push_back(fmt::format(
          "{} of requests have no duration (duration_s): each is taken to hold its slot as long as "
          "another one does, of the same adapter where {} or more say so. If they hold longer, "
          "more wait than shown.",
          share_text(plan.assumed_durations, plan.requests_with_adapter), kOwnDurationsMin));
    else if (plan.unknown_durations > 0)
      wrong.push_back(
          fmt::format("{} of requests have no duration and count as holding no slot: waits are a "
                      "little more than shown.",
                      share_text(plan.unknown_durations, plan.requests_with_adapter)));
  } else {
    wrong.push_back(fmt::format(
        "{}: how many adapters are active at once is unknown. Check that it stays below max_loras, "
        "or requests will wait for a slot.",
        plan.span_s < 0               ? "The trace has no arrival times"
        : plan.unknown_durations == 0 ? "The trace has no durations"
                                      : share_text(plan.unknown_durations, plan.requests_with_adapter) +
                                            " of requests have no duration"));
  }
  wrong.push_back(fmt::format("One trace{} is taken as typical: no interval knows what it does not hold.",
                              plan.span_s > 0 ? " of " + seconds_text(plan.span_s) : ""));
}

}  // namespace loracle::detail
