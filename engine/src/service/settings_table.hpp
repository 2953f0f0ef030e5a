#pragma once
/// The table of settings: where each is in ServiceConfig, and how its text becomes a value and a text again.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/service/config.hpp"
#include "loracle/service/settings.hpp"

namespace loracle::service {

/// Where a setting is in a ServiceConfig.
template <class T>
using Field = T& (*)(ServiceConfig&);
using Target = std::variant<Field<bool>, Field<std::uint16_t>, Field<std::uint32_t>, Field<Bytes>,
                            Field<std::string>, Field<std::vector<std::string>>, Field<Dtype>,
                            Field<CacheType>, Field<std::vector<LoraModuleSetting>>>;

struct SettingRow {
  std::string_view name;
  std::string_view flags;    // "--a,--b"; empty: made of the name
  std::string_view aliases;  // further variables, comma-separated
  std::string_view choices;  // of a text or of a list's items, separated by spaces; empty: anything
  std::uint64_t min = 0;     // of a number
  bool is_secret = false;
  Target target;
  std::string_view help;
};

/// In the order of all_settings().
[[nodiscard]] std::span<const SettingRow> setting_rows();

/// Items of a list, or the one value. An error says what is wrong and what to do, and has no value of a
/// secret in it; the caller says where.
[[nodiscard]] Result<Unit> assign(ServiceConfig& config, const SettingRow& row,
                                  std::span<const std::string> values);

/// As TOML has it: `8`, `"10GB"`, `["a", "b"]`.
[[nodiscard]] std::string toml_value(const ServiceConfig& config, const SettingRow& row);
/// A value of a TOML file in JSON; what is no such value becomes a JSON text.
[[nodiscard]] std::string json_of_toml(const std::string& value);

/// Reads the settings of a file into `config` and says in `origins` which they were. One error for all its
/// mistakes.
[[nodiscard]] Result<Unit> read_toml_into(ServiceConfig& config, std::vector<std::string>& origins,
                                          std::string_view text, const std::string& path);

[[nodiscard]] std::string toml_text(std::string_view text);
/// "; did you mean 'x'?", or nothing.
[[nodiscard]] std::string did_you_mean(std::string_view given, std::span<const std::string_view> names);

}  // namespace loracle::service
