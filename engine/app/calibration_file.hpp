#pragma once
/// Files that flags name, read whole.

#include <cstdint>
#include <optional>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/sim/calibration.hpp"

namespace loracle::app {

/// Errors: kNotFound, kIo, kCorrupt (too large).
[[nodiscard]] Result<std::string> file_text(const std::string& path, std::uint64_t bytes_max);

/// What `--calibration FILE` names; nothing where the flag is absent.
[[nodiscard]] Result<std::optional<Calibration>> load_calibration(const std::string& path);

}  // namespace loracle::app
