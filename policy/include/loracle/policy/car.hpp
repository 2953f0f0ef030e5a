#pragma once
/// CAR: ARC with CLOCKs in the place of LRU lists, so that a hit only sets a bit.
///
/// Formula: clocks T1 (seen once lately) and T2 (seen again), ghost lists B1 and B2, target p of T1, 0 at
/// first. Hit: set the row's bit. Miss in B1: p += max(1, |B2| / |B1|), in B2: p -= max(1, |B1| / |B2|),
/// within [0, capacity]; the row then enters T2; any other row enters T1. Evict: while there is no victim, if
/// |T1| >= max(1, p) take the oldest of T1: without its bit it is the victim, kept in B1; with it, it enters
/// T2, bit cleared; else take the oldest of T2: without its bit it is the victim, kept in B2; with it, it
/// becomes T2's newest, bit cleared. Then, if |T1| + |B1| >= capacity, forget the oldest of B1. |.| is
/// entries, or bytes where bytes are limited.
/// Cost: a hit changes one byte; evict is O(1) amortised over hits. Memory: 9 bytes a row, 17 where bytes are
/// limited.
/// Blocked rows are passed over where they are; if the clock whose turn it is has only such, the other gives.
/// Differences from the paper, all as in libCacheSim, whose counts are met exactly: the ratios in p's step
/// are whole numbers (rounded down); B1 is cut at every eviction, also when the newcomer was a ghost; and B2
/// is never cut: the test for that comes second to a wider one. So B2 remembers every row that left T2, which
/// here costs nothing, as a row's ghost lives in the row's own entry.
/// Source: Bansal and Modha, "CAR: Clock with Adaptive Replacement", FAST 2004, figure 2.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Car {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "car";
  static constexpr bool kClairvoyant = false;

  Car(std::uint32_t rows, Capacity capacity, const Config&)
      : weigher_(capacity), queues_(rows, 4, weigher_.by_bytes()) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return queues_.queue_of(row) <= kT2; }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept {
    returned_ = kNoRow;
    const std::uint32_t ghost = queues_.queue_of(row);
    if (ghost == RowQueues::kNowhere) return true;
    const std::uint64_t b1 = std::max<std::uint64_t>(queues_.weight(kB1), 1);
    const std::uint64_t b2 = std::max<std::uint64_t>(queues_.weight(kB2), 1);
    if (ghost == kB1)
      target_ = std::min(target_ + std::max<std::uint64_t>(b2 / b1, 1), weigher_.total());
    else
      target_ -= std::min(std::max<std::uint64_t>(b1 / b2, 1), target_);
    queues_.erase(row);
    returned_ = row;
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    queues_.push_front(row == returned_ ? kT2 : kT1, row, weigher_.of(row, table));
    returned_ = kNoRow;
  }
  void on_access(Row row, Tick, const AdapterTable&) noexcept { queues_.set_count(row, 1); }
  void on_remove(Row row) noexcept { queues_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    for (;;) {
      const bool t1_first = queues_.weight(kT1) >= std::max<std::uint64_t>(target_, 1);
      Row row = queues_.oldest_free(t1_first ? kT1 : kT2, guard);
      if (row == kNoRow) row = queues_.oldest_free(t1_first ? kT2 : kT1, guard);
      if (row == kNoRow) return kNoRow;
      if (queues_.count_of(row) == 0) {
        queues_.move_to_front(queues_.queue_of(row) == kT1 ? kB1 : kB2, row);
        if (queues_.weight(kT1) + queues_.weight(kB1) >= weigher_.total() && !queues_.empty(kB1))
          queues_.erase(queues_.back(kB1));
        return row;
      }
      queues_.set_count(row, 0);
      queues_.move_to_front(kT2, row);
    }
  }

  void prefetch(Row row) const noexcept { queues_.prefetch(row); }

 private:
  enum : std::uint32_t { kT1, kT2, kB1, kB2 };

  Weigher weigher_;
  RowQueues queues_;
  std::uint64_t target_ = 0;  // p, in the weigher's unit
  Row returned_ = kNoRow;     // the row being admitted, if it was a ghost
};
static_assert(EvictionPolicy<Car>);

}  // namespace loracle
