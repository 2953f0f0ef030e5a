#include "loracle/engine/adapter_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "module_scales.hpp"
#include "peft_pattern.hpp"

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;  // of several pattern keys that match, the first in the file wins

constexpr int kDepthMax = 64;
constexpr std::size_t kPatternKeysMax = 1U << 16U;

/// Objects and arrays within each other, at most. Strings are stepped over; what is not JSON is found later.
int depth_of(std::string_view text) noexcept {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

/// Reads fields; the first of a wrong type is remembered and ends the reading.
class FieldReader {
 public:
  FieldReader(const Json& json, const std::string& path) : json_(json), path_(path) {}

  /// Nothing when absent; JSON's null is "given" (PEFT writes it) and has no value.
  [[nodiscard]] const Json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() ? nullptr : &*found;
  }
  void read(const char* key, bool& value) {
    const Json* field = given(key);
    if (field == nullptr) return;
    if (!field->is_boolean()) return wrong(key, "true or false");
    value = field->get<bool>();
  }
  void read(const char* key, std::string& value) {
    const Json* field = given(key);
    if (field == nullptr) return;
    if (!field->is_string()) return wrong(key, "a string");
    value = field->get<std::string>();
  }
  void read(const char* key, double& value) {
    const Json* field = given(key);
    if (field == nullptr) return wrong(key, "a number");
    if (!is_finite(*field)) return wrong(key, "a finite number");
    value = field->get<double>();
  }
  void read_rank(const char* key, std::uint32_t& value) {
    const Json* field = given(key);
    if (field == nullptr || !field->is_number_integer()) return wrong(key, "a whole number");
    if (!is_rank(*field)) return broken(fmt::format("LoRA rank `{}` must be a positive integer", key));
    value = field->get<std::uint32_t>();
  }
  void read_modules(const char* key, std::vector<std::string>& value) {
    const Json* field = given(key);
    if (field == nullptr) return;
    if (field->is_string()) return value.push_back(field->get<std::string>());
    if (!field->is_array()) return wrong(key, "a string or a list of strings");
    for (const Json& entry : *field) {
      if (!entry.is_string()) return wrong(key, "a string or a list of strings");
      value.push_back(entry.get<std::string>());
    }
  }
  /// As Python sees it: null, false, 0, "" and [] are not there.
  void read_truth(const char* key, bool& value) {
    const Json* field = given(key);
    if (field == nullptr) return;
    if (field->is_boolean())
      value = field->get<bool>();
    else if (field->is_number())
      value = field->get<double>() != 0;
    else
      value = field->is_string() ? !field->get_ref<const std::string&>().empty() : !field->empty();
  }
  void read_patterns(const char* key, std::vector<std::pair<std::string, std::uint32_t>>& value) {
    read_pattern_object(key, "an object of positive whole numbers", is_rank, value);
  }
  void read_patterns(const char* key, std::vector<std::pair<std::string, double>>& value) {
    read_pattern_object(key, "an object of finite numbers", is_finite, value);
  }

  [[nodiscard]] Result<Unit> outcome() {
    if (failed_) return fail(std::move(error_));
    return Unit{};
  }

 private:
  static bool is_finite(const Json& json) {
    return json.is_number() && std::isfinite(static_cast<float>(json.get<double>()));
  }
  static bool is_rank(const Json& json) {
    return json.is_number_unsigned() && json.get<std::uint64_t>() > 0 &&
           json.get<std::uint64_t>() <= std::numeric_limits<std::int32_t>::max();
  }
  [[nodiscard]] const Json* given(const char* key) const {
    const Json* field = find(key);
    return field == nullptr || field->is_null() ? nullptr : field;
  }
  template <class Value>
  void read_pattern_object(const char* key, const char* what, bool (*good)(const Json&),
                           std::vector<std::pair<std::string, Value>>& value) {
    const Json* field = given(key);
    if (field == nullptr) return;
    if (!field->is_object() || field->size() > kPatternKeysMax) return wrong(key, what);
    for (const auto& [module, entry] : field->items()) {
      if (!good(entry)) return wrong(key, what);
      if (const Result<PeftPattern> pattern = PeftPattern::compile(module); !pattern)
        return set_error(Errc::kUnsupported, fmt::format("{}: {}", key, pattern.error().message));
      value.emplace_back(module, entry.template get<Value>());
    }
  }
  void wrong(const char* key, const char* what) {
    set_error(Errc::kCorrupt, fmt::format("'{}' is not {}", key, what));
  }
  void broken(std::string_view what) { set_error(Errc::kInvalid, std::string(what)); }
  void set_error(Errc code, std::string_view what) {
    if (failed_) return;
    failed_ = true;
    error_ = Error{code, fmt::format("{}: {}", path_, what), 0};
  }

  const Json& json_;
  const std::string& path_;
  bool failed_ = false;
  Error error_;
};

}  // namespace

std::uint32_t AdapterConfig::rank_of(std::string_view module) const {
  for (const auto& [key, rank] : rank_pattern)
    if (peft_key_matches(key, module)) return rank;
  return r;
}

double AdapterConfig::scaling_of(std::string_view module) const {
  double module_alpha = alpha;
  for (const auto& [key, value] : alpha_pattern) {
    if (!peft_key_matches(key, module)) continue;
    module_alpha = value;
    break;
  }
  return lora_scaling(module_alpha, rank_of(module), use_rslora);
}

Result<AdapterConfig> parse_adapter_config(std::string_view text, const std::string& path) {
  if (text.size() > kAdapterConfigBytesMax)
    return fail(Errc::kCorrupt, fmt::format("{}: larger than 1 MiB: not an adapter_config.json", path));
  if (depth_of(text) > kDepthMax)
    return fail(Errc::kCorrupt, fmt::format("{}: nested deeper than {} levels", path, kDepthMax));
  const auto json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return fail(Errc::kCorrupt, fmt::format("{}: not a JSON object", path));

  FieldReader fields(json, path);
  std::string missing;
  for (const char* key : {"r", "lora_alpha", "target_modules"})
    if (fields.find(key) == nullptr) missing += (missing.empty() ? "" : ", ") + std::string(key);
  if (!missing.empty())
    return fail(Errc::kInvalid, fmt::format("{}: missing required configuration fields: {}", path, missing));

  AdapterConfig config;
  fields.read_rank("r", config.r);
  fields.read("lora_alpha", config.alpha);
  fields.read_modules("target_modules", config.target_modules);
  fields.read("use_rslora", config.use_rslora);
  fields.read("fan_in_fan_out", config.fan_in_fan_out);
  fields.read_truth("use_dora", config.use_dora);
  fields.read_truth("modules_to_save", config.has_modules_to_save);
  fields.read("bias", config.bias);
  fields.read("peft_type", config.peft_type);
  fields.read("base_model_name_or_path", config.base_model);
  fields.read_patterns("rank_pattern", config.rank_pattern);
  fields.read_patterns("alpha_pattern", config.alpha_pattern);
  if (Result<Unit> read = fields.outcome(); !read) return fail(std::move(read.error()));
  return config;
}

Result<Unit> check_adapter_config(const AdapterConfig& config, const AdapterRules& rules,
                                  const std::string& path) {
  std::vector<std::string> broken;
  if (!config.peft_type.empty() && config.peft_type != "LORA")
    broken.push_back(fmt::format("peft_type is {}, only LORA can be served", config.peft_type));
  if (config.has_modules_to_save) broken.emplace_back("modules_to_save must be null");
  if (config.use_dora) broken.emplace_back("DoRA (use_dora) is not supported");
  const std::uint32_t rank_max = lora_rank_max(rules);
  if (config.r > rank_max)
    broken.push_back(fmt::format("LoRA rank {} is greater than max_lora_rank {}", config.r, rank_max));
  if (config.bias != "none") broken.push_back(fmt::format("adapter bias ({}) is not supported", config.bias));
  const bool accepted = rules.base_models.empty() || config.base_model.empty() ||
                        std::find(rules.base_models.begin(), rules.base_models.end(), config.base_model) !=
                            rules.base_models.end();
  if (!accepted)
    broken.push_back(
        fmt::format("made for base model '{}', served is '{}': if they are the same, list the "
                    "name as an alias",
                    config.base_model, fmt::join(rules.base_models, "', '")));
  if (broken.empty()) return Unit{};
  return fail(Errc::kInvalid, fmt::format("{}: {}", path, fmt::join(broken, "; ")));
}

}  // namespace loracle
