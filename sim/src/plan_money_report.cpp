#include "plan_money_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/engine_knobs.hpp"
#include "plan_format.hpp"
#include "plan_money.hpp"
#include "plan_sentences.hpp"

namespace loracle::detail {
namespace {

using Json = nlohmann::ordered_json;
using Paragraphs = std::vector<std::pair<std::string_view, std::string>>;

constexpr std::array<CostItem, kCostItems> kItems = {CostItem::kGpu,  CostItem::kKvCache, CostItem::kLoading,
                                                     CostItem::kHost, CostItem::kDisk,    CostItem::kEgress,
                                                     CostItem::kGets};

/// What the lines are called where people read.
std::string_view words_of(CostItem item) noexcept {
  switch (item) {
    case CostItem::kGpu:
      return "GPU";
    case CostItem::kKvCache:
      return "KV lost";
    case CostItem::kLoading:
      return "loading";
    case CostItem::kHost:
      return "host";
    case CostItem::kDisk:
      return "disk";
    case CostItem::kEgress:
      return "egress";
    case CostItem::kGets:
      break;
  }
  return "GETs";
}

const Prices* prices_of(const Plan& plan) noexcept {
  return plan.cost_options.prices ? &*plan.cost_options.prices : nullptr;
}

/// Tokens of KV cache that so many slots take, rounded up.
std::uint64_t tokens_lost(const Plan& plan, std::uint64_t slots) noexcept {
  const std::uint64_t token = plan.memory.kv_token.value;
  return (plan.slot_bytes.value * slots + token - 1) / token;
}

/// The share of the KV cache, and of decode throughput, that the chosen slots take; < 0: unknown.
double share_lost(const Plan& plan, std::uint32_t slots) noexcept {
  if (plan.memory.kv_pool.value == 0 || plan.slot_bytes.value == 0) return -1;
  return static_cast<double>(plan.slot_bytes.value * slots) / static_cast<double>(plan.memory.kv_pool.value);
}

std::string kv_text(const Plan& plan) {
  if (plan.memory.kv_token.value == 0 || plan.slot_bytes.value == 0) return "";
  std::string text = fmt::format("a slot takes the KV cache of {} ({} each, kv-dtype {}), {} take {}",
                                 counted(tokens_lost(plan, 1), "token"), human_bytes(plan.memory.kv_token),
                                 plan.cost_options.kv_dtype, counted(plan.chosen.max_loras, "slot"),
                                 count_text(tokens_lost(plan, plan.chosen.max_loras)));
  const double share = share_lost(plan, plan.chosen.max_loras);
  if (share < 0)
    return text + ". What share of the cache and of decode throughput that is: unknown without --gpu-memory.";
  return text + fmt::format(
                    " of {}: {} of it, and as much of decode throughput where the cache is what bounds "
                    "the batch.",
                    counted(plan.memory.kv_pool.value / plan.memory.kv_token.value, "token"),
                    share_text(share));
}

std::string host_text(const Plan& plan) {
  const PlanMemory& memory = plan.memory;
  if (memory.disk.value == 0) return "";
  std::string text;
  if (!memory.pinned.empty()) {
    const Bytes pinned = pinned_memory(plan);
    text = fmt::format(
        "In host memory vLLM pins up to {} for them: each tensor is rounded up to a power of two, "
        "and every tensor-parallel worker keeps its own.",
        human_bytes(pinned));
    if (pinned > plan.host_memory_limit)
      text += fmt::format(" THAT IS MORE than the {} given.", human_bytes(plan.host_memory_limit));
    text += ' ';
  }
  return text +
         fmt::format("All {} take {} of disk.", counted(plan.adapters, "adapter"), human_bytes(memory.disk));
}

std::string ranks_text(const Plan& plan) {
  std::string text;
  for (const RankShare& one : plan.memory.ranks) {
    if (one.rank == 0 && plan.memory.ranks.size() == 1) return "";
    text += fmt::format("{}{} {} ({} of uses)", text.empty() ? "Ranks in the trace: " : ", ",
                        count_text(one.adapters),
                        one.rank == 0 ? std::string("of unknown rank") : fmt::format("of {}", one.rank),
                        share_text(one.uses, plan.uses));
  }
  return text.empty() ? "" : text + fmt::format("; every slot is built for {}.", plan.max_lora_rank);
}

/// "not counted: disk (no price disk_gib_month)"; empty if all is.
std::string gaps_text(const MonthlyCost& cost) {
  std::string text;
  for (const CostItem item : kItems) {
    const CostLine& line = cost.of(item);
    if (line.state == CostState::kKnown) continue;
    const std::string why = line.state == CostState::kNoPrice
                                ? fmt::format("no price {}", name_of(price_of(item)))
                            : line.state == CostState::kNoAmount ? "amount unknown"
                                                                 : "more than there is";
    text += fmt::format("{}{} ({})", text.empty() ? "; not counted: " : ", ", words_of(item), why);
  }
  return text;
}

std::string cost_text(const Plan& plan, const Prices& prices) {
  const MonthlyCost& cost = plan.costs.chosen;
  std::string parts;
  for (const CostItem item : kItems)
    if (const CostLine& line = cost.of(item); line.state == CostState::kKnown)
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", words_of(item), money_text(line.amount));
  std::string text = fmt::format("{} {} a month and server: {}{}.", money_text(cost.total), prices.currency,
                                 parts.empty() ? "nothing known" : parts, gaps_text(cost));
  if (!cost.complete) text = "INCOMPLETE: " + text;
  return text;
}

/// What the advice saves or adds beside today's.
std::string difference_text(Money today, Money advice, const std::string& currency) {
  if (today == advice) return "the same";
  const bool is_less = advice < today;
  return fmt::format("the advice {} {} {}", is_less ? "saves" : "adds",
                     money_text(is_less ? today - advice : advice - today), currency);
}

std::string today_text(const Plan& plan) {
  if (!plan.costs.today) return "";
  const TodayCost& today = *plan.costs.today;
  const std::string sizes =
      fmt::format("max_loras {}, max_cpu_loras {}", today.cell.max_loras, today.cell.max_cpu_loras);
  if (today.cost.impossible)
    return sizes + ": what it costs cannot be said: slots or loads take all of the server.";
  const std::string& currency = plan.cost_options.prices->currency;
  return fmt::format("{}: {} {} a month{}: {}.", sizes, money_text(today.cost.total), currency,
                     gaps_text(today.cost),
                     difference_text(today.cost.total, plan.costs.chosen.total, currency));
}

std::string prices_text(const Prices& prices) {
  std::string text;
  for (std::size_t i = 0; i < kPriceInputs; ++i) {
    const auto input = static_cast<PriceInput>(i);
    if (!prices.of(input).known) continue;
    text += fmt::format("{}{} {} {} ({})", text.empty() ? "" : "; ", name_of(input),
                        price_text(prices.of(input).amount), prices.currency, prices.of(input).source);
  }
  return text + '.';
}

std::string sensitivity_text(const Plan& plan) {
  std::string text;
  for (const Sensitivity& one : plan.costs.sensitivities) {
    text += fmt::format("{}{} {} % lower or higher: {} or {}", text.empty() ? "" : "; ", name_of(one.input),
                        kSensitivityPercent, money_text(one.less), money_text(one.more));
    if (plan.costs.today)
      text += fmt::format(" (today's {} or {})", money_text(one.today_less), money_text(one.today_more));
  }
  return text.empty() ? "" : text + '.';
}

bool is_shown(const Plan& plan, const EngineKnobs& knobs) {
  const std::vector<std::string>& asked = plan.cost_options.engines;
  return asked.empty() || std::find(asked.begin(), asked.end(), knobs.engine) != asked.end();
}

void add(Paragraphs& all, std::string_view label, std::string text) {
  if (!text.empty()) all.emplace_back(label, std::move(text));
}

Json cost_object(const Plan& plan, const std::optional<MonthlyCost>& cost) {
  if (!cost || prices_of(plan) == nullptr) return nullptr;
  Json lines = Json::object();
  for (const CostItem item : kItems) {
    const CostLine& line = cost->of(item);
    lines[name_of(item)] = line.state == CostState::kKnown ? Json(line.amount.value) : Json();
  }
  return Json{{"total_millionths", cost->total.value},
              {"complete", cost->complete},
              {"impossible", cost->impossible},
              {"lines_millionths", std::move(lines)}};
}

Json level_json(const ServiceLevel& level) {
  if (level.share < 0) return nullptr;
  return Json{{"share", level.share},
              {"upper", level.upper()},
              {"limit", level.limit},
              {"confidence", level.interval.confidence > 0 ? Json(level.interval.confidence) : Json()},
              {"met", level.is_met()}};
}

Json memory_json(const Plan& plan) {
  const PlanMemory& memory = plan.memory;
  const auto known = [](Bytes bytes) { return bytes.value == 0 ? Json() : Json(bytes.value); };
  const bool has_tokens = memory.kv_token.value > 0 && plan.slot_bytes.value > 0;
  const double share = share_lost(plan, plan.chosen.max_loras);
  Json ranks = Json::array();
  for (const RankShare& one : memory.ranks)
    ranks.push_back(Json{
        {"rank", one.rank == 0 ? Json() : Json(one.rank)}, {"adapters", one.adapters}, {"uses", one.uses}});
  return Json{
      {"gpu_memory_bytes", known(plan.cost_options.gpu_memory)},
      {"gpu_utilization", plan.cost_options.gpu_utilization},
      {"model_weights_bytes", known(memory.weights)},
      {"kv_pool_bytes", known(memory.kv_pool)},
      {"kv_dtype", plan.cost_options.kv_dtype},
      {"kv_token_bytes", known(memory.kv_token)},
      {"kv_tokens_per_slot", has_tokens ? Json(tokens_lost(plan, 1)) : Json()},
      {"kv_tokens_lost", has_tokens ? Json(tokens_lost(plan, plan.chosen.max_loras)) : Json()},
      {"kv_share_lost", share < 0 ? Json() : Json(share)},
      {"pinned_bytes",
       memory.pinned.empty()
           ? Json()
           : Json(memory.pinned[std::min<std::size_t>(plan.chosen.max_cpu_loras, memory.pinned.size() - 1)]
                      .value)},
      {"disk_bytes", known(memory.disk)},
      {"ranks", std::move(ranks)}};
}

Json choice_json(const Plan& plan) {
  const CostChoice& choice = plan.costs.choice;
  if (!choice.asked) return nullptr;
  return Json{{"binding", name_of(choice.binding)},
              {"pairs", choice.options},
              {"simulated", choice.simulated},
              {"waited", level_json(choice.waits)},
              {"late", level_json(choice.late)}};
}

Json today_json(const Plan& plan) {
  if (!plan.costs.today) return nullptr;
  const TodayCost& today = *plan.costs.today;
  return Json{{"max_loras", today.cell.max_loras},
              {"max_cpu_loras", today.cell.max_cpu_loras},
              {"gpu_hits", today.cell.gpu_hits},
              {"host_to_device_loads", today.cell.host_to_device_loads},
              {"disk_loads", today.cell.disk_loads},
              {"refused", today.cell.refused},
              {"waited", today.waited < 0 ? Json() : Json(today.waited)},
              {"cost", cost_object(plan, today.cost)}};
}

Json costs_json(const Plan& plan) {
  const CostOptions& options = plan.cost_options;
  const Prices* const prices = prices_of(plan);
  Json inputs = Json::object();
  for (std::size_t i = 0; i < kPriceInputs && prices != nullptr; ++i) {
    const auto input = static_cast<PriceInput>(i);
    const Price& price = prices->of(input);
    inputs[name_of(input)] =
        price.known ? Json{{"price_millionths", price.amount.value}, {"source", price.source}} : Json();
  }
  Json sensitivities = Json::array();
  for (const Sensitivity& one : plan.costs.sensitivities)
    sensitivities.push_back(Json{{"input", name_of(one.input)},
                                 {"part_millionths", one.part.value},
                                 {"percent", kSensitivityPercent},
                                 {"less_millionths", one.less.value},
                                 {"more_millionths", one.more.value}});
  return Json{{"objective", name_of(options.objective)},
              {"slo_s", std::isfinite(options.slo_s) ? Json(options.slo_s) : Json()},
              {"max_slo_misses", options.max_slo_misses},
              {"currency", prices == nullptr ? Json() : Json(prices->currency)},
              {"prices_file", prices == nullptr ? Json() : Json(prices->file)},
              {"prices", std::move(inputs)},
              {"month_hours", kMonthHours},
              {"chosen", cost_object(plan, plan.costs.chosen)},
              {"today", today_json(plan)},
              {"sensitivity", std::move(sensitivities)},
              {"choice", choice_json(plan)}};
}

/// The lines that differ from row to row; egress and GETs in one.
std::vector<std::string> table_row(const GridCell& cell, const MonthlyCost& cost, std::string note) {
  const auto text_of = [&cost](CostItem item) -> std::string {
    const CostLine& line = cost.of(item);
    return line.state == CostState::kKnown ? money_text(line.amount) : "-";
  };
  const bool has_transfers = cost.of(CostItem::kEgress).state == CostState::kKnown ||
                             cost.of(CostItem::kGets).state == CostState::kKnown;
  const Money transfers = cost.of(CostItem::kEgress).amount + cost.of(CostItem::kGets).amount;
  return {count_text(cell.max_loras),
          count_text(cell.max_cpu_loras),
          cost.impossible ? "-" : money_text(cost.total),
          text_of(CostItem::kKvCache),
          text_of(CostItem::kLoading),
          text_of(CostItem::kHost),
          has_transfers ? money_text(transfers) : "-",
          std::move(note)};
}

}  // namespace

std::string first_cost_text(const Plan& plan) {
  const Prices* const prices = prices_of(plan);
  if (prices == nullptr) return "";
  const MonthlyCost& cost = plan.costs.chosen;
  std::string text =
      fmt::format("{}{} {} a month and server", cost.complete ? "" : "INCOMPLETE: ", money_text(cost.total),
                  prices->currency);
  if (plan.costs.today && !plan.costs.today->cost.impossible)
    text += ", beside today's " + money_text(plan.costs.today->cost.total);
  return text + ".";
}

Paragraphs money_paragraphs(const Plan& plan) {
  Paragraphs all;
  add(all, "KV CACHE", kv_text(plan));
  add(all, "HOST", host_text(plan));
  add(all, "RANKS", ranks_text(plan));
  if (const Prices* const prices = prices_of(plan)) {
    add(all, "COST", cost_text(plan, *prices));
    add(all, "", today_text(plan).empty() ? "" : "Today, " + today_text(plan));
    add(all, "", sensitivity_text(plan));
    add(all, "PRICES", prices_text(*prices));
  } else {
    add(all, "COST", "unknown without prices: --prices FILE takes yours (JSON, sim/README.md shows one).");
  }
  std::string_view label = "ENGINES";
  for (const EngineKnobs& knobs : engine_knobs(plan)) {
    if (!is_shown(plan, knobs)) continue;
    std::string text = fmt::format("{}: {}", knobs.engine, knobs.settings);
    for (const std::string& note : knobs.notes)
      text += fmt::format("{} {}", &note == knobs.notes.data() ? "." : "", note);
    add(all, label, std::move(text));
    label = "";
  }
  return all;
}

ReportTable cost_table(const Plan& plan) {
  ReportTable made;
  const Prices* const prices = prices_of(plan);
  if (prices == nullptr) return made;
  made.title = fmt::format("Cost a month, in {}", prices->currency);
  made.note = "GPU and disk are the same in every row; loads as in the grid.";
  if (!plan.costs.choice.asked && is_simulated(plan))
    made.note = "GPU and disk are the same in every row; loads as simulated.";
  made.header = {"max_loras", "max_cpu_loras", "total", "KV lost", "loading", "host", "transfers", "note"};
  bool has_today = false;
  for (const std::vector<AdvisoryRow>* table : {&plan.by_slots, &plan.by_host}) {
    for (const AdvisoryRow& row : *table) {
      if (!row.cost || (row.chosen && table == &plan.by_host)) continue;  // it is in the first
      has_today = has_today || row.current;
      const std::string note = note_text(plan, row);
      made.lines.push_back({.cells = table_row(row.cell, *row.cost, row.chosen ? "<- " + note : note),
                            .is_chosen = row.chosen,
                            .is_current = row.current,
                            .is_off = row.below_floor || row.over_limit});
    }
  }
  if (plan.costs.today && !has_today)
    made.lines.push_back(
        {.cells = table_row(plan.costs.today->cell, plan.costs.today->cost, "today"), .is_current = true});
  return made;
}

std::string money_json(const Plan& plan) {
  Json engines = Json::array();
  for (const EngineKnobs& knobs : engine_knobs(plan)) {
    Json values = Json::object();
    for (const auto& [name, value] : knobs.values) values[name] = value;
    engines.push_back(Json{{"engine", knobs.engine},
                           {"settings", knobs.settings},
                           {"values", std::move(values)},
                           {"notes", knobs.notes}});
  }
  const Json whole = {
      {"memory", memory_json(plan)}, {"costs", costs_json(plan)}, {"engines", std::move(engines)}};
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string cost_json(const Plan& plan, const std::optional<MonthlyCost>& cost) {
  return cost_object(plan, cost).dump();
}

}  // namespace loracle::detail
