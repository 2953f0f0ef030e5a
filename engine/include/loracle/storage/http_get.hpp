#pragma once
/// One small document by its http:// or https:// URL, for the command line: what the user named is what is
/// read, any host, no redirects, no retries.
/// Threads: any. Errors: kInvalid (no such URL), kNotFound (404), kIo (detail: HTTP status or CURLcode),
/// kTooLarge.

#include <cstddef>
#include <string>

#include "loracle/core/result.hpp"

namespace loracle {

[[nodiscard]] Result<std::string> http_get(const std::string& url, std::size_t bytes_max);

}  // namespace loracle
