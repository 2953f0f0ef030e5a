#pragma once
/// Sizes as people write and read them. Pure functions. Errors: kInvalid, with what to write instead.

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

/// Splits `12.5GiB` into 12.5 and "GiB". Empty if it does not begin with a finite number, 0 or more.
[[nodiscard]] std::optional<std::pair<double, std::string_view>> number_and_suffix(std::string_view text);

/// Bytes in a unit: KB kB MB GB TB, KiB MiB GiB TiB, B. Empty for any other.
[[nodiscard]] std::optional<double> unit_factor(std::string_view unit);

/// `64GiB`, `8GB`, `500MB`, `1024`.
[[nodiscard]] Result<Bytes> parse_bytes(std::string_view text);

/// `12.3 GiB`, `512 B`: rounded, for people.
[[nodiscard]] std::string human_bytes(Bytes bytes);

}  // namespace loracle
