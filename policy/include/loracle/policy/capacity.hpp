#pragma once
/// How much a tier holds: adapters, bytes, or both at once. What is not limited is kUnlimited.

#include <cstdint>
#include <limits>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

struct Capacity {
  std::uint64_t entries = kUnlimited;  // adapters
  Bytes bytes{kUnlimited};

  friend constexpr bool operator==(const Capacity&, const Capacity&) noexcept = default;
};

/// What policies that split their space into queues measure it in: bytes where bytes are limited, else
/// entries.
class Weigher {
 public:
  explicit constexpr Weigher(Capacity capacity) noexcept
      : by_bytes_(capacity.bytes.value != kUnlimited),
        total_(by_bytes_ ? capacity.bytes.value : capacity.entries) {}

  [[nodiscard]] constexpr std::uint64_t total() const noexcept { return total_; }
  [[nodiscard]] constexpr bool by_bytes() const noexcept { return by_bytes_; }
  /// A part of the total, rounded down; a fraction outside [0, 1] counts as the nearer end.
  [[nodiscard]] constexpr std::uint64_t share(double fraction) const noexcept {
    const double part = static_cast<double>(total_) * fraction;
    if (!(part > 0)) return 0;
    return part < static_cast<double>(total_) ? static_cast<std::uint64_t>(part) : total_;
  }
  [[nodiscard]] std::uint64_t of(Row row, const AdapterTable& table) const noexcept {
    return by_bytes_ ? table.size_of(row).value : 1;
  }

 private:
  bool by_bytes_;
  std::uint64_t total_;
};

}  // namespace loracle
