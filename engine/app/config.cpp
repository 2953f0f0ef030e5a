#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/service/settings.hpp"
#include "settings_flags.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

struct ConfigShowFlags {
  SettingsFlags settings;
  bool example = false;
  Format format = Format::kText;
};

std::string as_text(const std::vector<ShownSetting>& shown) {
  std::size_t name_width = 0;
  std::size_t value_width = 0;
  for (const ShownSetting& setting : shown) {
    name_width = std::max(name_width, setting.setting->name.size());
    value_width = std::max(value_width, std::min<std::size_t>(setting.value.size(), 40));
  }
  std::string out;
  for (const auto& [setting, value, origin] : shown)
    out += fmt::format("{:<{}} = {:<{}}  # {}\n", setting->name, name_width, value, value_width, origin);
  return out;
}

std::string as_json(const std::vector<ShownSetting>& shown) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const ShownSetting& setting : shown)
    json.push_back({{"name", setting.setting->name},
                    {"value", nlohmann::ordered_json::parse(setting.json())},
                    {"origin", setting.origin}});
  return dump(json);
}

int run_show(const ConfigShowFlags& flags) {
  if (flags.example) {
    print(example_settings_file());
    return kExitOk;
  }
  const Result<Settings> settings = flags.settings.load();
  if (!settings) return report_settings(settings.error());
  print(flags.format == Format::kText ? as_text(settings->show()) : as_json(settings->show()));
  // Shown first: whoever asks why settings do not go together wants to see them.
  if (const Result<ServiceConfig> config = settings->finish(); !config)
    return report_settings(config.error());
  return kExitOk;
}

}  // namespace

void add_config_command(CLI::App& app, int& exit_code) {
  CLI::App* config = app.add_subcommand("config", "Settings of the service: file, environment, flags");
  config->require_subcommand(1);
  auto flags = std::make_shared<ConfigShowFlags>();
  CLI::App* show = config->add_subcommand("show", "Every setting, its value, and where that came from");
  show->add_flag("--example", flags->example, "Print a commented file of all settings and their defaults");
  add_format_flag(*show, flags->format, kTextOrJson);
  flags->settings.add_to(*show);
  show->footer(
      "Examples:\n"
      "  loracle config show --example > loracle.toml\n"
      "  VLLM_CACHE_SIZE=10GB loracle config show --config loracle.toml --max-loras 8\n\n"
      "Flags win over the environment, and that over the file. Secrets are shown as ***, and have no flags:\n"
      "others can read command lines.");
  show->callback([flags, &exit_code] { exit_code = run_show(*flags); });
}

}  // namespace loracle::app
