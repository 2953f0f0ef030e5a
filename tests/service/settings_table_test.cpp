// The table of settings, row by row: whatever is in it can be written, shown, read back and set in every way.

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "loracle/service/settings.hpp"

namespace loracle {
namespace {

std::vector<std::string> values(const Settings& settings) {
  std::vector<std::string> all;
  for (const ShownSetting& shown : settings.show()) all.push_back(shown.setting->name + " = " + shown.value);
  return all;
}

/// A value that is not the default.
std::string other_value(const Setting& setting, const std::string& now) {
  if (setting.is_switch) return now == "true" ? "false" : "true";
  if (setting.type == "number") return std::to_string(std::stoul(now) + 1);
  if (setting.type == "size") return "123MB";
  if (setting.type == "list of modules") return "x=/x";
  if (setting.name == "storage.providers") return "s3";
  if (setting.type.find('|') != std::string::npos) {
    const std::string last = setting.type.substr(setting.type.rfind('|') + 1);
    const std::string first = setting.type.substr(0, setting.type.find('|'));
    return "\"" + last + "\"" == now ? first : last;
  }
  return "some-text";
}

TEST(SettingsTable, TheExampleFileIsTheDefaults) {
  // If this failed, `config show --example > loracle.toml` would change what the server does.
  Settings example;
  const Result<Unit> read = example.read_toml(example_settings_file(), "example.toml");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(values(example), values(Settings()));
  for (const ShownSetting& shown : example.show())
    EXPECT_TRUE(shown.origin.starts_with("example.toml:")) << shown.setting->name << " is missing in it";
}

TEST(SettingsTable, TheExampleFileIsReadableInATerminal) {
  // If this failed, its comments would wrap in the middle of words.
  const std::string text = example_settings_file();
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    EXPECT_LE(end - begin, 110U) << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(SettingsTable, NamesFlagsAndVariablesAreOneSettingsOnly) {
  // If this failed, a variable or flag would set something else than it says.
  std::set<std::string> seen;
  for (const Setting& setting : all_settings()) {
    EXPECT_TRUE(seen.insert(setting.name).second) << setting.name;
    for (const std::string& flag : setting.flags) EXPECT_TRUE(seen.insert(flag).second) << flag;
    for (const std::string& name : setting.variables) EXPECT_TRUE(seen.insert(name).second) << name;
    EXPECT_FALSE(setting.help.empty()) << setting.name;
    EXPECT_FALSE(setting.flags.empty() && !setting.is_secret) << setting.name;
  }
  EXPECT_FALSE(seen.contains("LORACLE_PORT")) << "Kubernetes sets that for a service called loracle";
}

TEST(SettingsTable, EverySettingCanBeSetByEachOfItsVariables) {
  // If this failed, an alias would be accepted and do nothing.
  for (std::size_t i = 0; i < all_settings().size(); ++i) {
    const Setting& setting = all_settings()[i];
    for (const std::string& name : setting.variables) {
      Settings settings;
      const std::string before = settings.show()[i].value;
      std::string value = other_value(setting, before);
      if (name == "VLLM_PLUGINS") value = "lora_filesystem_resolver";
      const std::string entry = name + "=" + value;
      const char* const environment[] = {entry.c_str(), nullptr};
      const Result<Unit> read = settings.read_environment(environment);
      ASSERT_TRUE(read) << read.error().message;
      EXPECT_NE(settings.show()[i].value, before) << entry;
      EXPECT_EQ(settings.show()[i].origin, name);
    }
  }
}

TEST(SettingsTable, EverySettingCanBeSetByEachOfItsFlags) {
  // If this failed, a flag would be accepted and do nothing.
  for (std::size_t i = 0; i < all_settings().size(); ++i) {
    const Setting& setting = all_settings()[i];
    for (const std::string& flag : setting.flags) {
      Settings settings;
      const std::string before = settings.show()[i].value;
      const std::vector<std::string> given = {other_value(setting, before)};
      const Result<Unit> set = settings.set_flag(flag, given);
      ASSERT_TRUE(set) << set.error().message;
      EXPECT_NE(settings.show()[i].value, before) << flag;
      EXPECT_EQ(settings.show()[i].origin, flag);
    }
  }
}

TEST(SettingsTable, WhatIsShownReadsBackAsTheSame) {
  // If this failed, `config show` would print a value that the file does not accept, or takes for another.
  Settings settings;
  std::string text;
  for (std::size_t i = 0; i < all_settings().size(); ++i) {
    const Setting& setting = all_settings()[i];
    if (setting.is_secret) continue;
    const std::vector<std::string> given = {other_value(setting, settings.show()[i].value)};
    ASSERT_TRUE(settings.set_flag(setting.flags[0], given));
    text += setting.name + " = " + settings.show()[i].value + "\n";
  }
  Settings again;
  const Result<Unit> read = again.read_toml(text, "shown.toml");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(values(again), values(settings));
}

TEST(SettingsTable, SwitchesStandAlone) {
  // If this failed, `--allow-runtime-lora-updating`, as vLLM's users write switches, would be refused.
  Settings settings;
  const std::vector<std::string> no = {"no"};
  ASSERT_TRUE(settings.set_flag("--allow-runtime-lora-updating", no));
  EXPECT_FALSE(settings.finish()->runtime_updating);
  ASSERT_TRUE(settings.set_flag("--allow-runtime-lora-updating", {}));
  EXPECT_TRUE(settings.finish()->runtime_updating);
}

TEST(SettingsTable, TextsWithQuotesAndControlsReadBack) {
  // If this failed, an odd path would be shown as another path.
  Settings settings;
  const std::vector<std::string> odd = {"/a\"b\\c\td\x7f'e"};
  ASSERT_TRUE(settings.set_flag("--database", odd));
  for (const ShownSetting& shown : settings.show()) {
    if (shown.setting->name != "engine.database") continue;
    Settings again;
    ASSERT_TRUE(again.read_toml("engine.database = " + shown.value + "\n", "f"));
    EXPECT_EQ(again.finish()->engine.database, odd[0]);
  }
}

}  // namespace
}  // namespace loracle
