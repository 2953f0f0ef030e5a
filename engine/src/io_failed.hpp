#pragma once
/// The error of a system call on a file. Threads: any.

#include <string>
#include <string_view>

#include "loracle/core/result.hpp"

namespace loracle {

/// "PATH: cannot WHAT: REASON", with a hint where the reason has a cure. kNotFound or kIo; detail: errno.
[[nodiscard]] tl::unexpected<Error> io_failed(const std::string& path, std::string_view what, int error);

}  // namespace loracle
