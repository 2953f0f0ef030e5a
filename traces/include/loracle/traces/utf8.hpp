#pragma once
/// Whether bytes are text. Names must be, since reports are JSON.

#include <string_view>

namespace loracle {

/// True when every byte belongs to a well-formed UTF-8 sequence (RFC 3629).
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

}  // namespace loracle
