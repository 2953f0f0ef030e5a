#include "settings_flags.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "common.hpp"

namespace loracle::app {

void SettingsFlags::add_to(CLI::App& command) {
  command.add_option("--config", path_, "Settings file (TOML); default: LORACLE_CONFIG, or none");
  for (const ShownSetting& shown : Settings().show()) {
    const Setting& setting = *shown.setting;
    if (setting.flags.empty()) continue;
    // Without a variable of its own: CLI11 keeps the texts, and Settings knows what they mean.
    CLI::Option* const option =
        command.add_option(fmt::format("{}", fmt::join(setting.flags, ",")),
                           CLI::callback_t([](const CLI::results_t&) { return true; }), setting.help);
    option->type_name(setting.type);
    if (!shown.value.empty() && shown.value != "\"\"" && shown.value != "[]")
      option->default_str(shown.value);
    option->group("[" + setting.name.substr(0, setting.name.find('.')) + "]");
    if (setting.is_switch)
      option->expected(0, 1);
    else if (setting.is_list)
      option->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args()->take_all();
    else
      option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    options_.emplace_back(setting.flags[0], option);
  }
}

Result<Settings> SettingsFlags::load() const {
  Settings settings;
  const char* const variable = std::getenv("LORACLE_CONFIG");  // NOLINT(concurrency-mt-unsafe)
  const std::string path = !path_.empty() || variable == nullptr ? path_ : std::string(variable);
  if (!path.empty())
    if (const Result<Unit> read = settings.read_file(path); !read) return fail(read.error());
  if (const Result<Unit> read = settings.read_environment(environ); !read) return fail(read.error());
  for (const auto& [flag, option] : options_) {
    if (option->count() == 0) continue;
    if (const Result<Unit> set = settings.set_flag(flag, option->reduced_results()); !set)
      return fail(set.error());
  }
  for (const std::string& warning : settings.warnings()) say(fmt::format("loracle: {}\n", warning));
  return settings;
}

int report_settings(const Error& error) {
  if (error.code != Errc::kInvalid) return report_input(error);
  return report(error, kExitUsage);
}

}  // namespace loracle::app
