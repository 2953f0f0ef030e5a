#pragma once
/// LRU: evicts the row whose last use is longest ago.
///
/// Formula: victim = argmin of last use. Cost: O(1) an operation; evict passes over blocked rows from the old
/// end. Memory: 8 bytes a row. Differences from the textbook: none. From libCacheSim: none in the counts.
/// Source: Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970.

#include <cstdint>
#include <string_view>

#include "loracle/core/row_lists.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Lru {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "lru";
  static constexpr bool kClairvoyant = false;

  Lru(std::uint32_t rows, Capacity, const Config&) : lists_(rows, 1) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return lists_.linked(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable&) noexcept { lists_.push_front(0, row); }
  void on_access(Row row, Tick, const AdapterTable&) noexcept { lists_.move_to_front(0, row); }
  void on_remove(Row row) noexcept { lists_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    Row victim = lists_.back(0);
    while (victim != kNoRow && guard.blocks(victim)) victim = lists_.newer(victim);
    if (victim != kNoRow) lists_.erase(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept { lists_.prefetch(row); }

 private:
  RowLists lists_;
};
static_assert(EvictionPolicy<Lru>);

}  // namespace loracle
