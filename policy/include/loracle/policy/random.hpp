#pragma once
/// RANDOM: evicts any row, each with equal chance.
///
/// Formula: victim = uniform over the rows that are not blocked. Cost: O(1) an operation; where the draw is
/// blocked it is repeated a few times and then all rows are passed over once. Memory: 8 bytes a row.
/// Differences from the textbook: none. From libCacheSim: another generator and seed, so counts agree within
/// 0.6 % on its sample trace and not exactly; there the draw is of a hash bucket, ours of a row.
/// Source: Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
/// 5(2), 1966.

#include <cstdint>
#include <span>
#include <string_view>

#include "loracle/core/dense_set.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Random {
 public:
  struct Config {
    std::uint64_t seed = 1;
    template <class V>
    void visit(V&& v) {
      v("seed", seed);
    }
  };
  static constexpr std::string_view kName = "random";
  static constexpr bool kClairvoyant = false;

  Random(std::uint32_t rows, Capacity, const Config& config) : resident_(rows), rng_(config.seed) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return resident_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable&) noexcept { resident_.insert(row); }
  void on_access(Row, Tick, const AdapterTable&) noexcept {}
  void on_remove(Row row) noexcept { resident_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    const Row victim = draw(guard);
    if (victim != kNoRow) resident_.erase(victim);
    return victim;
  }

 private:
  static constexpr int kDrawsMax = 8;

  template <class Guard>
  [[nodiscard]] Row draw(const Guard& guard) noexcept {
    if (resident_.empty()) return kNoRow;
    const std::span<const Row> rows = resident_.rows();
    for (int i = 0; i < kDrawsMax; ++i) {
      const std::uint32_t place = rng_.below(resident_.size());
      if (!guard.blocks(rows[place])) return rows[place];
    }
    // Nearly all blocked. Count the others and draw among them, so that the choice stays uniform.
    std::uint32_t free = 0;
    for (const Row row : rows) free += guard.blocks(row) ? 0U : 1U;
    if (free == 0) return kNoRow;
    std::uint32_t skip = rng_.below(free);
    for (const Row row : rows) {
      if (guard.blocks(row)) continue;
      if (skip-- == 0) return row;
    }
    return kNoRow;
  }

  DenseSet resident_;
  Rng rng_;
};
static_assert(EvictionPolicy<Random>);

}  // namespace loracle
