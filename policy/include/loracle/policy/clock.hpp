#pragma once
/// CLOCK, or second chance: FIFO that lets a row used since it came in (or since the hand last passed) stay.
///
/// Formula: a hit sets the row's mark; evict: while the oldest row is marked, unmark it and make it the
/// newest; evict the oldest. Cost: a hit sets one bit of one word; evict is O(1) amortised over hits. Memory:
/// 12 bytes a row.
/// Blocked rows are passed like marked ones (they become the newest) and keep their marks.
/// Differences from the textbook: the queue turns under a hand that stands still; same victims. From
/// libCacheSim: one bit a row, its default; none in the counts.
/// Source: Corbato, "A paging experiment with the Multics system", MIT Project MAC report MAC-M-384, 1968.

#include <cstdint>
#include <string_view>

#include "loracle/core/row_ring.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Clock {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "clock";
  static constexpr bool kClairvoyant = false;

  Clock(std::uint32_t rows, Capacity capacity, const Config&) : ring_(rows, capacity.entries) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return ring_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable&) noexcept { ring_.push(row); }
  void on_access(Row row, Tick, const AdapterTable&) noexcept { ring_.mark(row); }
  void on_remove(Row row) noexcept { ring_.erase_at(ring_.position_of(row)); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    // After one turn every free row is unmarked; the second meets one, if there is one.
    for (std::uint64_t steps = std::uint64_t{ring_.size()} * 2; steps > 0; --steps) {
      const RowRing::Position oldest = ring_.begin();
      const Row row = ring_.at(oldest);
      ring_.prefetch_after(oldest);
      const bool marked = ring_.marked(row);
      if (guard.blocks(row)) {
        ring_.rotate();
        if (marked) ring_.mark(row);
      } else if (marked) {
        ring_.rotate();
      } else {
        ring_.erase_at(oldest);
        return row;
      }
    }
    return kNoRow;
  }

  void prefetch(Row row) const noexcept { ring_.prefetch(row); }

 private:
  RowRing ring_;
};
static_assert(EvictionPolicy<Clock>);

}  // namespace loracle
