#pragma once
/// A socket that listens. Threads: any.

#include <cstdint>
#include <string>

#include "loracle/core/result.hpp"

namespace loracle::service {

struct HttpListener {
  int socket = -1;  // does not block; whoever takes it closes it
  std::uint16_t port = 0;
};

/// `host`: an address of this machine or a name of one. Port 0: one that is free.
/// Errors: kIo (no such host, not ours, somebody has the port).
[[nodiscard]] Result<HttpListener> listen_on(const std::string& host, std::uint16_t port);

}  // namespace loracle::service
