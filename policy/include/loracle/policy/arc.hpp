#pragma once
/// ARC: two LRU lists, rows seen once lately (T1) and rows seen at least twice (T2), whose balance is learned
/// from requests for rows that left them (ghost lists B1 and B2).
///
/// Formula: p is the target weight of T1, 0 at first. Hit: to the front of T2. Miss in B1: p += max(1, |B2| /
/// |B1|); in B2: p -= max(1, |B1| / |B2|), within [0, capacity]; the row then enters T2. Any other miss
/// enters T1; before its eviction, if T1 + B1 + newcomer exceed the capacity, the oldest of B1 is forgotten
/// (or, with B1 empty, the oldest of T1 is the victim, leaving no ghost); else, if all four lists hold twice
/// the capacity, the oldest of B2. Victim (REPLACE): the oldest of T1, kept in B1, if |T1| > p, or |T1| = p
/// and the newcomer was in B2; else the oldest of T2, kept in B2. |.| is entries, or bytes where bytes are
/// limited.
/// Cost: O(1) an operation; evict passes over blocked rows. Memory: 9 bytes a row, 17 where bytes are
/// limited. If the list whose turn it is has only blocked rows, the other gives the victim.
/// Differences from the paper: p is a real number, the paper does not say; lists are weighed, so sizes may
/// differ (then p moves by bytes, one at least, which adapts slowly). From libCacheSim: none in the counts.
/// Source: Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003, figure 4.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Arc {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "arc";
  static constexpr bool kClairvoyant = false;

  Arc(std::uint32_t rows, Capacity capacity, const Config&)
      : weigher_(capacity), queues_(rows, 4, weigher_.by_bytes()) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return queues_.queue_of(row) <= kT2; }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept {
    ghost_ = queues_.queue_of(row);
    newcomer_ = row;
    if (ghost_ == RowQueues::kNowhere) return true;
    const auto b1 = static_cast<double>(std::max<std::uint64_t>(queues_.weight(kB1), 1));
    const auto b2 = static_cast<double>(std::max<std::uint64_t>(queues_.weight(kB2), 1));
    if (ghost_ == kB1)
      target_ = std::min(target_ + std::max(b2 / b1, 1.0), static_cast<double>(weigher_.total()));
    else
      target_ = std::max(target_ - std::max(b1 / b2, 1.0), 0.0);
    queues_.erase(row);
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    queues_.push_front(was_ghost(row) ? kT2 : kT1, row, weigher_.of(row, table));
    newcomer_ = kNoRow;
  }
  void on_access(Row row, Tick, const AdapterTable&) noexcept { queues_.move_to_front(kT2, row); }
  void on_remove(Row row) noexcept { queues_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row incoming, Tick, const AdapterTable& table, const Guard& guard) noexcept {
    if (was_ghost(incoming)) return replace(ghost_ == kB2, guard);
    const std::uint64_t once = queues_.weight(kT1) + queues_.weight(kB1);
    if (once + weigher_.of(incoming, table) > weigher_.total()) {
      if (!queues_.empty(kB1)) {
        queues_.erase(queues_.back(kB1));
        return replace(false, guard);
      }
      const Row victim = queues_.oldest_free(kT1, guard);
      if (victim == kNoRow) return replace(false, guard);
      queues_.erase(victim);
      return victim;
    }
    const std::uint64_t twice = queues_.weight(kT2) + queues_.weight(kB2);
    if ((once + twice) / 2 >= weigher_.total() && !queues_.empty(kB2)) queues_.erase(queues_.back(kB2));
    return replace(false, guard);
  }

  void prefetch(Row row) const noexcept { queues_.prefetch(row); }

 private:
  enum : std::uint32_t { kT1, kT2, kB1, kB2 };

  [[nodiscard]] bool was_ghost(Row row) const noexcept {
    return row == newcomer_ && ghost_ != RowQueues::kNowhere;
  }

  template <class Guard>
  [[nodiscard]] Row replace(bool newcomer_in_b2, const Guard& guard) noexcept {
    const auto t1 = static_cast<double>(queues_.weight(kT1));
    const bool t1_first = t1 > 0 && (t1 > target_ || (t1 == target_ && newcomer_in_b2));
    Row victim = queues_.oldest_free(t1_first ? kT1 : kT2, guard);
    if (victim == kNoRow) victim = queues_.oldest_free(t1_first ? kT2 : kT1, guard);
    if (victim != kNoRow) queues_.move_to_front(queues_.queue_of(victim) == kT1 ? kB1 : kB2, victim);
    return victim;
  }

  Weigher weigher_;
  RowQueues queues_;
  double target_ = 0;      // p, in the weigher's unit
  Row newcomer_ = kNoRow;  // the row being admitted, and the ghost list it was in
  std::uint32_t ghost_ = RowQueues::kNowhere;
};
static_assert(EvictionPolicy<Arc>);

}  // namespace loracle
