#pragma once
/// The loop of a replay: one policy, one capacity, a stream of rows. Private to sim; instantiated once a
/// policy and unit in replay.cpp, and by benchmarks.

#include <cstdint>
#include <span>
#include <type_traits>

#include "loracle/policy/eviction_policy.hpp"
#include "loracle/policy/make_room.hpp"
#include "loracle/sim/replay.hpp"

namespace loracle {

/// How far ahead of the current use the loop asks the processor for a row's state. 12 to 24 measured alike.
inline constexpr std::size_t kPrefetchUses = 16;

/// A clairvoyant policy that looks up next uses in the stream itself needs no column kept for it.
template <class P>
concept ReadsFuture = requires(typename P::Config config) {
  config.future_next;
};

/// `table` needs `size` when bytes are counted; for clairvoyant policies its `next_use` is kept up to date
/// here.
template <bool kCountBytes, EvictionPolicy P>
[[nodiscard]] ReplayCounts replay_loop(P& policy, const UseStream& stream, const Capacity& capacity,
                                       AdapterTable& table) noexcept {
  const std::span<const Row> uses = stream.uses.view();
  const std::size_t count = uses.size();
  ReplayCounts counts;
  counts.requests = count;
  Occupancy used;
  const auto count_eviction = [&counts](Row) { ++counts.evictions; };
  for (std::size_t i = 0; i < count; ++i) {
    const Row row = uses[i];
    const Tick now{i};
    if constexpr (requires { policy.prefetch(row); })
      if (i + kPrefetchUses < count) policy.prefetch(uses[i + kPrefetchUses]);
    if constexpr (P::kClairvoyant && !ReadsFuture<P>) {
      const std::uint32_t next = stream.next_use[i];
      table.next_use[index_of(row)] = next == UseStream::kNoNextUse ? kNever : Tick{next};
    }
    if constexpr (kCountBytes) counts.bytes_requested += table.size_of(row);
    if (policy.contains(row)) {
      policy.on_access(row, now, table);
      shed_surplus(policy, used, now, table, NoGuard{}, count_eviction);
      continue;
    }
    ++counts.misses;
    if constexpr (kCountBytes) {
      counts.bytes_missed += table.size_of(row);
      if (!fits(Occupancy{}, table.size_of(row), capacity)) {
        ++counts.bypasses;
        continue;
      }
    }
    if (!policy.admit(row, now, table) ||
        make_room(policy, used, capacity, row, now, table, NoGuard{}, count_eviction) != Room::kMade) {
      ++counts.bypasses;
      continue;
    }
    policy.on_insert(row, now, table);
    ++used.entries;
    used.bytes += table.size_of(row);
    shed_surplus(policy, used, now, table, NoGuard{}, count_eviction);
  }
  if constexpr (!kCountBytes) {
    counts.bytes_requested = Bytes{count};
    counts.bytes_missed = Bytes{counts.misses};
  }
  counts.compulsory_misses = stream.distinct;
  counts.resident_entries = used.entries;
  counts.resident_bytes = used.bytes;
  return counts;
}

}  // namespace loracle
