#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "chart_data.hpp"
#include "plan_waits.hpp"

namespace loracle::detail {
namespace {

using Json = nlohmann::ordered_json;

/// Seconds to six digits: what a float holds.
double six_digits(float seconds) {
  if (!(seconds > 0)) return 0;
  const double unit = std::pow(10.0, 5 - std::floor(std::log10(static_cast<double>(seconds))));
  return std::round(static_cast<double>(seconds) * unit) / unit;
}

Json times_json(const WaitTimes& times) {
  return Json{{"mean", times.mean}, {"p50", times.p50}, {"p99", times.p99}, {"max", times.max}};
}

Json delays_json(const Plan& plan) {
  const DelayCauses& delays = plan.charts.delays;
  if (!delays.known) return nullptr;
  const std::array<std::pair<std::string_view, const Spread*>, 6> spreads = {
      {{"slot_wait_s", &delays.slot_wait},
       {"load_wait_s", &delays.load_wait},
       {"delay_s", &delays.delay},
       {"load_from_slot_s", &delays.load.front()},
       {"load_from_host_s", &delays.load[1]},
       {"load_from_disk_s", &delays.load[2]}}};
  Json counts = Json::object();
  Json above = Json::object();
  Json columns = {"share"};
  for (const auto& [name, spread] : spreads) {
    counts[std::string(name)] = spread->count;
    above[std::string(name)] = spread->positive;
    columns.push_back(name);
  }
  Json rows = Json::array();
  for (std::size_t level = 0; level < spread_levels().size(); ++level) {
    Json row = {spread_levels()[level]};
    for (const auto& [name, spread] : spreads)
      row.push_back(spread->at_s.empty() ? Json() : Json(six_digits(spread->at_s[level])));
    rows.push_back(std::move(row));
  }
  return Json{{"tiers", wait_options(plan).tiers.tiers},
              {"slot_wait_s", times_json(delays.slot_times)},
              {"load_wait_s", times_json(delays.load_times)},
              {"delay_s", times_json(delays.delay_times)},
              {"counted", std::move(counts)},
              {"above_zero", std::move(above)},
              {"columns", std::move(columns)},
              {"rows", std::move(rows)}};
}

Json worst_json(const WorstServed& served) {
  Json rows = Json::array();
  for (const ServedGroup& group : served.worst)
    rows.push_back(Json::array({group.name, group.requests, group.uses, group.gpu_hits, group.disk_loads,
                                group.evictions, group.waited, group.delay_p99_s}));
  return Json{{"of", served.groups},
              {"requests_min", served.requests_min},
              {"evictions", served.evictions},
              {"columns",
               {"name", "requests", "uses", "gpu_hits", "disk_loads", "evictions", "waited", "delay_p99_s"}},
              {"rows", std::move(rows)}};
}

Json distances_json(const Plan& plan) {
  const DistanceMap& map = plan.charts.distances;
  if (map.stretches() == 0) return nullptr;
  const std::size_t bins = plan.distances.size();
  Json columns = {"begin", "first_uses"};
  for (const DistanceBin& bin : plan.distances) columns.push_back("from_" + std::to_string(bin.low));
  Json rows = Json::array();
  for (std::size_t stretch = 0; stretch < map.stretches(); ++stretch) {
    Json row = Json::array({map.begin[stretch], map.first_uses[stretch]});
    for (std::size_t bin = 0; bin < bins; ++bin) row.push_back(map.uses[stretch * bins + bin]);
    rows.push_back(std::move(row));
  }
  return Json{{"unit", plan.span_s > 0 ? "s" : "requests"},
              {"end", map.end},
              {"columns", std::move(columns)},
              {"rows", std::move(rows)}};
}

Json bytes_json(const Plan& plan) {
  if (plan.charts.bytes.empty()) return nullptr;
  Json rows = Json::array();
  for (const ByteCurvePoint& point : plan.charts.bytes)
    rows.push_back(Json::array({point.capacity.value, point.misses, point.bytes_missed.value}));
  return Json{{"columns", {"capacity_bytes", "misses", "bytes_missed"}}, {"rows", std::move(rows)}};
}

Json zipf_json(const Plan& plan) {
  if (!plan.charts.zipf) return nullptr;
  const ZipfFit& fit = *plan.charts.zipf;
  return Json{{"alpha", fit.alpha}, {"alpha_se", fit.alpha_se}, {"ranks", fit.ranks}, {"ks", fit.ks}};
}

}  // namespace

std::string chart_data_json(const Plan& plan) {
  const Json whole = {
      {"zipf", zipf_json(plan)},
      {"delays", delays_json(plan)},
      {"worst", plan.charts.delays.known ? Json{{"adapters", worst_json(plan.charts.adapters)},
                                                {"tenants", worst_json(plan.charts.tenants)}}
                                         : Json()},
      {"byte_curve", bytes_json(plan)},
      {"distances_over_time", distances_json(plan)}};
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace loracle::detail
