#pragma once
/// A string of JSON, in its quotes. Bytes that are no UTF-8 become U+FFFD. Threads: any.

#include <string>
#include <string_view>

namespace loracle::service {

[[nodiscard]] std::string json_string(std::string_view text);

}  // namespace loracle::service
