#pragma once
/// Hyperbolic caching: evicts the row with the fewest uses per tick since it came in.
///
/// Formula: score = uses / (now - insertion), both since the insertion; victim = argmin score over `samples`
/// rows drawn at random, or over all where there are no more than that. With `weighted`, score * reload_cost
/// / size (the paper's cost-aware form). A row that came in at this very tick has age 1.
/// Cost: O(1) an insert, hit or remove, O(samples) an evict. Memory: 28 bytes a row.
/// Differences from the paper: none (it samples 64 as well).
/// From libCacheSim: own generator and seed; and where 64 rows or fewer are resident we look at each of them
/// once, there 64 draws may miss some. Unweighted, as there. Counts agree within 0.3 % on its sample
/// trace.
/// Source: Blankstein, Sen, Freedman, "Hyperbolic caching: flexible caching for Web applications", USENIX ATC
/// 2017.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/dense_map.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/sample.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Hyperbolic {
 public:
  struct Config {
    std::uint64_t samples = 64;
    std::uint64_t seed = 1;
    bool weighted = false;  // by reload cost and size
    template <class V>
    void visit(V&& v) {
      v("samples", samples);
      v("seed", seed);
      v("weighted", weighted);
    }
  };
  static constexpr std::string_view kName = "hyperbolic";
  static constexpr bool kClairvoyant = false;

  Hyperbolic(std::uint32_t rows, Capacity, const Config& config)
      : sampling_{config.samples, config.samples},
        weighted_(config.weighted),
        resident_(rows),
        rng_(config.seed) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return resident_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick now, const AdapterTable&) noexcept { resident_.insert(row, {now, 1}); }
  void on_access(Row row, Tick, const AdapterTable&) noexcept { ++resident_[row].uses; }
  void on_remove(Row row) noexcept { resident_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick now, const AdapterTable& table, const Guard& guard) noexcept {
    const Row victim = least_candidate(resident_, sampling_, rng_, guard, [&](const Stay& stay, Row row) {
      const std::uint64_t age = std::max<std::uint64_t>(1, (now - stay.since).value);
      const double rate = static_cast<double>(stay.uses) / static_cast<double>(age);
      if (!weighted_) return rate;
      return rate * static_cast<double>(table.reload_cost_of(row)) /
             static_cast<double>(std::max<std::uint64_t>(1, table.size_of(row).value));
    });
    if (victim != kNoRow) resident_.erase(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept { resident_.prefetch(row); }

 private:
  struct Stay {  // always read together
    Tick since;
    std::uint32_t uses = 0;
  };

  Sampling sampling_;
  bool weighted_;
  DenseMap<Stay> resident_;
  Rng rng_;
};
static_assert(EvictionPolicy<Hyperbolic>);

}  // namespace loracle
