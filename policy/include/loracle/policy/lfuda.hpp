#pragma once
/// LFUDA (LFU with dynamic ageing): evicts the row used least often, where a use counts for more the later it
/// is.
///
/// Formula: K = uses + L, set at insertion (uses = 1) and renewed at every hit; victim = argmin K, equal K in
/// the order in which it was set; L = K of the last victim. Sizes are ignored, as in the paper.
/// Cost: O(log4 residents) an operation. Memory: 24 bytes a row.
/// Differences from the paper: none.
/// From libCacheSim: there a hit adds L to the key, instead of adding one use and renewing the age. So hits
/// count for nothing until the first eviction, keys then double with every round, and a key may fall below
/// the L that the search for victims starts from, whose row is then never evicted. Counts differ by -7 to +1
/// % on its sample trace, and are 10 % higher on Zipf(1.0), where rows that cannot leave are an advantage. At
/// equal sizes ours is GDSF without the bypass.
/// Source: Arlitt, Cherkasova, Dilley, Friedrich, Jin, "Evaluating content management techniques for Web
/// proxy caches", Performance Evaluation Review 27(4), 2000.

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "loracle/core/indexed_heap.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Lfuda {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "lfuda";
  static constexpr bool kClairvoyant = false;

  Lfuda(std::uint32_t rows, Capacity, const Config&) : heap_(rows), uses_(rows) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return heap_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable&) noexcept {
    uses_[index_of(row)] = 1;
    heap_.insert(row, age_ + 1);
  }
  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    heap_.update(row, age_ + ++uses_[index_of(row)]);
  }
  void on_remove(Row row) noexcept { heap_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    return heap_.take_unless(guard, [this](std::uint64_t key) {
      age_ = std::max(age_, key);  // never back: with a guard, victims may come out of order
      return false;
    });
  }

  void prefetch(Row row) const noexcept {
    heap_.prefetch(row);
    __builtin_prefetch(&uses_[index_of(row)], 1);
  }

 private:
  IndexedHeap<std::uint64_t> heap_;
  std::vector<std::uint32_t> uses_;  // [rows] since insertion
  std::uint64_t age_ = 0;            // L
};
static_assert(EvictionPolicy<Lfuda>);

}  // namespace loracle
