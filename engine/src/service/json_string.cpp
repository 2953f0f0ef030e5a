#include "service/json_string.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace loracle::service {

std::string json_string(std::string_view text) {
  // Most names and paths are what they are.
  const bool is_plain = std::all_of(text.begin(), text.end(),
                                    [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
  if (!is_plain) return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string quoted = "\"";
  return quoted.append(text).append("\"");
}

}  // namespace loracle::service
