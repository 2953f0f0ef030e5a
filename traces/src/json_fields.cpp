#include "json_fields.hpp"

#include <fmt/format.h>

#include "parse_values.hpp"

namespace loracle {

LineFault json_fault(const JsonCursor& json) {
  return {json.error_at(), fmt::format("not valid JSON: {}", json.error()),
          "each line must be one JSON object"};
}

LineCheck read_scalar(JsonCursor& json, std::string_view field, std::string_view& text) {
  const std::size_t at = json.at();
  text = {};
  bool read = false;
  switch (json.peek()) {
    case JsonKind::kString:
      read = json.read_string(text);
      break;
    case JsonKind::kNumber:
      read = json.read_number(text);
      break;
    case JsonKind::kNull:
      read = json.skip();
      break;
    case JsonKind::kNone:
      break;
    default:
      return LineFault{at, fmt::format("{} is neither text nor number", field),
                       "give one of the two, or null"};
  }
  if (!read) return json_fault(json);
  return std::nullopt;
}

LineCheck read_name(JsonCursor& json, std::string_view field, std::string_view& name) {
  const std::size_t at = json.at();
  const JsonKind kind = json.peek();
  if (LineCheck check = read_scalar(json, field, name)) return check;
  if (kind == JsonKind::kNull) return std::nullopt;
  if (kind == JsonKind::kNumber && name.find_first_of(".eE") != std::string_view::npos)
    return LineFault{at, fmt::format("{} is the number {}", field, excerpt(name)),
                     "give a name, or a whole number"};
  return check_name(name, field, at);
}

LineCheck read_tokens(JsonCursor& json, std::string_view field, std::optional<std::uint32_t>& tokens) {
  const std::size_t at = json.at();
  const JsonKind kind = json.peek();
  std::string_view text;
  if (LineCheck check = read_scalar(json, field, text)) return check;
  if (kind == JsonKind::kNull) return std::nullopt;
  if (kind != JsonKind::kNumber)
    return LineFault{at, fmt::format("{} is text", field), "give a whole number, without quotes"};
  return check_tokens(text, field, at, tokens);
}

LineCheck read_seconds(JsonCursor& json, std::string_view field, std::optional<double>& seconds) {
  const std::size_t at = json.at();
  const JsonKind kind = json.peek();
  std::string_view text;
  if (LineCheck check = read_scalar(json, field, text)) return check;
  if (kind == JsonKind::kNull) return std::nullopt;
  if (kind != JsonKind::kNumber)
    return LineFault{at, fmt::format("{} is text", field), "give a number of seconds, without quotes"};
  double value = 0;
  if (LineCheck check = check_seconds(text, field, at, value)) return check;
  seconds = value;
  return std::nullopt;
}

}  // namespace loracle
