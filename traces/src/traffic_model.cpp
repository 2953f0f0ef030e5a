#include "loracle/traces/traffic_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;

[[nodiscard]] tl::unexpected<Error> wrong(const std::string& what) { return fail(Errc::kInvalid, what); }

/// Offsets into a column: from 0, never falling, up to its end.
[[nodiscard]] Result<Unit> check_offsets(const char* field, const std::vector<std::uint32_t>& begin,
                                         std::size_t parts, std::size_t end) {
  if (begin.size() != parts + 1)
    return wrong(fmt::format("{} has {} entries, not {}", field, begin.size(), parts + 1));
  if (begin.front() != 0 || begin.back() != end)
    return wrong(fmt::format("{} must go from 0 to {}", field, end));
  if (!std::is_sorted(begin.begin(), begin.end())) return wrong(fmt::format("{} falls", field));
  return Unit{};
}

/// The members of each part are in range; ascending where `in_order`, else only different.
[[nodiscard]] Result<Unit> check_members(const char* field, const std::vector<std::uint32_t>& begin,
                                         const std::vector<std::uint32_t>& members, std::size_t range,
                                         bool in_order) {
  std::vector<std::uint32_t> part;
  for (std::size_t i = 0; i + 1 < begin.size(); ++i) {
    part.assign(members.begin() + begin[i], members.begin() + begin[i + 1]);
    if (!in_order) std::sort(part.begin(), part.end());
    for (std::size_t k = 0; k < part.size(); ++k) {
      if (part[k] >= range)
        return wrong(fmt::format("{}: {} in part {}, where there are {}", field, part[k], i, range));
      if (k > 0 && part[k] <= part[k - 1])
        return wrong(fmt::format("{}: {} in part {} is there twice, or out of order", field, part[k], i));
    }
  }
  return Unit{};
}

[[nodiscard]] Result<Unit> check_law(const char* field, const LogNormalLaw& law) {
  if (std::abs(law.mu) <= 100 && law.sigma >= 0 && law.sigma <= 20) return Unit{};
  return wrong(
      fmt::format("{}: mu {} and sigma {}, where -100 .. 100 and 0 .. 20 may be", field, law.mu, law.sigma));
}

[[nodiscard]] Result<Unit> check_columns(const TrafficModel& model) {
  const auto optional_column = [&](const char* field, std::size_t size, std::size_t wanted) -> Result<Unit> {
    if (size == 0 || size == wanted) return Unit{};
    return wrong(fmt::format("{} has {} entries, not {}", field, size, wanted));
  };
  if (auto ok = optional_column("bytes", model.bytes.size(), model.name.size()); !ok) return ok;
  if (auto ok = optional_column("rank", model.rank.size(), model.name.size()); !ok) return ok;
  if (auto ok = optional_column("holding", model.holding.size(), model.shape.size()); !ok) return ok;
  if (model.lasting.size() != model.name.size())
    return wrong(fmt::format("lasting has {} entries, not {}", model.lasting.size(), model.name.size()));
  if (model.cell_count.size() != model.cell_set.size())
    return wrong(
        fmt::format("cell_count has {} entries, not {}", model.cell_count.size(), model.cell_set.size()));
  std::unordered_set<std::string_view> names;
  for (const std::string& name : model.name)
    if (name.empty() || !names.insert(name).second)
      return wrong(fmt::format("name: '{}' is empty or there twice", name));
  return Unit{};
}

}  // namespace

Result<Unit> check_traffic_model(const TrafficModel& model) {
  if (!(model.window_s > 0) || !(model.window_s <= 4e9))
    return wrong(fmt::format("window_s is {}, which is not above 0 and at most 4e9", model.window_s));
  if (model.name.size() > std::numeric_limits<std::uint32_t>::max() - 1) return wrong("too many adapters");
  if (auto ok = check_columns(model); !ok) return ok;
  if (auto ok = check_offsets("set_begin", model.set_begin, model.shape.size(), model.set_adapters.size());
      !ok)
    return ok;
  if (auto ok = check_members("set_adapters", model.set_begin, model.set_adapters, model.name.size(), false);
      !ok)
    return ok;
  if (model.window_begin.size() < 2 || model.window_begin.size() - 1 > kTrafficWindowsMax)
    return wrong(fmt::format("window_begin: from 1 to {} windows may be", kTrafficWindowsMax));
  if (auto ok = check_offsets("window_begin", model.window_begin, model.windows(), model.cell_set.size());
      !ok)
    return ok;
  if (auto ok = check_members("cell_set", model.window_begin, model.cell_set, model.shape.size(), true); !ok)
    return ok;
  if (std::find(model.cell_count.begin(), model.cell_count.end(), 0U) != model.cell_count.end())
    return wrong("cell_count: a cell of 0 requests is none");
  for (const double shape : model.shape)
    if (!(shape >= kGapShapeMin && shape <= kGapShapeMax))
      return wrong(fmt::format("shape: {} is not within {} .. {}", shape, kGapShapeMin, kGapShapeMax));
  for (const HoldingLaw& holding : model.holding) {
    if (!(holding.known_share >= 0 && holding.known_share <= 1))
      return wrong(fmt::format("holding: a known_share of {} is no share", holding.known_share));
    if (auto ok = check_law("holding", holding.law); !ok) return ok;
    const bool is_gamma = holding.gamma_shape >= kGapShapeMin && holding.gamma_shape <= 1e6 &&
                          holding.gamma_scale_s > 0 && holding.gamma_scale_s <= 1e9;
    if (!is_gamma && holding.gamma_shape != 0)
      return wrong(fmt::format("holding: gamma_shape {} and gamma_scale_s {} are no law", holding.gamma_shape,
                               holding.gamma_scale_s));
  }
  if (model.input_tokens)
    if (auto ok = check_law("input_tokens", *model.input_tokens); !ok) return ok;
  if (model.output_tokens)
    if (auto ok = check_law("output_tokens", *model.output_tokens); !ok) return ok;
  return Unit{};
}

namespace {

[[nodiscard]] Json law_json(const LogNormalLaw& law) { return {{"mu", law.mu}, {"sigma", law.sigma}}; }

/// Takes fields out of a JSON object; the first that is missing or wrong is kept as the error, and nothing
/// is read after it.
class FieldReader {
 public:
  FieldReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  [[nodiscard]] const std::string& error() const noexcept { return error_; }

  template <class T>
  void read(const char* key, T& value) {
    if (const Json* found = find(key)) take(*found, at(key), value);
  }
  template <class T>
  void read(const char* key, std::vector<T>& values) {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_array()) return want(at(key), "an array");
    values.clear();
    values.reserve(found->size());
    for (const Json& element : *found) {
      if (!error_.empty()) return;
      const std::string where = fmt::format("{}/{}", at(key), values.size());
      take(element, where, values.emplace_back());
    }
  }
  void read(const char* key, std::optional<LogNormalLaw>& law) {
    const Json* found = find(key);
    if (found == nullptr || found->is_null()) return;
    take(*found, at(key), law.emplace());
  }

 private:
  [[nodiscard]] std::string at(const char* key) const { return path_ + "/" + key; }

  [[nodiscard]] const Json* find(const char* key) {
    if (!error_.empty()) return nullptr;
    const auto found = object_.find(key);
    if (found != object_.end()) return &*found;
    error_ = at(key) + " is missing";
    return nullptr;
  }
  void want(const std::string& where, const std::string& what) {
    if (error_.empty()) error_ = fmt::format("{} must be {}", where, what);
  }
  void take(const Json& json, const std::string& where, std::string& value) {
    json.is_string() ? void(value = json.get_ref<const std::string&>()) : want(where, "a string");
  }
  void take(const Json& json, const std::string& where, bool& value) {
    json.is_boolean() ? void(value = json.get<bool>()) : want(where, "true or false");
  }
  void take(const Json& json, const std::string& where, double& value) {
    json.is_number() ? void(value = json.get<double>()) : want(where, "a number");
  }
  template <class T>
  requires std::is_unsigned_v<T>
  void take(const Json& json, const std::string& where, T& value) {
    if (!json.is_number_unsigned() || json.get<std::uint64_t>() > std::numeric_limits<T>::max())
      return want(where, fmt::format("a whole number from 0 to {}", std::numeric_limits<T>::max()));
    value = static_cast<T>(json.get<std::uint64_t>());
  }
  void take(const Json& json, const std::string& where, LogNormalLaw& law) {
    if (!json.is_object()) return want(where, "an object");
    FieldReader inner(json, where);
    inner.read("mu", law.mu);
    inner.read("sigma", law.sigma);
    error_ = inner.error();
  }
  void take(const Json& json, const std::string& where, HoldingLaw& holding) {
    if (!json.is_object()) return want(where, "an object");
    FieldReader inner(json, where);
    inner.read("known_share", holding.known_share);
    inner.read("mu", holding.law.mu);
    inner.read("sigma", holding.law.sigma);
    inner.read("gamma_shape", holding.gamma_shape);
    inner.read("gamma_scale_s", holding.gamma_scale_s);
    error_ = inner.error();
  }

  const Json& object_;
  std::string path_;
  std::string error_;
};

}  // namespace

std::string to_json(const TrafficModel& model) {
  Json holding = Json::array();
  for (const HoldingLaw& law : model.holding)
    holding.push_back({{"known_share", law.known_share},
                       {"mu", law.law.mu},
                       {"sigma", law.law.sigma},
                       {"gamma_shape", law.gamma_shape},
                       {"gamma_scale_s", law.gamma_scale_s}});
  const auto tokens = [](const std::optional<LogNormalLaw>& law) { return law ? law_json(*law) : Json(); };
  const Json json = {{"source", model.source},
                     {"format", model.format},
                     {"mapping", model.mapping},
                     {"requests", model.requests},
                     {"timed", model.timed},
                     {"window_s", model.window_s},
                     {"name", model.name},
                     {"bytes", model.bytes},
                     {"rank", model.rank},
                     {"lasting", model.lasting},
                     {"set_begin", model.set_begin},
                     {"set_adapters", model.set_adapters},
                     {"shape", model.shape},
                     {"holding", std::move(holding)},
                     {"window_begin", model.window_begin},
                     {"cell_set", model.cell_set},
                     {"cell_count", model.cell_count},
                     {"input_tokens", tokens(model.input_tokens)},
                     {"output_tokens", tokens(model.output_tokens)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<TrafficModel> parse_traffic_model(std::string_view text, const std::string& file) {
  const auto damaged = [&](const std::string& what) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: {}: write it anew with `loracle trace fit TRACE --json FILE`", file, what));
  };
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return damaged("not a JSON object");
  const auto schema = json.find("schema");
  if (schema == json.end() || !schema->is_string()) return damaged("/schema is missing: no fit of a trace");
  if (*schema != kTrafficSchema)
    return fail(
        Errc::kUnsupported,
        fmt::format("{}: /schema is {}, and this loracle reads {}: fit the trace with the same loracle "
                    "that synthesizes",
                    file, schema->dump(-1, ' ', false, Json::error_handler_t::replace), kTrafficSchema));
  const auto found = json.find("model");
  if (found == json.end() || !found->is_object()) return damaged("/model is missing, or no object");
  TrafficModel model;
  FieldReader fields(*found, "/model");
  fields.read("source", model.source);
  fields.read("format", model.format);
  fields.read("mapping", model.mapping);
  fields.read("requests", model.requests);
  fields.read("timed", model.timed);
  fields.read("window_s", model.window_s);
  fields.read("name", model.name);
  fields.read("bytes", model.bytes);
  fields.read("rank", model.rank);
  fields.read("lasting", model.lasting);
  fields.read("set_begin", model.set_begin);
  fields.read("set_adapters", model.set_adapters);
  fields.read("shape", model.shape);
  fields.read("holding", model.holding);
  fields.read("window_begin", model.window_begin);
  fields.read("cell_set", model.cell_set);
  fields.read("cell_count", model.cell_count);
  fields.read("input_tokens", model.input_tokens);
  fields.read("output_tokens", model.output_tokens);
  if (!fields.error().empty()) return damaged(fields.error());
  if (auto sound = check_traffic_model(model); !sound) return damaged("/model/" + sound.error().message);
  return model;
}

}  // namespace loracle
