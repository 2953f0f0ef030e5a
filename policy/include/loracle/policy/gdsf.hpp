#pragma once
/// GDSF (Greedy-Dual-Size-Frequency): evicts the row with the least value for its size, where value is the
/// number of uses times the cost to reload, aged by what was evicted so far.
///
/// Formula: H = L + uses * 1e6 * reload_cost / size, set at insertion and renewed at every hit; victim =
/// argmin H, equal H in the order in which it was set; L = H of the last victim. `uses` counts from the
/// insertion. The newcomer competes with its own H: if it is the least, `evict` answers with it (a bypass)
/// and L becomes its H. Of a newcomer that the guard blocks, nothing of this holds: it comes in.
/// Cost: O(log4 residents) an insert, hit, evict or remove. Memory: 24 bytes a row.
/// Differences from the paper: the newcomer may be its own victim (the paper evicts until it fits).
/// From libCacheSim: none in the counts. The factor 1e6 is there for that: it changes no order, only the
/// rounding.
/// Source: Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency caching policy", HP
/// Labs HPL-98-69R1, 1998; the newcomer's part as in libCacheSim 6d3d368.

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "loracle/core/indexed_heap.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Gdsf {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "gdsf";
  static constexpr bool kClairvoyant = false;

  Gdsf(std::uint32_t rows, Capacity, const Config&) : heap_(rows), uses_(rows) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return heap_.contains(row); }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable& table) noexcept {
    offer(row, table);
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    if (newcomer_ != row) offer(row, table);
    newcomer_ = kNoRow;
    uses_[index_of(row)] = 1;
    heap_.insert(row, newcomer_priority_);
  }

  void on_access(Row row, Tick, const AdapterTable& table) noexcept {
    heap_.update(row, priority(++uses_[index_of(row)], row, table));
  }

  void on_remove(Row row) noexcept { heap_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row incoming, Tick, const AdapterTable& table, const Guard& guard) noexcept {
    const bool may_bypass = incoming != kNoRow && !guard.blocks(incoming);
    if (may_bypass && newcomer_ != incoming) offer(incoming, table);
    bool bypass = false;
    double least = 0;
    const Row victim = heap_.take_unless(guard, [&](double h) {
      least = h;
      return bypass = may_bypass && newcomer_priority_ < h;
    });
    if (bypass) least = newcomer_priority_;
    age_ = std::max(age_, least);  // never back: with a guard, victims may come out of order
    return bypass ? incoming : victim;
  }

  void prefetch(Row row) const noexcept {
    heap_.prefetch(row);
    __builtin_prefetch(&uses_[index_of(row)], 1);
  }

 private:
  [[nodiscard]] double priority(std::uint32_t uses, Row row, const AdapterTable& table) const noexcept {
    const double cost = 1.0e6 * static_cast<double>(table.reload_cost_of(row));
    return age_ + static_cast<double>(uses) * cost /
                      static_cast<double>(std::max<std::uint64_t>(1, table.size_of(row).value));
  }

  /// Fixes the newcomer's H before the first eviction made for it: L as it was when it asked.
  void offer(Row row, const AdapterTable& table) noexcept {
    newcomer_ = row;
    newcomer_priority_ = priority(1, row, table);
  }

  IndexedHeap<double> heap_;
  std::vector<std::uint32_t> uses_;  // [rows] since insertion
  double age_ = 0;                   // L
  double newcomer_priority_ = 0;
  Row newcomer_ = kNoRow;  // whose H newcomer_priority_ is
};
static_assert(EvictionPolicy<Gdsf>);

}  // namespace loracle
