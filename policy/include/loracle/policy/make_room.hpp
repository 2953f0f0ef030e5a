#pragma once
/// The one loop that makes room for a newcomer. Replay, tiers and engine all instantiate this; there is no
/// other.

#include <concepts>
#include <cstdint>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

/// How full a tier is.
struct Occupancy {
  std::uint64_t entries = 0;
  Bytes bytes{};
};

/// True if `size` more bytes in one more entry stay within the capacity.
[[nodiscard]] constexpr bool fits(const Occupancy& used, Bytes size, const Capacity& capacity) noexcept {
  return used.entries < capacity.entries && size <= capacity.bytes && used.bytes <= capacity.bytes - size;
}

enum class Room : std::uint8_t {
  kMade,      // the newcomer fits now
  kBypassed,  // the policy chose the newcomer itself
  kBlocked,   // all that is left is pinned, leased or part of the request
};

/// Evicts until `incoming` fits, telling `on_evict(victim)` of each victim after it is off the books.
/// Evictions made before a kBypassed or kBlocked stay made.
/// REQUIRES: the newcomer alone fits the capacity; policy.admit(incoming) said yes.
template <EvictionPolicy P, class Guard, std::invocable<Row> OnEvict>
[[nodiscard]] Room make_room(P& policy, Occupancy& used, const Capacity& capacity, Row incoming, Tick now,
                             const AdapterTable& table, const Guard& guard, OnEvict&& on_evict) noexcept {
  const Bytes size = table.size_of(incoming);
  while (!fits(used, size, capacity)) {
    const Row victim = policy.evict(incoming, now, table, guard);
    if (victim == incoming) return Room::kBypassed;
    if (victim == kNoRow) return Room::kBlocked;
    --used.entries;
    used.bytes -= table.size_of(victim);
    on_evict(victim);
  }
  return Room::kMade;
}

/// Evicts what a policy calls surplus though the tier has room (slru, lirs: `shed` in their headers); a no-op
/// for the others. For drivers that want such a policy exactly as published: call it after each on_access and
/// on_insert. A driver that never calls it keeps the surplus until room is needed.
template <EvictionPolicy P, class Guard, std::invocable<Row> OnEvict>
void shed_surplus([[maybe_unused]] P& policy, [[maybe_unused]] Occupancy& used, [[maybe_unused]] Tick now,
                  [[maybe_unused]] const AdapterTable& table, [[maybe_unused]] const Guard& guard,
                  [[maybe_unused]] OnEvict&& on_evict) noexcept {
  if constexpr (requires { policy.shed(now, table, guard); }) {
    for (Row row = policy.shed(now, table, guard); row != kNoRow; row = policy.shed(now, table, guard)) {
      --used.entries;
      used.bytes -= table.size_of(row);
      on_evict(row);
    }
  }
}

}  // namespace loracle
