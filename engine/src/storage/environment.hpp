#pragma once
/// Environment variables as a function, so that nothing below reads the process's own behind a test's back.

#include <functional>
#include <optional>
#include <string>

namespace loracle {

/// nullopt: not set. Set but empty counts as not set, as with other AWS tools.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;

[[nodiscard]] EnvironmentLookup process_environment();

}  // namespace loracle
