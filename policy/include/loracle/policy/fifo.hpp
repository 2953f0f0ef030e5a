#pragma once
/// FIFO: evicts the row that came in first.
///
/// Formula: victim = argmin of arrival; a hit changes nothing. Cost: O(1) an operation, amortised; evict
/// passes over blocked rows from the old end. Memory: 12 bytes a row. Differences from the textbook: none.
/// From libCacheSim: none in the counts. Source: Belady, "A study of replacement algorithms for a
/// virtual-storage computer", IBM Systems Journal 5(2), 1966.

#include <cstdint>
#include <string_view>

#include "loracle/core/row_ring.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Fifo {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "fifo";
  static constexpr bool kClairvoyant = false;

  Fifo(std::uint32_t rows, Capacity capacity, const Config&) : ring_(rows, capacity.entries) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return ring_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable&) noexcept { ring_.push(row); }
  void on_access(Row, Tick, const AdapterTable&) noexcept {}
  void on_remove(Row row) noexcept { ring_.erase_at(ring_.position_of(row)); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    for (RowRing::Position at = ring_.begin(); at != ring_.end(); at = ring_.next_row(at)) {
      const Row victim = ring_.at(at);
      if (guard.blocks(victim)) continue;
      ring_.erase_at(at);
      return victim;
    }
    return kNoRow;
  }

  void prefetch(Row row) const noexcept { ring_.prefetch(row); }

 private:
  RowRing ring_;
};
static_assert(EvictionPolicy<Fifo>);

}  // namespace loracle
