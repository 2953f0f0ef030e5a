#pragma once
/// GreedyDual-Size, which is Landlord with full renewal: evicts the row whose reload is cheapest for its
/// size, aged by what was evicted so far. k-competitive for the total reload cost.
///
/// Formula: H = L + reload_cost / size, set at insertion and renewed at every hit; victim = argmin H, equal H
/// in the order in which it was set; L = H of the last victim. With no costs and equal sizes this is LRU;
/// with reload_cost proportional to size (a pure transfer) it is LRU as well, and that is the point: only
/// what does not scale with size, such as a round trip to a store, favours small rows.
/// Cost: O(log4 residents) an operation. Memory: 20 bytes a row.
/// Differences from the paper: none (GDS; Landlord may also let the newcomer go at once: ours always admits).
/// From libCacheSim: it has none.
/// Source: Cao and Irani, "Cost-aware WWW proxy caching algorithms", USITS 1997; Young, "On-line file
/// caching", SODA 1998.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/indexed_heap.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class GreedyDual {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "greedydual";
  static constexpr bool kClairvoyant = false;

  GreedyDual(std::uint32_t rows, Capacity, const Config&) : heap_(rows) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return heap_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable& table) noexcept { heap_.insert(row, credit(row, table)); }
  void on_access(Row row, Tick, const AdapterTable& table) noexcept { heap_.update(row, credit(row, table)); }
  void on_remove(Row row) noexcept { heap_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    return heap_.take_unless(guard, [this](double h) {
      age_ = std::max(age_, h);  // never back: with a guard, victims may come out of order
      return false;
    });
  }

  void prefetch(Row row) const noexcept { heap_.prefetch(row); }

 private:
  [[nodiscard]] double credit(Row row, const AdapterTable& table) const noexcept {
    return age_ + static_cast<double>(table.reload_cost_of(row)) /
                      static_cast<double>(std::max<std::uint64_t>(1, table.size_of(row).value));
  }

  IndexedHeap<double> heap_;
  double age_ = 0;  // L
};
static_assert(EvictionPolicy<GreedyDual>);

}  // namespace loracle
