#include "loracle/sim/compare_plans.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;

enum class Kind : std::uint8_t { kText, kCount, kShare, kSeconds, kBytes, kTimes };

constexpr const char* kMissing = "-";

struct Quantity {
  const char* what;
  const char* path;  // JSON pointer
  Kind kind;
};

constexpr Quantity kAdvice[] = {
    {"verdict", "/recommendation/verdict", Kind::kText},
    {"--max-loras", "/recommendation/max_loras", Kind::kCount},
    {"--max-cpu-loras", "/recommendation/max_cpu_loras", Kind::kCount},
    {"--max-lora-rank", "/recommendation/max_lora_rank", Kind::kCount},
};
constexpr Quantity kEffect[] = {
    {"requests that wait", "/recommendation/waited", Kind::kShare},
    {"99 % start within", "/recommendation/delay_p99_s", Kind::kSeconds},
    {"uses that hit a slot", "/derived/gpu_hit_share", Kind::kShare},
    {"disk loads beyond first uses", "/recommendation/disk_loads_beyond_first_per_use", Kind::kShare},
    {"GPU memory of the slots", "/derived/slots_bytes", Kind::kBytes},
    {"cost a month", "/derived/cost", Kind::kCount},
    {"traffic it holds to", "/recommendation/traffic_limit", Kind::kTimes},
    {"adapters it holds to", "/recommendation/adapters_limit", Kind::kTimes},
};
constexpr Quantity kTraffic[] = {
    {"requests", "/trace/requests", Kind::kCount},
    {"span", "/trace/span_s", Kind::kSeconds},
    {"requests a second", "/derived/rate", Kind::kTimes},
    {"adapters", "/trace/adapters", Kind::kCount},
    {"adapters in use at once, p99", "/trace/active_adapters/p99", Kind::kCount},
    {"requests hold theirs, median", "/trace/duration_median_s", Kind::kSeconds},
};

const Json* at(const Json& plan, const Json::json_pointer& path) {
  return plan.contains(path) && !plan.at(path).is_null() ? &plan.at(path) : nullptr;
}
const Json* at(const Json& plan, const char* path) { return at(plan, Json::json_pointer(path)); }

std::optional<double> number_at(const Json& plan, const char* path) {
  const Json* const found = at(plan, path);
  return found != nullptr && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
}

/// What follows from several values of a plan.
void derive(Json& plan) {
  Json derived = Json::object();
  const auto hits = number_at(plan, "/recommendation/simulated/gpu_hits");
  const auto replayed = number_at(plan, "/recommendation/gpu_hits");
  const auto uses = number_at(plan, "/trace/uses");
  if ((hits || replayed) && uses && *uses > 0) derived["gpu_hit_share"] = (hits ? *hits : *replayed) / *uses;
  const auto slots = number_at(plan, "/recommendation/max_loras");
  const auto slot = number_at(plan, "/model/slot_bytes");
  if (slots && slot && *slot > 0) derived["slots_bytes"] = *slots * *slot;
  const auto requests = number_at(plan, "/trace/requests");
  const auto span = number_at(plan, "/trace/span_s");
  if (requests && span && *span > 0) derived["rate"] = *requests / *span;
  if (const auto cost = number_at(plan, "/costs/chosen/total_millionths");
      cost && at(plan, "/costs/currency"))
    derived["cost"] = *cost / 1e6;
  if (const Json* const prices = at(plan, "/costs/prices"); prices != nullptr && prices->is_object())
    for (const auto& [key, value] : prices->items())
      if (const auto price = number_at(value, "/price_millionths")) derived["prices"][key] = *price / 1e6;
  plan["derived"] = std::move(derived);
}

Result<Json> plan_of(std::string_view text, const std::string& name) {
  constexpr std::string_view kAdvised = "give a file that `loracle plan TRACE --json FILE` wrote";
  Json plan = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (plan.is_discarded() || !plan.is_object())
    return fail(Errc::kCorrupt, fmt::format("{}: is not a JSON object: {}", name, kAdvised));
  const Json* const schema = at(plan, "/schema");
  if (schema == nullptr || !schema->is_string())
    return fail(Errc::kCorrupt, fmt::format("{}: names no schema: {}", name, kAdvised));
  if (const auto& given = schema->get_ref<const std::string&>(); given != "loracle.plan/1") {
    return fail(
        Errc::kUnsupported,
        fmt::format("{}: is of schema '{}', this loracle reads 'loracle.plan/1': {}", name, given, kAdvised));
  }
  if (at(plan, "/recommendation/max_loras") == nullptr)
    return fail(Errc::kCorrupt, fmt::format("{}: has no recommendation.max_loras: {}", name, kAdvised));
  derive(plan);
  return plan;
}

std::string shown(const Json& value, Kind kind) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  const double number = value.get<double>();
  // What a damaged file may hold, and no count does.
  if (kind != Kind::kText && (!std::isfinite(number) || number < 0 || number > 1e18)) return value.dump();
  switch (kind) {
    case Kind::kText:
      return value.dump();
    case Kind::kCount:
      return detail::count_text(static_cast<std::uint64_t>(number));
    case Kind::kShare:
      return detail::share_text(number);
    case Kind::kSeconds:
      return detail::seconds_text(number);
    case Kind::kBytes:
      return human_bytes(Bytes{static_cast<std::uint64_t>(number)});
    case Kind::kTimes:
      return fmt::format("{:.3g}", number);
  }
  return {};
}

/// Of shares the difference in points, of others the relation.
std::string change_of(const Json& before, const Json& after, Kind kind) {
  if (kind == Kind::kText || !before.is_number() || !after.is_number()) return {};
  const double from = before.get<double>();
  const double to = after.get<double>();
  if (kind == Kind::kShare) return fmt::format("{:+.2g} points", (to - from) * 100);
  if (from <= 0 || !std::isfinite(to / from)) return {};
  if (to / from >= 3) return fmt::format("x {:.3g}", to / from);
  return fmt::format("{:+.3g} %", (to / from - 1) * 100);
}

void compare(const Json* before, const Json* after, const std::string& what, Kind kind,
             std::vector<PlanDifference>& out) {
  if ((before == nullptr && after == nullptr) || (before != nullptr && after != nullptr && *before == *after))
    return;
  const bool both = before != nullptr && after != nullptr;
  out.push_back({what, before == nullptr ? kMissing : shown(*before, kind),
                 after == nullptr ? kMissing : shown(*after, kind),
                 both ? change_of(*before, *after, kind) : std::string()});
}

template <std::size_t kCount>
std::vector<PlanDifference> compare_all(const Json& before, const Json& after,
                                        const Quantity (&quantities)[kCount]) {
  std::vector<PlanDifference> out;
  for (const Quantity& quantity : quantities)
    compare(at(before, quantity.path), at(after, quantity.path), quantity.what, quantity.kind, out);
  return out;
}

/// What either of two objects holds, in the order in which it is found.
void compare_members(const Json& before, const Json& after, const char* object, const char* prefix, Kind kind,
                     std::vector<PlanDifference>& out) {
  std::vector<std::string> keys;
  std::set<std::string> seen;
  for (const Json* const plan : {&before, &after})
    if (const Json* const members = at(*plan, object); members != nullptr && members->is_object())
      for (const auto& [key, value] : members->items())
        if (seen.insert(key).second) keys.push_back(key);
  for (const std::string& key : keys) {
    const Json::json_pointer path = Json::json_pointer(object) / key;
    compare(at(before, path), at(after, path), prefix + key, kind, out);
  }
}

/// Every option that either plan names, as it is written there, and every price.
std::vector<PlanDifference> compare_asked(const Json& before, const Json& after) {
  std::vector<PlanDifference> out;
  for (const char* const key : {"name", "targets", "slot_bytes"}) {
    const Json::json_pointer path = Json::json_pointer("/model") / key;
    compare(at(before, path), at(after, path), fmt::format("model {}", key), Kind::kText, out);
  }
  for (const char* const key : {"objective", "slo_s", "max_slo_misses"}) {
    const Json::json_pointer path = Json::json_pointer("/costs") / key;
    compare(at(before, path), at(after, path), key, Kind::kText, out);
  }
  compare_members(before, after, "/derived/prices", "price ", Kind::kTimes, out);
  compare_members(before, after, "/options", "", Kind::kText, out);
  return out;
}

}  // namespace

Result<PlanComparison> compare_plans(std::string_view before, const std::string& before_name,
                                     std::string_view after, const std::string& after_name) {
  const Result<Json> first = plan_of(before, before_name);
  if (!first) return fail(first.error());
  const Result<Json> second = plan_of(after, after_name);
  if (!second) return fail(second.error());
  PlanComparison comparison;
  comparison.advice = compare_all(*first, *second, kAdvice);
  std::erase_if(comparison.advice,
                [](const PlanDifference& row) { return row.before == kMissing || row.after == kMissing; });
  comparison.effect = compare_all(*first, *second, kEffect);
  comparison.traffic = compare_all(*first, *second, kTraffic);
  comparison.asked = compare_asked(*first, *second);
  if (const Json* const flags = at(*second, "/recommendation/flags"); flags != nullptr && flags->is_string())
    comparison.flags = flags->get<std::string>();
  return comparison;
}

std::string comparison_text(const PlanComparison& comparison, const std::string& before_name,
                            const std::string& after_name) {
  std::string text = comparison.advice.empty() ? "SAME ADVICE" : "ADVICE CHANGES";
  text += fmt::format("   {} -> {}\n  {}\n", before_name, after_name, comparison.flags);
  const std::pair<const char*, const std::vector<PlanDifference>*> groups[] = {
      {"Advice", &comparison.advice},
      {"Effect", &comparison.effect},
      {"Traffic", &comparison.traffic},
      {"Asked", &comparison.asked}};
  for (const auto& [title, rows] : groups) {
    if (rows->empty()) continue;
    std::size_t what = 0;
    std::size_t old = 0;
    std::size_t now = 0;
    for (const PlanDifference& row : *rows) {
      what = std::max(what, row.what.size());
      old = std::max(old, row.before.size());
      now = std::max(now, row.after.size());
    }
    text += fmt::format("\n{}\n", title);
    for (const PlanDifference& row : *rows)
      text += fmt::format("  {:<{}}  {:>{}} -> {:<{}}{}{}\n", row.what, what, row.before, old, row.after,
                          row.change.empty() ? 0 : now, row.change.empty() ? "" : "  ", row.change);
  }
  return text;
}

std::string comparison_json(const PlanComparison& comparison, const std::string& before_name,
                            const std::string& after_name) {
  const auto rows = [](const std::vector<PlanDifference>& differences) {
    Json array = Json::array();
    for (const PlanDifference& row : differences)
      array.push_back({{"what", row.what},
                       {"before", row.before},
                       {"after", row.after},
                       {"change", row.change.empty() ? Json() : Json(row.change)}});
    return array;
  };
  const Json json = {{"schema", "loracle.compare/1"},
                     {"before", before_name},
                     {"after", after_name},
                     {"same_advice", comparison.advice.empty()},
                     {"flags", comparison.flags},
                     {"advice", rows(comparison.advice)},
                     {"effect", rows(comparison.effect)},
                     {"traffic", rows(comparison.traffic)},
                     {"asked", rows(comparison.asked)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace loracle
