#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/advice.hpp"
#include "loracle/sim/confidence.hpp"
#include "loracle/sim/model_geometry.hpp"
#include "plan_format.hpp"
#include "plan_load_times.hpp"
#include "plan_money.hpp"
#include "plan_sentences.hpp"
#include "plan_sizes.hpp"

namespace loracle::detail {
namespace {

/// "1.2 GiB -> 640 MiB"
std::string bytes_change(Bytes from, Bytes to) {
  return from == to ? human_bytes(from) : fmt::format("{} -> {}", human_bytes(from), human_bytes(to));
}

const char* words_of(Advice advice) {
  switch (advice) {
    case Advice::kKeep:
      return "keep today's setting; the choice ";
    case Advice::kChange:
      return "change advised; the choice ";
    case Advice::kNotEnoughData:
      return "NOT ENOUGH DATA to judge today's setting; the choice ";
    case Advice::kNotAsked:
    case Advice::kInfeasible:
      break;
  }
  return "";
}

/// The largest rank that vLLM accepts, below the plan's and worth training, with which so many slots fit the
/// GPU memory given; 0: none.
std::uint32_t rank_that_fits(const Plan& plan, std::uint32_t slots) {
  constexpr std::uint32_t kRankMin = 8;
  std::uint32_t fits = 0;
  for (const std::uint32_t rank : vllm_lora_ranks())
    if (rank >= kRankMin && rank < plan.max_lora_rank &&
        lora_bytes(plan.modules, rank, plan.element_bytes).value * slots <= plan.gpu_memory_limit.value)
      fits = rank;
  return fits;
}

/// "8.8 GiB", no less than `bytes`: the plan is made again with what is printed.
std::string enough_text(Bytes bytes) {
  std::uint64_t unit = 1;
  while (bytes.value / unit >= 1024) unit *= 1024;
  const std::uint64_t tenths = (bytes.value * 10 + unit - 1) / unit;
  return human_bytes(Bytes{(tenths * unit + 9) / 10});
}

/// "slots 8.8 GiB of GPU memory (they have 2.0 GiB)".
std::string room_text(std::string_view who, Bytes needed, std::string_view memory, Bytes limit) {
  return fmt::format("{} {} of {} memory (they have {})", who, enough_text(needed), memory,
                     human_bytes(limit));
}

/// How adapters of lower ranks would fit; `rank` is the largest with which they do.
std::string rank_text(const Plan& plan, std::uint32_t rank) {
  if (const std::uint32_t needed = vllm_lora_rank_for(plan.largest_rank);
      plan.largest_rank > 0 && needed <= rank)
    return fmt::format("set --max-lora-rank {}, which holds every rank in the trace", needed);
  if (plan.rank_known) return fmt::format("train those of a higher rank anew, of rank {} or less", rank);
  return fmt::format("serve adapters of rank {} or less (--max-lora-rank {})", rank, rank);
}

/// What would make room for plan.enough; several ways.
std::vector<std::string> ways_out(const Plan& plan) {
  const Bytes gpu{plan.slot_bytes.value * plan.enough->max_loras};
  const Bytes host = largest_together(plan.host_bytes, plan.enough->max_cpu_loras);
  const bool gpu_is_short = gpu > plan.gpu_memory_limit;
  const bool host_is_short = host > plan.host_memory_limit;
  std::vector<std::string> rooms;
  if (gpu > plan.gpu_memory_given) rooms.push_back(room_text("slots", gpu, "GPU", plan.gpu_memory_given));
  if (plan.memory.kv_pool.value > 0 && gpu > plan.memory.kv_pool)
    rooms.push_back(fmt::format(
        "the server {} of GPU memory and what its KV cache needs (it has {}, {} of them beside the weights)",
        enough_text(server_memory(plan, gpu)), human_bytes(plan.cost_options.gpu_memory),
        human_bytes(plan.memory.kv_pool)));
  if (host_is_short) rooms.push_back(room_text("adapters", host, "host", plan.host_memory_limit));
  std::vector<std::string> ways;
  if (!rooms.empty()) ways.push_back(fmt::format("give {}", fmt::join(rooms, ", and ")));
  if (const std::uint32_t rank = rank_that_fits(plan, plan.enough->max_loras);
      rank > 0 && gpu_is_short && !host_is_short)
    ways.push_back(rank_text(plan, rank));
  return ways;
}

}  // namespace

std::uint32_t slots_of(const Plan& plan, const AdvisoryRow& row) noexcept {
  return row.current ? plan.current.max_loras : row.cell.max_loras;
}

std::string confidence_text(const Plan& plan) {
  constexpr double kWeekS = 7 * 86400;
  const Certainty& certainty = plan.certainty;
  const bool is_known =
      certainty.blocks >= kBlocksMin && plan.active.known && plan.assumed_durations == 0 && !plan.is_short;
  std::string text = fmt::format("confidence: {}", !is_known               ? "low"
                                                   : plan.span_s >= kWeekS ? "high"
                                                                           : "medium");
  if (plan.span_s > 0) text += ", " + seconds_text(plan.span_s);
  if (certainty.regimes > 0) text += ", " + counted(certainty.regimes, "regime");
  return text + ", " + load_times_mark(plan);
}

std::string judgement_text(const Plan& plan) { return words_of(advice_of(plan)) + verdict_text(plan); }

std::string headline_text(const Plan& plan) {
  return fmt::format("{} ({})", judgement_text(plan), confidence_text(plan));
}

std::string change_text(const Plan& plan) {
  if (!plan.current.known) return {};
  const AdvisoryRow& today = plan.current.row;
  const AdvisoryRow* const row = row_of_choice(plan);
  const std::string pair = fmt::format("today's {} and {} in host memory",
                                       counted(plan.current.max_loras, "slot"), plan.current.max_cpu_loras);
  if (row == nullptr || row->current) return fmt::format("As {}: the choice is the same.", pair);
  std::string text =
      fmt::format("Against {}: slot hits {} -> {}", pair, share_text(today.served.gpu_hits, plan.uses),
                  share_text(row->served.gpu_hits, plan.uses));
  if (today.waited >= 0 && row->waited >= 0)
    text +=
        fmt::format(", requests that wait for a slot {} -> {}{}, p99 delay {} -> {}",
                    share_text(today.waited), share_text(row->waited), interval_text(plan.certainty.waited),
                    seconds_text(today.delay_p99_s), seconds_text(row->delay_p99_s));
  text += fmt::format(", disk loads beyond first uses {} -> {}",
                      share_text(excess_disk_loads(plan, today.served)),
                      share_text(excess_disk_loads(plan, row->served)));
  if (row->slot_memory.value > 0) text += ", GPU memory " + bytes_change(today.slot_memory, row->slot_memory);
  if (row->host_memory.value > 0)
    text += ", host memory " + bytes_change(today.host_memory, row->host_memory);
  return text + ".";
}

std::string way_out_text(const Plan& plan) {
  const bool is_too_few = plan.verdict == PlanVerdict::kInfeasible;
  std::vector<std::string> ways;
  if (plan.enough) ways = ways_out(plan);
  if (is_too_few && plan.floor_from != SlotsBound::kLargestRequest)
    ways.emplace_back("share the adapters among several servers, each adapter at one of them");
  if (ways.empty()) return {};
  const std::string pair =
      plan.enough
          ? fmt::format("{} and {} in host memory are enough{}", counted(plan.enough->max_loras, "slot"),
                        counted(plan.enough->max_cpu_loras, "adapter"),
                        !plan.active.known        ? " (who waits is not known)"
                        : plan.costs.choice.asked ? ", simulated (cost and SLO aside)"
                                                  : ", simulated")
          : fmt::format("Of up to {} none are enough", counted(plan.grid.max_loras.back(), "slot"));
  return fmt::format("{}: {}.", pair, fmt::join(ways, "; or "));
}

std::string risk_text(const Plan& plan) {
  std::vector<std::pair<std::string, std::string>> broken;  // what breaks, and with which changes
  for (std::size_t i = 1; i < plan.what_ifs.size(); ++i) {
    const WhatIf& row = plan.what_ifs[i];
    if (row.fits && !row.too_many_wait && row.meets_target) continue;
    const std::string note = note_text(plan, row);
    const auto same =
        std::find_if(broken.begin(), broken.end(), [&note](const auto& one) { return one.first == note; });
    if (same == broken.end())
      broken.emplace_back(note, row.change);
    else
      same->second += ", " + row.change;
  }
  std::string text = plan.traffic_limit.limit < 0 ? "How much more traffic it holds: " : "Holds ";
  text += headroom_text(plan);
  if (text.back() != '.') text += '.';
  for (const auto& [note, changes] : broken)
    text += fmt::format("{}{} ({})", &note == &broken.front().first ? " Does not hold with: " : "; ", changes,
                        note);
  return text + (broken.empty() ? "" : ".");
}

std::string wrong_if_text(const Plan& plan) {
  const std::string slots = counted(plan.chosen.max_loras, "adapter");
  const std::string active =
      plan.active.known
          ? fmt::format("over {} of requests find more than {} in use at once (here p99 is {}, p99.9 {})",
                        share_text(plan.max_wait_probability), slots, plan.active.p99, plan.active.p999)
          : fmt::format("requests find more than {} in use at once, which this trace cannot tell", slots);
  const std::string rank =
      plan.rank_known || plan.rank_given
          ? ""
          : fmt::format("adapters have a higher rank than {}, of which this trace says nothing; or ",
                        plan.max_lora_rank);
  return fmt::format(
      "{}; or {}loads take longer than {} into a slot or {} from disk; or popularity moves as it never did "
      "in this trace.",
      active, rank, seconds_text(plan.slot_load_s), seconds_text(plan.disk_load_s));
}

}  // namespace loracle::detail
