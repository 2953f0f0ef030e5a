#include "service/http_listener.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace loracle::service {
namespace {

constexpr int kBacklog = 512;

tl::unexpected<Error> cannot_listen(const std::string& host, std::uint16_t port, const char* why, int error) {
  return fail(
      Errc::kIo,
      fmt::format("cannot listen on {} port {}: {}; give an address of this machine as --host and a port "
                  "nobody has as --port",
                  host, port, why),
      error);
}

bool set(int socket, int level, int option) {
  const int yes = 1;
  return ::setsockopt(socket, level, option, &yes, sizeof yes) == 0;
}

std::uint16_t port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

Result<HttpListener> listen_on(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* first = nullptr;
  if (const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &first); code != 0)
    return cannot_listen(host, port, ::gai_strerror(code), 0);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(first, ::freeaddrinfo);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* address = first; address != nullptr; address = address->ai_next) {
    const int socket = ::socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                                address->ai_protocol);
    if (socket < 0) {
      error = errno;
      continue;
    }
    // Not SO_REUSEPORT: two servers on one port would share its clients unnoticed. Accepted sockets inherit
    // TCP_NODELAY.
    if (set(socket, SOL_SOCKET, SO_REUSEADDR) && set(socket, IPPROTO_TCP, TCP_NODELAY) &&
        ::bind(socket, address->ai_addr, address->ai_addrlen) == 0 && ::listen(socket, kBacklog) == 0)
      return HttpListener{socket, port_of(socket)};
    error = errno;
    ::close(socket);
  }
  return cannot_listen(host, port, std::strerror(error), error);
}

}  // namespace loracle::service
