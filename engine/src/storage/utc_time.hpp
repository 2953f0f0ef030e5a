#pragma once
/// Points in time as the web writes them. Seconds since 1970, UTC; no time zone of this machine has a say.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace loracle {

/// "20150830T123600Z", as signatures want it.
[[nodiscard]] std::string compact_utc(std::int64_t unix_s);
/// "2009-10-12T17:50:30.000Z"; fractions are dropped. nullopt: not such a time.
[[nodiscard]] std::optional<std::int64_t> parse_iso8601(std::string_view text) noexcept;
/// "Tue, 15 Nov 1994 12:45:26 GMT", and the two older forms of HTTP dates.
[[nodiscard]] std::optional<std::int64_t> parse_http_date(const std::string& text);

}  // namespace loracle
