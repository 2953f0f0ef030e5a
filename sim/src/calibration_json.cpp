#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "loracle/sim/calibration.hpp"

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSchema = "loracle.calibration/1";
constexpr std::string_view kMakeOne = "make one with `loracle calibrate --out FILE`";

Json known(double value, bool is_known) { return is_known ? Json(value) : Json(); }

Json quality_json(const FitQuality& quality) {
  Json groups = Json::array();
  for (const CheckedGroup& group : quality.groups)
    groups.push_back(Json::array({group.count, group.size, group.measured_s, group.predicted_s}));
  return {{"count", quality.count},
          {"set_aside", quality.set_aside},
          {"held_out", quality.is_held_out},
          {"r2", quality.r2},
          {"error_median", quality.error_median},
          {"error_median_s", quality.error_median_s},
          {"within_10", quality.within_10},
          {"within_20", quality.within_20},
          {"mean_ratio", quality.mean_ratio},
          {"columns", {"count", "size", "measured_s", "predicted_s"}},
          {"groups", std::move(groups)}};
}

Json load_json(const std::optional<LoadFit>& fit) {
  if (!fit) return nullptr;
  return {{"latency_s", fit->channel.latency_s},
          {"bytes_per_s", known(fit->channel.bytes_per_s, fit->is_rate_known)},
          {"latency_error_s", known(fit->latency_error_s, fit->latency_error_s >= 0)},
          {"s_per_byte_error", known(fit->s_per_byte_error, fit->s_per_byte_error >= 0)},
          {"bytes_min", fit->bytes_min},
          {"bytes_median", fit->bytes_median},
          {"bytes_max", fit->bytes_max},
          {"quality", quality_json(fit->quality)},
          {"notes", fit->notes}};
}

constexpr std::pair<const char*, double StepTimes::*> kTerms[] = {
    {"base_s", &StepTimes::base_s},
    {"prefill_token_s", &StepTimes::prefill_token_s},
    {"sequence_s", &StepTimes::sequence_s},
    {"adapter_s", &StepTimes::adapter_s},
    {"adapter_rank_s", &StepTimes::adapter_rank_s}};

Json step_json(const std::optional<StepFit>& fit) {
  if (!fit) return nullptr;
  Json times = Json::object();
  Json errors = Json::object();
  for (const auto& [name, member] : kTerms) {
    times[name] = fit->times.*member;
    errors[name] = known(fit->errors.*member, fit->errors.*member >= 0);
  }
  return {{"times", std::move(times)},
          {"errors", std::move(errors)},
          {"quality", quality_json(fit->quality)},
          {"notes", fit->notes}};
}

/// Reads members, and keeps the first thing that was wrong.
class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }
  void refuse(std::string_view path, std::string_view what) {
    if (error_) return;
    error_ = Error{Errc::kCorrupt, fmt::format("{}: {} {}: {}", name_, path, what, kMakeOne), 0};
  }
  /// An object's member; null where it is missing, which is refused.
  const Json& at(const Json& json, const std::string& path, const char* key) {
    static const Json kNull;
    if (json.is_object() && json.contains(key)) return json.at(key);
    refuse(path_of(path, key), "is missing");
    return kNull;
  }
  /// A number, 0 or more; `absent` for null, if it may be.
  double number(const Json& json, const std::string& path, const char* key,
                std::optional<double> absent = {}) {
    const Json& value = at(json, path, key);
    if (value.is_null() && absent) return *absent;
    if (value.is_number()) {
      const double number = value.get<double>();
      if (std::isfinite(number) && number >= 0) return number;
      refuse(path_of(path, key), fmt::format("is {}, it must be 0 or more", value.dump()));
    } else {
      refuse(path_of(path, key), "is no number");
    }
    return 0;
  }
  std::uint64_t count(const Json& json, const std::string& path, const char* key) {
    const Json& value = at(json, path, key);
    if (value.is_number_unsigned()) return value.get<std::uint64_t>();
    refuse(path_of(path, key), "is no count");
    return 0;
  }
  std::string text(const Json& json, const std::string& path, const char* key) {
    const Json& value = at(json, path, key);
    if (value.is_string()) return value.get<std::string>();
    refuse(path_of(path, key), "is no text");
    return {};
  }
  std::vector<std::string> texts(const Json& json, const std::string& path, const char* key) {
    std::vector<std::string> found;
    const Json& value = at(json, path, key);
    if (!value.is_array()) refuse(path_of(path, key), "is no list");
    for (const Json& one : value) {
      if (one.is_string())
        found.push_back(one.get<std::string>());
      else
        refuse(path_of(path, key), "holds something that is no text");
    }
    return found;
  }
  static std::string path_of(const std::string& path, const char* key) {
    return path.empty() ? key : path + "." + key;
  }

 private:
  std::string name_;
  std::optional<Error> error_;
};

FitQuality read_quality(Reader& reader, const Json& json, const std::string& parent) {
  const std::string path = parent + ".quality";
  const Json& from = reader.at(json, parent, "quality");
  FitQuality quality;
  quality.count = reader.count(from, path, "count");
  quality.set_aside = reader.count(from, path, "set_aside");
  const Json& held_out = reader.at(from, path, "held_out");
  if (!held_out.is_boolean()) reader.refuse(path + ".held_out", "is neither true nor false");
  quality.is_held_out = held_out.is_boolean() && held_out.get<bool>();
  const Json& r2 = reader.at(from, path, "r2");
  if (!r2.is_number()) reader.refuse(path + ".r2", "is no number");
  quality.r2 = r2.is_number() ? r2.get<double>() : 0;  // below 0 for a fit that explains nothing
  quality.error_median = reader.number(from, path, "error_median");
  quality.error_median_s = reader.number(from, path, "error_median_s");
  quality.within_10 = reader.number(from, path, "within_10");
  quality.within_20 = reader.number(from, path, "within_20");
  quality.mean_ratio = reader.number(from, path, "mean_ratio");
  const Json& groups = reader.at(from, path, "groups");
  if (!groups.is_array()) reader.refuse(path + ".groups", "is no list");
  for (const Json& group : groups) {
    const bool is_row = group.is_array() && group.size() == 4 && group[0].is_number_unsigned() &&
                        group[1].is_number() && group[2].is_number() && group[3].is_number();
    if (!is_row) {
      reader.refuse(path + ".groups",
                    "holds something that is no row of count, size, measured_s, predicted_s");
      break;
    }
    quality.groups.push_back({group[0].get<std::uint64_t>(), group[1].get<double>(), group[2].get<double>(),
                              group[3].get<double>()});
  }
  return quality;
}

std::optional<LoadFit> read_load(Reader& reader, const Json& whole, const char* key) {
  const Json& json = reader.at(whole, "", key);
  if (json.is_null()) return std::nullopt;
  const std::string path = key;
  LoadFit fit;
  fit.channel.latency_s = reader.number(json, path, "latency_s");
  const double none = std::numeric_limits<double>::infinity();
  fit.channel.bytes_per_s = reader.number(json, path, "bytes_per_s", none);
  if (!(fit.channel.bytes_per_s > 0)) reader.refuse(path + ".bytes_per_s", "is 0, it must be more");
  fit.is_rate_known = fit.channel.bytes_per_s < none;
  fit.latency_error_s = reader.number(json, path, "latency_error_s", -1);
  fit.s_per_byte_error = reader.number(json, path, "s_per_byte_error", -1);
  fit.bytes_min = reader.number(json, path, "bytes_min");
  fit.bytes_median = reader.number(json, path, "bytes_median");
  fit.bytes_max = reader.number(json, path, "bytes_max");
  fit.quality = read_quality(reader, json, path);
  fit.notes = reader.texts(json, path, "notes");
  return fit;
}

std::optional<StepFit> read_step(Reader& reader, const Json& whole) {
  const Json& json = reader.at(whole, "", "step");
  if (json.is_null()) return std::nullopt;
  StepFit fit;
  const Json& times = reader.at(json, "step", "times");
  const Json& errors = reader.at(json, "step", "errors");
  for (const auto& [name, member] : kTerms) {
    fit.times.*member = reader.number(times, "step.times", name);
    fit.errors.*member = reader.number(errors, "step.errors", name, -1);
  }
  if (!(fit.times.base_s > 0)) reader.refuse("step.times.base_s", "is 0, it must be more");
  fit.quality = read_quality(reader, json, "step");
  fit.notes = reader.texts(json, "step", "notes");
  return fit;
}

}  // namespace

std::string calibration_json(const Calibration& calibration) {
  const Json whole = {{"schema", kSchema},
                      {"date", calibration.date},
                      {"machine", calibration.machine},
                      {"sources", calibration.sources},
                      {"slot", load_json(calibration.slot)},
                      {"disk", load_json(calibration.disk)},
                      {"step", step_json(calibration.step)},
                      {"missing", calibration.missing}};
  return whole.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Calibration> read_calibration(std::string_view text, const std::string& name) {
  const Json whole = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (whole.is_discarded() || !whole.is_object())
    return fail(Errc::kCorrupt, fmt::format("{}: is not a JSON object: {}", name, kMakeOne));
  if (!whole.contains("schema") || !whole.at("schema").is_string())
    return fail(Errc::kCorrupt, fmt::format("{}: names no schema: {}", name, kMakeOne));
  if (const auto& schema = whole.at("schema").get_ref<const std::string&>(); schema != kSchema)
    return fail(schema.starts_with("loracle.calibration/") ? Errc::kUnsupported : Errc::kCorrupt,
                fmt::format("{}: is of schema '{}', a calibration of this loracle is of '{}': {}", name,
                            schema, kSchema, kMakeOne));
  Reader reader(name);
  Calibration read;
  read.date = reader.text(whole, "", "date");
  read.machine = reader.text(whole, "", "machine");
  read.sources = reader.texts(whole, "", "sources");
  read.slot = read_load(reader, whole, "slot");
  read.disk = read_load(reader, whole, "disk");
  read.step = read_step(reader, whole);
  read.missing = reader.texts(whole, "", "missing");
  if (reader.error()) return fail(*reader.error());
  return read;
}

}  // namespace loracle
