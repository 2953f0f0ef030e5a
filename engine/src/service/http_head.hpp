#pragma once
/// The head of an HTTP/1 request: read strictly, so that what stands behind it sees nothing odd.
///
/// Refused are: lines that end in a bare LF, folded headers, control characters, two Content-Lengths, chunked
/// and compressed bodies (their size is not known before they are read), and heads over the limits.
/// Errors: kInvalid or kTooLarge; `detail` is the HTTP status.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle::service {

struct HeadLimits {
  std::size_t head_bytes_max = 16U << 10U;
  std::uint64_t body_bytes_max = 1U << 20U;
  std::size_t target_bytes_max = 2048;
  std::size_t headers_max = 100;
};

struct RequestHead {
  std::string method;
  std::string target;
  bool is_http_1_1 = true;
  bool keep_alive = true;
  bool expects_continue = false;
  std::uint64_t body_bytes = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
};

/// `text` ends with the empty line.
[[nodiscard]] Result<RequestHead> parse_head(std::string_view text, const HeadLimits& limits);

/// "Not Found" of 404.
[[nodiscard]] std::string_view reason_of(int status) noexcept;

}  // namespace loracle::service
