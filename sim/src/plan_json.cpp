#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "chart_data.hpp"
#include "loracle/sim/advice.hpp"
#include "loracle/sim/plan.hpp"
#include "plan_load_times.hpp"
#include "plan_money_report.hpp"
#include "plan_sentences.hpp"

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;  // members in the order they are written: equal plans, equal bytes

Json optional_bytes(Bytes bytes) {
  return bytes == Bytes::max() || bytes.value == 0 ? Json() : Json(bytes.value);
}

Json cell_json(const Plan& plan, const GridCell& cell) {
  return Json{
      {"max_loras", cell.max_loras},   {"max_cpu_loras", cell.max_cpu_loras},
      {"gpu_hits", cell.gpu_hits},     {"host_to_device_loads", cell.host_to_device_loads},
      {"disk_loads", cell.disk_loads}, {"disk_loads_beyond_first_per_use", excess_disk_loads(plan, cell)},
      {"refused", cell.refused}};
}

Json simulated_json(const AdvisoryRow* row) {
  if (row == nullptr || !row->simulated) return nullptr;
  return Json{{"gpu_hits", row->served.gpu_hits},
              {"host_to_device_loads", row->served.host_to_device_loads},
              {"disk_loads", row->served.disk_loads}};
}

Json row_json(const Plan& plan, const AdvisoryRow& row) {
  Json one = cell_json(plan, row.cell);
  one["slot_memory_bytes"] = optional_bytes(row.slot_memory);
  one["host_memory_bytes"] = optional_bytes(row.host_memory);
  one["wait_probability"] = row.wait_probability < 0 ? Json() : Json(row.wait_probability);
  one["waited"] = row.waited < 0 ? Json() : Json(row.waited);
  one["simulated"] = simulated_json(&row);
  one["delay_p99_s"] = row.delay_p99_s < 0 ? Json() : Json(row.delay_p99_s);
  one["chosen"] = row.chosen;
  one["below_floor"] = row.below_floor;
  one["over_limit"] = row.over_limit;
  one["too_many_wait"] = row.waited < 0 ? Json() : Json(row.too_many_wait);
  one["meets_target"] = row.meets_target;
  one["cost"] = Json::parse(detail::cost_json(plan, row.cost), nullptr, false);
  return one;
}

/// Today's setting as it was given, and what became of it.
Json current_json(const Plan& plan) {
  if (!plan.current.known) return nullptr;
  Json one = row_json(plan, plan.current.row);
  one["max_loras"] = plan.current.max_loras;
  one["max_cpu_loras"] = plan.current.max_cpu_loras;
  return one;
}

Json served_json(const Plan& plan) {
  Json rows = Json::array();
  for (const ServedStretch& stretch : plan.served) {
    const StretchCounts& counts = stretch.counts;
    rows.push_back(Json::array({stretch.begin, counts.requests, counts.uses, counts.gpu_hits,
                                counts.disk_loads, counts.waited_for_slot}));
  }
  return Json{{"unit", plan.span_s > 0 ? "s" : "requests"},
              {"columns", {"begin", "requests", "uses", "gpu_hits", "disk_loads", "waited_for_slot"}},
              {"rows", std::move(rows)}};
}

Json advisory_json(const Plan& plan, const std::vector<AdvisoryRow>& rows) {
  Json all = Json::array();
  for (const AdvisoryRow& row : rows) all.push_back(row_json(plan, row));
  return all;
}

Json what_ifs_json(const Plan& plan) {
  Json all = Json::array();
  for (const WhatIf& row : plan.what_ifs) {
    Json one = {{"change", row.change}, {"fits", row.fits}};
    if (row.fits) {
      one.update({{"max_loras", row.max_loras},
                  {"max_cpu_loras", row.max_cpu_loras},
                  {"gpu_hits_per_use", row.gpu_hits},
                  {"disk_loads_beyond_first_per_use", row.disk_loads},
                  {"waited", row.waited},
                  {"delay_p99_s", row.delay_p99_s},
                  {"too_many_wait", row.too_many_wait},
                  {"meets_target", row.meets_target}});
    }
    all.push_back(std::move(one));
  }
  return all;
}

Json gap_json(const PolicyGap& gap) {
  return Json{{"entries", gap.entries},
              {"lru_misses", gap.lru},
              {"best_policy", gap.best_policy},
              {"best_misses", gap.best},
              {"belady_misses", gap.belady},
              {"bound_misses", gap.bound},
              {"policy_matters", gap.policy_matters}};
}

Json interval_json(const Interval& interval) {
  if (interval.blocks == 0) return nullptr;
  return Json{{"low", interval.low},
              {"high", interval.high},
              {"confidence", interval.confidence > 0 ? Json(interval.confidence) : Json()},
              {"blocks", interval.blocks}};
}

/// A share and its interval.
Json figure_json(double share, const Interval& interval) {
  return Json{{"share", share}, {"interval", interval_json(interval)}};
}

Json certainty_json(const Plan& plan) {
  const Certainty& certainty = plan.certainty;
  const GridCell& cell = detail::served_at_choice(plan);
  const double misses = static_cast<double>(plan.uses - cell.gpu_hits) / static_cast<double>(plan.uses);
  const bool is_timed = plan.span_s > 0;
  return Json{{"misses", figure_json(misses, certainty.misses)},
              {"disk_loads_beyond_first", figure_json(excess_disk_loads(plan, cell), certainty.disk_loads)},
              {"waited", plan.waited < 0 ? Json() : figure_json(plan.waited, certainty.waited)},
              {"regimes", certainty.regimes == 0 ? Json() : Json(certainty.regimes)},
              {"regime_requests", certainty.regimes == 0 ? Json() : Json(certainty.regime_requests)},
              {"regime_s", certainty.regime_s < 0 ? Json() : Json(certainty.regime_s)},
              {"blocks", certainty.blocks},
              {"changes", Json{{"unit", is_timed ? "s" : "requests"}, {"begin", certainty.changes}}},
              {"text", detail::certainty_text(plan)}};
}

Json byte_gap_json(const ByteGap& gap) {
  if (!gap.known) return nullptr;
  return Json{{"capacity_bytes", optional_bytes(gap.capacity)},
              {"first_uses_bytes", gap.first_uses.value},
              {"lru_bytes", gap.lru.value},
              {"best_policy", gap.best_policy},
              {"best_bytes", gap.best.value},
              {"bound_bytes", gap.bound.value},
              {"policy_matters", gap.policy_matters}};
}

Json trace_json(const Plan& plan) {
  Json trace = {{"source", plan.source},
                {"format", plan.format},
                {"mapping", plan.mapping},
                {"note", plan.trace_note},
                {"requests", plan.requests},
                {"requests_with_adapter", plan.requests_with_adapter},
                {"requests_with_several", plan.requests_with_several},
                {"largest_request", plan.largest_request},
                {"uses", plan.uses},
                {"adapters", plan.adapters},
                {"skipped_lines", plan.skipped_lines},
                {"span_s", plan.span_s < 0 ? Json() : Json(plan.span_s)},
                {"unknown_durations",
                 plan.active.known || plan.unknown_durations > 0 ? Json(plan.unknown_durations) : Json()},
                {"assumed_durations", plan.active.known ? Json(plan.assumed_durations) : Json()},
                {"duration_median_s", plan.duration_median_s < 0 ? Json() : Json(plan.duration_median_s)},
                {"active_adapters", nullptr}};
  if (plan.active.known) {
    trace["active_adapters"] = Json{{"mean", plan.active.mean},
                                    {"p50", plan.active.p50},
                                    {"p99", plan.active.p99},
                                    {"p999", plan.active.p999},
                                    {"max", plan.active.max}};
  }
  return trace;
}

Json model_json(const Plan& plan) {
  if (!plan.has_model) return nullptr;
  Json modules = Json::array();
  for (const LinearModule& module : plan.modules) {
    modules.push_back(
        Json{{"name", module.name}, {"d_in", module.d_in}, {"d_out", module.d_out}, {"count", module.count}});
  }
  return Json{{"name", plan.model.name},
              {"source", plan.model.source},
              {"targets", plan.targets},
              {"element_bytes", plan.element_bytes},
              {"slot_bytes", plan.slot_bytes.value},
              {"modules", std::move(modules)}};
}

Json grid_json(const Grid& grid) {
  Json cells = Json::array();
  for (const GridCell& cell : grid.cells) {
    if (!cell.feasible) continue;
    cells.push_back(Json::array({cell.max_loras, cell.max_cpu_loras, cell.gpu_hits, cell.host_to_device_loads,
                                 cell.disk_loads, cell.refused}));
  }
  return Json{{"tiers", grid.tiers},
              {"uses", grid.uses},
              {"columns",
               {"max_loras", "max_cpu_loras", "gpu_hits", "host_to_device_loads", "disk_loads", "refused"}},
              {"cells", std::move(cells)}};
}

Json curves_json(const Plan& plan) {
  Json misses = Json::object();
  for (const PolicyCurve& curve : plan.curves) misses[curve.policy] = curve.misses;
  return Json{{"entries", plan.curve_entries},
              {"misses", std::move(misses)},
              {"knee_max_loras", plan.charts.knee == 0 ? Json() : Json(plan.charts.knee)}};
}

template <class T, class Fields>
Json rows_json(const std::vector<T>& rows, Fields fields) {
  Json all = Json::array();
  for (const T& row : rows) all.push_back(fields(row));
  return all;
}

Json recommendation_json(const Plan& plan) {
  Json made = cell_json(plan, plan.chosen);
  made["verdict"] = name_of(plan.verdict);
  made["calibration"] = name_of(detail::load_times_from(plan));
  made["flags"] = plan.flags;
  made["reason"] = plan.reason;
  made["way_out"] = detail::way_out_text(plan);
  made["advice"] = name_of(advice_of(plan));
  made["advice_reason"] = advice_reason(plan);
  made["max_lora_rank"] = plan.max_lora_rank;
  made["max_lora_rank_from"] = plan.rank_given ? "option" : plan.rank_known ? "trace" : "default";
  made["slots_floor"] = plan.slots_floor;
  made["slots_floor_from"] = name_of(plan.floor_from);
  made["max_loras_from"] = name_of(plan.chosen_from);
  made["waited"] = plan.waited < 0 ? Json() : Json(plan.waited);
  const AdvisoryRow* const row = detail::row_of_choice(plan);
  made["delay_p99_s"] = row == nullptr || row->delay_p99_s < 0 ? Json() : Json(row->delay_p99_s);
  made["simulated"] = simulated_json(row);
  made["slots_limit"] = plan.slots_limit;
  made["slots_enough"] = plan.enough ? Json(plan.enough->max_loras) : Json();
  made["host_enough"] = plan.enough ? Json(plan.enough->max_cpu_loras) : Json();
  made["host_limit"] = plan.host_limit;
  for (const auto& [name, limit] :
       {std::pair("traffic", &plan.traffic_limit), std::pair("adapters", &plan.adapters_limit)}) {
    const bool is_known = limit->limit >= 0;
    const std::string prefix = name;
    made[prefix + "_limit"] = is_known ? Json(limit->limit) : Json();
    made[prefix + "_limit_most"] = is_known ? Json(limit->most) : Json();
    made[prefix + "_limit_by"] = !is_known || limit->limit == limit->most ? Json()
                                 : limit->too_many_wait                   ? Json("waits")
                                                                          : Json("disk_loads");
    made["slots_at_twice_the_" + prefix] = limit->slots_at_twice == 0 ? Json() : Json(limit->slots_at_twice);
  }
  return made;
}

}  // namespace

std::string plan_json(const Plan& plan) {
  Json policies = rows_json(plan.policies, [](const PolicyRow& row) {
    return Json{{"policy", row.policy},
                {"clairvoyant", row.clairvoyant},
                {"refuses", row.refuses},
                {"device_misses", row.device_misses},
                {"host_misses", row.host_misses},
                {"refuses_by_bytes", row.refuses_by_bytes},
                {"device_bytes", optional_bytes(row.device_bytes)},
                {"host_bytes", optional_bytes(row.host_bytes)}};
  });
  Json money = Json::parse(detail::money_json(plan), nullptr, false);
  Json drawn = Json::parse(detail::chart_data_json(plan), nullptr, false);
  const Json whole = {
      {"schema", "loracle.plan/1"},
      {"reproduce", plan.reproduce},
      {"recommendation", recommendation_json(plan)},
      {"current", current_json(plan)},
      {"certainty", certainty_json(plan)},
      {"options", Json{{"gpu_memory_bytes", optional_bytes(plan.gpu_memory_limit)},
                       {"host_memory_bytes", optional_bytes(plan.host_memory_limit)},
                       {"target_disk_loads", plan.target_disk_loads},
                       {"max_wait_probability", plan.max_wait_probability},
                       {"slot_worth_time", plan.slot_worth_time},
                       {"replicas", plan.changes.replicas},
                       {"store_load_s", plan.changes.store_load_s},
                       {"slot_load_s", plan.slot_load_s},
                       {"disk_load_s", plan.disk_load_s},
                       {"slot_load_from", name_of(plan.slot_load_from)},
                       {"disk_load_from", name_of(plan.disk_load_from)},
                       {"slot_worth", plan.slot_worth},
                       {"tiers", plan.tiers},
                       {"dtype", plan.dtype}}},
      {"calibration", plan.calibration ? Json::parse(calibration_json(*plan.calibration)) : Json()},
      {"trace", trace_json(plan)},
      {"model", model_json(plan)},
      {"advisory", Json{{"max_loras", advisory_json(plan, plan.by_slots)},
                        {"max_cpu_loras", advisory_json(plan, plan.by_host)}}},
      {"memory", std::move(money["memory"])},
      {"costs", std::move(money["costs"])},
      {"engines", std::move(money["engines"])},
      {"what_if", what_ifs_json(plan)},
      {"vllm", cell_json(plan, plan.vllm)},
      {"policies", std::move(policies)},
      {"gap", Json{{"device", gap_json(plan.device_gap)},
                   {"host", gap_json(plan.host_gap)},
                   {"bytes_used", optional_bytes(plan.bytes_used)},
                   {"device_by_bytes", byte_gap_json(plan.device_byte_gap)},
                   {"host_by_bytes", byte_gap_json(plan.host_byte_gap)},
                   {"compulsory_misses", plan.adapters},
                   {"compulsory", detail::first_uses_text(plan)}}},
      {"served", served_json(plan)},
      {"delays", std::move(drawn["delays"])},
      {"worst", std::move(drawn["worst"])},
      {"grid", grid_json(plan.grid)},
      {"curves", curves_json(plan)},
      {"byte_curve", std::move(drawn["byte_curve"])},
      {"popularity", Json{{"columns", {"rank", "uses"}},
                          {"rows", rows_json(plan.popularity,
                                             [](const RankCount& r) {
                                               return Json::array({r.rank, r.uses});
                                             })},
                          {"zipf", std::move(drawn["zipf"])}}},
      {"reuse_distances", Json{{"columns", {"low", "high", "uses"}},
                               {"first_uses", plan.adapters},
                               {"rows", rows_json(plan.distances,
                                                  [](const DistanceBin& b) {
                                                    return Json::array({b.low, b.high, b.uses});
                                                  })}}},
      {"distances_over_time", std::move(drawn["distances_over_time"])},
      {"working_set", Json{{"window", plan.window},
                           {"unit", plan.span_s > 0 ? "s" : "uses"},
                           {"columns", {"begin", "distinct", "uses"}},
                           {"rows", rows_json(plan.working_set,
                                              [](const WorkingSetPoint& p) {
                                                return Json::array({p.begin, p.distinct, p.uses});
                                              })}}},
      {"cautions", plan.cautions},
      {"assumptions", plan.assumptions},
      {"limits", plan.limits}};

  std::string out = "{\n";
  for (auto member = whole.begin(); member != whole.end(); ++member) {
    // Names come from traces: what is not UTF-8 is replaced, never thrown about.
    const auto replace = Json::error_handler_t::replace;
    out += Json(member.key()).dump(-1, ' ', false, replace) + ": " +
           member.value().dump(-1, ' ', false, replace);
    out += std::next(member) == whole.end() ? "\n" : ",\n";
  }
  return out + "}\n";
}

}  // namespace loracle
