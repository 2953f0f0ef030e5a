#pragma once
/// A TCP connection that sends what it likes, when it likes.

#include <httplib.h>  // and with it the system's own socket headers
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace loracle::testing {

class RawClient {
 public:
  explicit RawClient(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { ::close(socket_); }

  [[nodiscard]] bool connected() const noexcept { return connected_; }
  /// False once the other side has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  /// Says that no more comes; what the other side sends can still be read.
  void end_sending() { ::shutdown(socket_, SHUT_WR); }
  /// What comes until the other side closes, `until` has come, or nothing came for `timeout_ms`.
  std::string receive(std::string_view until = {}, int timeout_ms = 5000) {
    std::string text;
    for (char buffer[4096];;) {
      pollfd ready{socket_, POLLIN, 0};
      if (::poll(&ready, 1, timeout_ms) <= 0) return text;
      const ssize_t count = ::recv(socket_, buffer, sizeof buffer, 0);
      if (count <= 0) {
        closed_ = true;
        return text;
      }
      text.append(buffer, static_cast<std::size_t>(count));
      if (!until.empty() && text.find(until) != std::string::npos) return text;
    }
  }
  [[nodiscard]] bool closed() const noexcept { return closed_; }

 private:
  int socket_;
  bool connected_ = false;
  bool closed_ = false;
};

}  // namespace loracle::testing
