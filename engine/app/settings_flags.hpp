#pragma once
/// The settings of `loracle serve` on a command line: one flag each, and --config for their file.

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/service/settings.hpp"

namespace loracle::app {

class SettingsFlags {
 public:
  /// REQUIRES: lives as long as the command is parsed.
  void add_to(CLI::App& command);
  /// File (--config, or else LORACLE_CONFIG), environment, flags, in this order; warnings go to stderr.
  [[nodiscard]] Result<Settings> load() const;

 private:
  std::string path_;
  std::vector<std::pair<std::string, const CLI::Option*>> options_;
};

/// Prints an error of `load` and answers the exit code.
int report_settings(const Error& error);

}  // namespace loracle::app
