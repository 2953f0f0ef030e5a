#pragma once
/// Reads one field of a JSON log line into what a request needs, or says what is wrong with it. null is "not
/// given". Every function leaves the cursor behind the value, or failed.

#include <optional>
#include <string_view>

#include "loracle/traces/json_cursor.hpp"
#include "text_reader.hpp"

namespace loracle {

/// What the cursor met, as a fault of the line. REQUIRES: json.failed().
[[nodiscard]] LineFault json_fault(const JsonCursor& json);
/// A string, or a whole number as it is written; null leaves `name` empty.
[[nodiscard]] LineCheck read_name(JsonCursor& json, std::string_view field, std::string_view& name);
[[nodiscard]] LineCheck read_tokens(JsonCursor& json, std::string_view field,
                                    std::optional<std::uint32_t>& tokens);
[[nodiscard]] LineCheck read_seconds(JsonCursor& json, std::string_view field,
                                     std::optional<double>& seconds);
/// A number or string as text; null leaves it empty.
[[nodiscard]] LineCheck read_scalar(JsonCursor& json, std::string_view field, std::string_view& text);

}  // namespace loracle
