#include "loracle/service/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "loracle/engine/files.hpp"
#include "loracle/engine/origin.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/service/resolver.hpp"
#include "service/settings_table.hpp"

namespace loracle {
namespace {

using service::setting_rows;
using service::SettingRow;

constexpr std::uint64_t kFileBytesMax = 1U << 20U;
constexpr std::string_view kSecret = "***";

bool is_of_registry(const std::string& name) {
  static const std::vector<std::string> names = ResolverRegistry().names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(" \t") - begin + 1));
}

/// Comma-separated, or a JSON array.
Result<std::vector<std::string>> list_of_variable(std::string_view text) {
  std::vector<std::string> items;
  const std::string whole = trimmed(text);
  if (whole.starts_with('[')) {
    const auto json = nlohmann::json::parse(whole, nullptr, /*allow_exceptions=*/false);
    if (!json.is_array())
      return fail(Errc::kInvalid, "begins with '[' but is no JSON array: write [\"a\", \"b\"], or a,b");
    for (const auto& item : json)
      items.push_back(item.is_string() ? item.get<std::string>()
                                       : item.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return items;
  }
  if (whole.starts_with('{')) return std::vector<std::string>{whole};  // one module in JSON, commas and all
  std::size_t begin = 0;
  while (begin <= whole.size()) {
    const std::size_t end = std::min(whole.find(',', begin), whole.size());
    if (std::string item = trimmed(std::string_view(whole).substr(begin, end - begin)); !item.empty())
      items.push_back(std::move(item));
    begin = end + 1;
  }
  return items;
}

struct Variable {
  std::string_view name;
  std::string_view value;
};

std::vector<Variable> variables_of(const char* const* environment) {
  std::vector<Variable> variables;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos)
      variables.push_back({entry.substr(0, equals), entry.substr(equals + 1)});
  }
  return variables;
}

const Setting* setting_of_variable(std::string_view name) {
  for (const Setting& setting : all_settings())
    if (std::find(setting.variables.begin(), setting.variables.end(), name) != setting.variables.end())
      return &setting;
  return nullptr;
}

std::size_t index_of(const Setting& setting) {
  return static_cast<std::size_t>(&setting - all_settings().data());
}

/// Drops what VLLM_PLUGINS has for vLLM itself: its other plugins are none of ours, and neither are those of
/// its resolvers that have no counterpart here (lora_hf_hub_resolver). Names of other resolvers may be those
/// of resolver.plugins.
std::vector<std::string> resolvers_of_vllm(std::vector<std::string> names,
                                           std::vector<std::string>& warnings) {
  std::erase_if(names, [&](const std::string& name) {
    const std::string plain = plain_resolver_name(name);
    const bool is_of_vllm = plain != name;
    if (name == "all" || is_of_registry(plain) || (!is_of_vllm && name.find("resolver") != std::string::npos))
      return false;
    warnings.push_back(
        fmt::format("VLLM_PLUGINS: '{}' is not taken for a resolver: name a plugin of "
                    "loracle's in LORACLE_RESOLVER_CHAIN",
                    name));
    return true;
  });
  return names;
}

/// Settings that name what does not lie on this machine, and what they name.
std::vector<std::pair<std::string_view, std::string>> remote_locations(const ServiceConfig& config) {
  std::vector<std::pair<std::string_view, std::string>> found;
  const auto look = [&found](std::string_view name, const std::string& location) {
    const std::string_view scheme = scheme_of(location);
    if (!scheme.empty() && scheme != "file") found.emplace_back(name, location);
  };
  for (const std::string& prefix : config.discovery.prefixes) look("discovery.prefixes", prefix);
  for (const LoraModuleSetting& module : config.lora_modules) look("discovery.lora_modules", module.path);
  look("resolver.s3_prefix", config.resolver.s3_prefix);
  look("resolver.http_prefix", config.resolver.http_prefix);
  return found;
}

/// A variable that is unknown, as far as it may be a mistake. Kubernetes makes variables of this form for a
/// service that is called loracle.
bool is_of_kubernetes(std::string_view name) {
  return name.ends_with("_SERVICE_HOST") || name.find("_SERVICE_PORT") != std::string_view::npos ||
         name == "LORACLE_PORT" || name.starts_with("LORACLE_PORT_");
}

}  // namespace

Settings::Settings() : origins_(all_settings().size()) {}

Result<Unit> Settings::read_file(const std::string& path) {
  const Result<std::string> text = read_text(posix_files(), path, kFileBytesMax);
  if (!text) return fail(text.error());
  if (Result<Unit> read = read_toml(*text, path); !read) return read;
  std::error_code failed;
  const std::filesystem::perms open =
      std::filesystem::status(path, failed).permissions() &
      (std::filesystem::perms::group_read | std::filesystem::perms::others_read);
  for (std::size_t i = 0; i < origins_.size(); ++i) {
    if (!failed && open != std::filesystem::perms::none && setting_rows()[i].is_secret &&
        origins_[i].starts_with(path + ":") && show()[i].value == kSecret) {
      warnings_.push_back(fmt::format("{}: {} is secret, and others can read this file: chmod 600 {}",
                                      origins_[i], setting_rows()[i].name, path));
    }
  }
  return Unit{};
}

Result<Unit> Settings::read_toml(std::string_view text, const std::string& path) {
  ServiceConfig config = config_;
  std::vector<std::string> origins = origins_;
  if (Result<Unit> read = service::read_toml_into(config, origins, text, path); !read) return read;
  config_ = std::move(config);
  origins_ = std::move(origins);
  return Unit{};
}

Result<Unit> Settings::read_environment(const char* const* environment) {
  const std::vector<Variable> variables = variables_of(environment);
  const auto find = [&](std::string_view name) -> const Variable* {
    const auto at =
        std::find_if(variables.begin(), variables.end(), [&](const Variable& v) { return v.name == name; });
    return at == variables.end() ? nullptr : &*at;
  };
  ServiceConfig config = config_;
  std::vector<std::string> origins = origins_;
  std::vector<std::string> warnings;
  std::vector<std::string> mistakes;
  for (const Setting& setting : all_settings()) {
    const Variable* chosen = nullptr;
    for (const std::string& name : setting.variables) {
      const Variable* const variable = find(name);
      if (variable == nullptr) continue;
      if (chosen == nullptr)
        chosen = variable;
      else if (variable->value != chosen->value)
        warnings.push_back(
            fmt::format("{} is not used: {} says otherwise and goes first", name, chosen->name));
    }
    if (chosen == nullptr) continue;
    const SettingRow& row = setting_rows()[index_of(setting)];
    std::vector<std::string> values = {std::string(chosen->value)};
    if (setting.is_list) {
      Result<std::vector<std::string>> items = list_of_variable(chosen->value);
      if (!items) {
        mistakes.push_back(fmt::format("{}: the value {}", chosen->name, items.error().message));
        continue;
      }
      values = std::move(*items);
      if (chosen->name == "VLLM_PLUGINS") values = resolvers_of_vllm(std::move(values), warnings);
    }
    if (const Result<Unit> assigned = service::assign(config, row, values); !assigned)
      mistakes.push_back(fmt::format("{}: {}", chosen->name, assigned.error().message));
    origins[index_of(setting)] = chosen->name;
  }
  if (!mistakes.empty()) return fail(Errc::kInvalid, fmt::format("{}", fmt::join(mistakes, "\n")));

  std::vector<std::string_view> known;
  for (const Setting& setting : all_settings())
    for (const std::string& name : setting.variables) known.emplace_back(name);
  for (const Variable& variable : variables) {
    if (!variable.name.starts_with("LORACLE_") || variable.name == "LORACLE_CONFIG" ||
        setting_of_variable(variable.name) != nullptr || is_of_kubernetes(variable.name))
      continue;
    warnings.push_back(fmt::format("{} is no setting's variable{}", variable.name,
                                   service::did_you_mean(variable.name, known)));
  }
  config_ = std::move(config);
  origins_ = std::move(origins);
  warnings_.insert(warnings_.end(), warnings.begin(), warnings.end());
  return Unit{};
}

Result<Unit> Settings::set_flag(std::string_view flag, std::span<const std::string> values) {
  std::vector<std::string_view> known;
  for (const Setting& setting : all_settings()) {
    for (const std::string& name : setting.flags) {
      known.emplace_back(name);
      if (name != flag) continue;
      static const std::vector<std::string> kYes = {"true"};
      const bool alone = setting.is_switch && (values.empty() || (values.size() == 1 && values[0].empty()));
      ServiceConfig config = config_;
      if (const Result<Unit> assigned = service::assign(config, setting_rows()[index_of(setting)],
                                                        alone ? std::span<const std::string>(kYes) : values);
          !assigned)
        return fail(Errc::kInvalid, fmt::format("{}: {}", flag, assigned.error().message));
      config_ = std::move(config);
      origins_[index_of(setting)] = flag;
      return Unit{};
    }
  }
  return fail(Errc::kInvalid, fmt::format("unknown flag '{}'{}", flag, service::did_you_mean(flag, known)));
}

std::string Settings::origin_of(std::string_view name) const {
  for (std::size_t i = 0; i < origins_.size(); ++i)
    if (setting_rows()[i].name == name) return origins_[i].empty() ? "default" : origins_[i];
  return {};
}

Result<ServiceConfig> Settings::finish() const {
  ServiceConfig config = config_;
  std::vector<std::string> mistakes;
  const auto mistake = [&](std::string_view name, const std::string& what) {
    mistakes.push_back(fmt::format("{} ({}): {}", name, origin_of(name), what));
  };

  CatalogConfig& catalog = config.catalog;
  if (catalog.type.empty()) catalog.type = catalog.path.empty() ? "memory" : "storage";
  if (catalog.type == "storage" && catalog.path.empty() && config.discovery.prefixes.empty())
    mistake("engine.catalog_type", "storage needs a directory: give --lora-catalog-path too");
  if (catalog.type == "memory" && !catalog.path.empty())
    mistake("engine.catalog_path",
            "a catalog of type memory has no directory: leave it out, or write "
            "--lora-catalog-type storage");
  std::vector<std::string>& prefixes = config.discovery.prefixes;
  if (!catalog.path.empty() && std::find(prefixes.begin(), prefixes.end(), catalog.path) == prefixes.end())
    prefixes.insert(prefixes.begin(), catalog.path);

  const EngineConfig& engine = config.engine;
  if (engine.max_cpu_loras != 0 && engine.max_cpu_loras < engine.max_loras) {
    mistake(
        "engine.max_cpu_loras",
        fmt::format("{} is below engine.max_loras {} ({}): every adapter in a slot is in host memory too, "
                    "so give at least {}, or 0",
                    engine.max_cpu_loras, engine.max_loras, origin_of("engine.max_loras"), engine.max_loras));
  }
  if (const Result<TierPolicies> policies = parse_tier_policies(engine.policy); !policies)
    mistake("engine.policy", policies.error().message);
  else if (is_clairvoyant(policies->device) || is_clairvoyant(policies->host))
    mistake("engine.policy", fmt::format("{}: needs the future, which only a replay knows", engine.policy));
  if (engine.max_lora_rank > kLoraRankMax)
    mistake("engine.max_lora_rank",
            fmt::format("{}: at most {} is supported", engine.max_lora_rank, kLoraRankMax));

  std::vector<std::string> kinds;
  for (const std::string& kind : config.storage_providers) {
    const std::string plain = kind == "https" ? "http" : kind;
    if (plain != "local" && plain != "file" && std::find(kinds.begin(), kinds.end(), plain) == kinds.end())
      kinds.push_back(plain);
  }
  config.storage_providers = std::move(kinds);
  for (const std::string& prefix : prefixes) {
    const std::string_view scheme = scheme_of(prefix);
    const std::string shown = without_secrets(prefix);
    if (scheme.empty() || scheme == "file") continue;
    if (scheme != "s3")
      mistake("discovery.prefixes",
              fmt::format("'{}': what lies under {}:// cannot be listed: give directories "
                          "and s3:// prefixes",
                          shown, scheme));
    else if (std::find(config.storage_providers.begin(), config.storage_providers.end(), "s3") ==
             config.storage_providers.end())
      mistake("discovery.prefixes",
              fmt::format("'{}': s3 is not among storage.providers ({}): add it there, or "
                          "leave the prefix out",
                          shown, origin_of("storage.providers")));
  }
  if (!config.resolver.s3_prefix.empty() && scheme_of(config.resolver.s3_prefix) != "s3")
    mistake("resolver.s3_prefix", fmt::format("'{}' is no s3:// URI: write s3://bucket/prefix",
                                              without_secrets(config.resolver.s3_prefix)));
  if (const std::string_view scheme = scheme_of(config.resolver.http_prefix);
      !config.resolver.http_prefix.empty() && scheme != "https" && scheme != "http")
    mistake("resolver.http_prefix", fmt::format("'{}' is no https:// URI: write https://host/path",
                                                without_secrets(config.resolver.http_prefix)));
  else if (!config.resolver.http_prefix.empty() && config.http_storage.allowed_hosts.empty())
    mistake("resolver.http_prefix",
            "no host is allowed: name the prefix's host in http_storage.allowed_hosts");
  if (config.cache.type == CacheType::kNone)
    for (const auto& [name, location] : remote_locations(config))
      mistake("cache.type", fmt::format("none, but {} names '{}', and what is remote is served from the "
                                        "cache: write disk or memory",
                                        name, without_secrets(location)));
  for (const std::string& plugin : config.resolver.plugins)
    if (plugin.find('/') == std::string::npos)
      mistake("resolver.plugins",
              fmt::format("'{}' is no path: write /path/to/{}, or ./{}", plugin, plugin, plugin));

  std::vector<std::string>& names = config.engine.base_models;
  if (config.base_model.empty() && !names.empty()) config.base_model = names.front();
  if (!config.base_model.empty() && std::find(names.begin(), names.end(), config.base_model) == names.end())
    names.insert(names.begin(), config.base_model);
  for (std::string& name : config.resolver.chain)
    if (std::string plain = plain_resolver_name(name); is_of_registry(plain)) name = std::move(plain);

  if (!mistakes.empty()) return fail(Errc::kInvalid, fmt::format("{}", fmt::join(mistakes, "\n")));
  return config;
}

std::string ShownSetting::json() const { return service::json_of_toml(value); }

std::vector<ShownSetting> Settings::show() const {
  static const ServiceConfig kDefaults;
  std::vector<ShownSetting> shown;
  for (std::size_t i = 0; i < origins_.size(); ++i) {
    const SettingRow& row = setting_rows()[i];
    std::string value = service::toml_value(config_, row);
    if (row.is_secret)
      value = value == service::toml_value(kDefaults, row) ? value : std::string(kSecret);
    else
      value = without_secrets(value);
    shown.push_back({&all_settings()[i], std::move(value), origins_[i].empty() ? "default" : origins_[i]});
  }
  return shown;
}

std::string example_settings_file() {
  const ServiceConfig defaults;
  std::string out =
      "# Settings of `loracle serve`: every one of them, with its default. Leave out what you do not "
      "change.\n"
      "# The environment wins over this file, and flags win over the environment.\n";
  std::string_view section;
  for (std::size_t i = 0; i < all_settings().size(); ++i) {
    const Setting& setting = all_settings()[i];
    const std::string_view name = setting_rows()[i].name;
    const std::string_view own = name.substr(0, name.find('.'));
    if (own != section) out += fmt::format("\n[{}]\n", section = own);
    std::string_view rest = setting.help;
    while (!rest.empty()) {  // wrapped, so that the file can be read in a terminal
      constexpr std::size_t kWidth = 96;
      const std::size_t cut = rest.size() <= kWidth ? rest.size() : rest.rfind(' ', kWidth);
      const std::size_t end = cut == std::string_view::npos ? rest.size() : cut;
      out += fmt::format("# {}\n", rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    out += fmt::format("# {}{}{}\n", setting.type, setting.flags.empty() ? "" : "; ",
                       fmt::join(setting.flags, ", "));
    out += fmt::format("# {}\n", fmt::join(setting.variables, ", "));
    out += fmt::format("{} = {}\n\n", name.substr(name.find('.') + 1),
                       service::toml_value(defaults, setting_rows()[i]));
  }
  out.pop_back();
  return out;
}

std::string without_secrets(std::string_view text) {
  static constexpr std::string_view kEnds = " \t\n\"',;|<>()[]{}";  // of a URI within a text
  std::string out;
  for (std::size_t at = text.find("://"); at != std::string_view::npos; at = text.find("://")) {
    out += text.substr(0, at + 3);
    text.remove_prefix(at + 3);
    std::string_view uri = text.substr(0, text.find_first_of(kEnds));
    text.remove_prefix(uri.size());
    const std::string_view authority = uri.substr(0, uri.find_first_of("/?#"));
    if (const std::size_t user = authority.rfind('@'); user != std::string_view::npos) {
      out += "***";
      uri.remove_prefix(user);
    }
    const std::size_t query = uri.find('?');
    out += uri.substr(0, query);
    if (query != std::string_view::npos) out += "?***";
  }
  return out.append(text);
}

}  // namespace loracle
