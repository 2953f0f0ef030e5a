#pragma once
/// The flags of `plan` and `what-if` about what their what-ifs take for granted.

#include <CLI/CLI.hpp>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/sim/what_if.hpp"

namespace loracle::app {

struct ChangeFlags {
  std::uint32_t replicas = ChangeOptions().replicas;
  std::string store_load_time;

  void add_to(CLI::App& command);
  /// Errors: kInvalid.
  [[nodiscard]] Result<ChangeOptions> options() const;
};

}  // namespace loracle::app
