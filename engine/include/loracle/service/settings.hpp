#pragma once
/// Settings: what `loracle serve` is told by a file, the environment and the command line.
///
///   Settings settings;                        // the defaults
///   settings.read_file("loracle.toml");       // TOML
///   settings.read_environment(environ);
///   settings.set_flag("--max-loras", {"8"});
///   Result<ServiceConfig> config = settings.finish();
///
/// One table names every setting, and everything here follows from it. A setting `engine.max_loras` is the
/// key max_loras of [engine] in the file; LORACLE_ENGINE_MAX_LORAS, LORACLE_ and its flag in capitals, and
/// its aliases in the environment; and a flag, unless it is secret: others of the machine can read command
/// lines.
/// Invariants:
///  1. A source that is read later wins, a setting at a time: lists are replaced, not joined.
///  2. A source with a mistake changes nothing, and its error names all of its mistakes, a line each: where
///     it is (file:line, variable or flag), what is wrong, and what to do.
///  3. No secret value, and no password or query of a URI, is in an error, a warning or `show`.
/// In the environment a list is comma-separated, or a JSON array where an item has a comma. A variable that
/// is set to nothing empties a list or a text, and is a mistake elsewhere.
/// Threads: one owner. Errors: kInvalid; of files also kCorrupt (what they say), kNotFound, kIo, kTooLarge.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/service/config.hpp"

namespace loracle {

/// A setting as people see it.
struct Setting {
  std::string name;                    // in the file, with its section: "engine.max_loras"
  std::vector<std::string> flags;      // the first is the one to show; empty: it has none
  std::vector<std::string> variables;  // the first wins where several are set; aliases last
  std::string type;                    // for help: "number", "size", "memory|disk", ...
  std::string help;                    // one sentence
  bool is_secret = false;
  bool is_list = false;    // its flag may be repeated
  bool is_switch = false;  // its flag may stand without a value
};

/// All of them, grouped by section.
[[nodiscard]] std::span<const Setting> all_settings();

/// A setting and what it is now.
struct ShownSetting {
  const Setting* setting = nullptr;
  std::string value;   // as the file would have it; a secret that is set is "***"
  std::string origin;  // "default", "loracle.toml:12", "VLLM_CACHE_DIR", "--max-loras"

  /// The value in JSON.
  [[nodiscard]] std::string json() const;
};

class Settings {
 public:
  Settings();

  [[nodiscard]] Result<Unit> read_file(const std::string& path);
  /// `path` is for messages.
  [[nodiscard]] Result<Unit> read_toml(std::string_view text, const std::string& path);
  /// `environment`: NAME=VALUE each, ended by a null pointer, as `environ` is.
  [[nodiscard]] Result<Unit> read_environment(const char* const* environment);
  /// `values` as they stood on the command line, in order; none of a switch means yes.
  [[nodiscard]] Result<Unit> set_flag(std::string_view flag, std::span<const std::string> values);

  /// Checks what concerns several settings, and puts together what follows from them: the catalog's path is a
  /// prefix, and the base model one of its own aliases.
  [[nodiscard]] Result<ServiceConfig> finish() const;

  /// In the order of the table.
  [[nodiscard]] std::vector<ShownSetting> show() const;
  /// What is no mistake, but hardly meant: unknown LORACLE_ variables, two names of a setting that disagree.
  [[nodiscard]] const std::vector<std::string>& warnings() const noexcept { return warnings_; }

 private:
  [[nodiscard]] std::string origin_of(std::string_view name) const;

  ServiceConfig config_;
  std::vector<std::string> origins_;  // [settings]; empty: the default
  std::vector<std::string> warnings_;
};

/// A commented file of all settings with their defaults. Read back, it changes none.
[[nodiscard]] std::string example_settings_file();

/// The text without what a URI in it may hide: user and password, and the query (signatures of pre-signed
/// URLs are there).
[[nodiscard]] std::string without_secrets(std::string_view text);

}  // namespace loracle
