#pragma once
/// A trace's requests cut into equal stretches, and what is counted of each: the ground that regimes and
/// intervals stand on.
///
/// Stretches hold equally many requests (to one), so that busy hours do not weigh less than quiet ones, and
/// traces without times have them too. A request is in the stretch it arrives in, whenever it is served.

#include <cstdint>

namespace loracle {

struct StretchCounts {
  std::uint64_t requests = 0;
  std::uint64_t uses = 0;
  std::uint64_t gpu_hits = 0;         // uses
  std::uint64_t disk_loads = 0;       // uses
  std::uint64_t waited_for_slot = 0;  // requests; 0 where time is not simulated
  std::uint64_t late = 0;             // likewise

  friend bool operator==(const StretchCounts&, const StretchCounts&) = default;
};

/// The stretch that a request is in. REQUIRES: request < requests < 2^32.
[[nodiscard]] constexpr std::uint32_t stretch_of(std::uint64_t request, std::uint64_t requests,
                                                 std::uint32_t stretches) noexcept {
  return static_cast<std::uint32_t>(request * stretches / requests);
}

/// The first request of a stretch, or the end of all.
[[nodiscard]] constexpr std::uint64_t stretch_begin(std::uint64_t stretch, std::uint64_t requests,
                                                    std::uint32_t stretches) noexcept {
  return (stretch * requests + stretches - 1) / stretches;
}

}  // namespace loracle
