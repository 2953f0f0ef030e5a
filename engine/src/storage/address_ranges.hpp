#pragma once
/// Which addresses are nobody's on the public Internet: what a URL from outside must not make us talk to.

#include <string>

struct sockaddr;

namespace loracle {

/// Loopback, link-local (clouds' metadata), RFC 1918, carrier NAT, unique local, multicast, documentation,
/// reserved; and IPv6 forms that carry such an IPv4 address (mapped, compatible, NAT64, 6to4), and Teredo.
/// True, too, for an address of any other family.
[[nodiscard]] bool is_private_address(const sockaddr& address) noexcept;
/// As text, without the port.
[[nodiscard]] std::string text_of_address(const sockaddr& address);

}  // namespace loracle
