#include "storage/address_ranges.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace loracle {
namespace {

struct Range4 {
  std::uint32_t first;
  unsigned bits;
};

/// IANA's special-purpose registry, and multicast and class E.
constexpr std::array kPrivate4 = {
    Range4{0x00000000, 8},   // "this network"
    Range4{0x0A000000, 8},   // RFC 1918
    Range4{0x64400000, 10},  // carrier NAT; some clouds' metadata
    Range4{0x7F000000, 8},   // loopback
    Range4{0xA9FE0000, 16},  // link-local; most clouds' metadata
    Range4{0xAC100000, 12},  // RFC 1918
    Range4{0xC0000000, 24},  // IETF protocols; one cloud's metadata
    Range4{0xC0000200, 24},  // documentation
    Range4{0xC0586300, 24},  // 6to4 relays
    Range4{0xC0A80000, 16},  // RFC 1918
    Range4{0xC6120000, 15},  // benchmarks
    Range4{0xC6336400, 24},  // documentation
    Range4{0xCB007100, 24},  // documentation
    Range4{0xE0000000, 3},   // multicast, reserved, broadcast
};

bool is_private4(std::uint32_t address) noexcept {
  return std::any_of(kPrivate4.begin(), kPrivate4.end(), [&](const Range4& range) {
    return ((address ^ range.first) >> (32U - range.bits)) == 0;
  });
}

using Bytes16 = std::array<std::uint8_t, 16>;

struct Range6 {
  Bytes16 first;
  unsigned bits;
};

constexpr std::array kPrivate6 = {
    Range6{{0x00, 0x64, 0xFF, 0x9B, 0x00, 0x01}, 48},  // local NAT64
    Range6{{0x01, 0x00}, 64},                          // discard
    Range6{{0x20, 0x01, 0x00, 0x00}, 23},              // IETF protocols, Teredo among them
    Range6{{0x20, 0x01, 0x0D, 0xB8}, 32},              // documentation
    Range6{{0x3F, 0xFF}, 20},                          // documentation
    Range6{{0x5F, 0x00}, 16},                          // segment routing
    Range6{{0xFC, 0x00}, 7},                           // unique local; one cloud's metadata
    Range6{{0xFE, 0x80}, 10},                          // link-local
    Range6{{0xFE, 0xC0}, 10},                          // site-local, once
    Range6{{0xFF, 0x00}, 8},                           // multicast
};

bool lies_in(const Bytes16& address, const Range6& range) noexcept {
  for (unsigned bit = 0; bit < range.bits; bit += 8) {
    const unsigned used = std::min(8U, range.bits - bit);
    const auto differ = static_cast<unsigned>(address[bit / 8] ^ range.first[bit / 8]);
    if ((differ >> (8U - used)) != 0) return false;
  }
  return true;
}

std::uint32_t word_at(const Bytes16& address, std::size_t at) noexcept {
  return std::uint32_t{address[at]} << 24U | std::uint32_t{address[at + 1]} << 16U |
         std::uint32_t{address[at + 2]} << 8U | std::uint32_t{address[at + 3]};
}

bool is_private6(const Bytes16& address) noexcept {
  constexpr Range6 kMapped{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, 96};
  constexpr Range6 kCompatible{{}, 96};  // ::1 and :: too: 0.0.0.0/8 is not public
  constexpr Range6 kNat64{{0x00, 0x64, 0xFF, 0x9B}, 96};
  constexpr Range6 k6to4{{0x20, 0x02}, 16};
  if (lies_in(address, kMapped) || lies_in(address, kCompatible) || lies_in(address, kNat64))
    return is_private4(word_at(address, 12));
  if (lies_in(address, k6to4)) return is_private4(word_at(address, 2));
  return std::any_of(kPrivate6.begin(), kPrivate6.end(),
                     [&](const Range6& range) { return lies_in(address, range); });
}

}  // namespace

bool is_private_address(const sockaddr& address) noexcept {
  if (address.sa_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &address, sizeof four);
    return is_private4(ntohl(four.sin_addr.s_addr));
  }
  if (address.sa_family != AF_INET6) return true;
  sockaddr_in6 six{};
  std::memcpy(&six, &address, sizeof six);
  Bytes16 bytes{};
  std::memcpy(bytes.data(), &six.sin6_addr, bytes.size());
  return is_private6(bytes);
}

std::string text_of_address(const sockaddr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.sa_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &address, sizeof four);
    ::inet_ntop(AF_INET, &four.sin_addr, text.data(), text.size());
  } else if (address.sa_family == AF_INET6) {
    sockaddr_in6 six{};
    std::memcpy(&six, &address, sizeof six);
    ::inet_ntop(AF_INET6, &six.sin6_addr, text.data(), text.size());
  } else {
    return "an address of no known family";
  }
  return text.data();
}

}  // namespace loracle
