#pragma once
/// The flags that say what two tiers hold beside how many adapters.

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::app {

/// As written; empty: not given.
struct TierFlags {
  std::string gpu_memory;
  std::string cpu_memory;
  bool exclusive = false;
  std::vector<std::string> pins;

  /// Returns what it added.
  std::vector<CLI::Option*> add_to(CLI::App& command);
  /// Limits and boundary, and checks all of `options`. Errors: kInvalid.
  [[nodiscard]] Result<Unit> set_limits(TierOptions& options) const;
  /// Pins. Errors: kInvalid (a limit in bytes, and the trace knows no sizes), kNotFound (an adapter).
  [[nodiscard]] Result<Unit> set_pins(TierOptions& options, const Trace& trace) const;
};

}  // namespace loracle::app
