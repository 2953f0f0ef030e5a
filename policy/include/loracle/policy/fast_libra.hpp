#pragma once
/// FASTLIBRA's cost model: evicts the adapter with the least swap cost times visits times a sigmoid of its
/// idle time.
///
/// Formula: value = C^cost * V^visits * (1 - sigmoid(t))^recency, where
///   C = table.reload_cost, or the size where no costs are given (a swap moves all bytes),
///   V = uses since insertion,
///   t = (now - last use) / horizon; `horizon` is in ticks, 0 means as many as there are residents: the time
///       in which each would be used once if all were used alike;
/// victim = argmin value, compared by its logarithm, so that long idle times stay apart (log(1 - sigmoid(t))
/// is -t - log(1 + e^-t)). The exponents are 1 by default; 0 takes a term out (the paper's ablation), a
/// negative one turns it round.
/// Candidates: all residents that are not blocked, or, above `scan_max` residents, `samples` drawn at random.
/// Cost: O(1) an insert, hit or remove, with two logarithms; O(candidates) an evict, few of which need an
/// exponential.
/// Memory: 36 bytes a row. The last bit of a logarithm differs between C libraries, and so may the victim
/// where two adapters are worth the same up to that bit.
/// Differences from the paper: its text was not available; the form comes from a secondary account, which
/// gives no unit for the idle time: hence `horizon`. The paper scores a tree of adapters and KV prefixes
/// every 100 ms, swaps ahead of need, and rewards keeping enough adapters resident; this policy is the cost
/// model alone, on adapters alone, asked when room is needed.
/// From libCacheSim: it has none.
/// Source: FASTLIBRA (ELORA), arXiv 2505.03756, 2025.

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "loracle/core/dense_map.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/sample.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class FastLibra {
 public:
  struct Config {
    double cost = 1;
    double visits = 1;
    double recency = 1;
    std::uint64_t horizon = 0;  // ticks; 0: the number of residents
    std::uint64_t samples = 64;
    std::uint64_t scan_max = 256;
    std::uint64_t seed = 1;
    template <class V>
    void visit(V&& v) {
      v("cost", cost);
      v("visits", visits);
      v("recency", recency);
      v("horizon", horizon);
      v("samples", samples);
      v("scan_max", scan_max);
      v("seed", seed);
    }
  };
  static constexpr std::string_view kName = "fastlibra";
  static constexpr bool kClairvoyant = false;

  FastLibra(std::uint32_t rows, Capacity, const Config& config)
      : config_(config), resident_(rows), rng_(config.seed) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return resident_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick now, const AdapterTable& table) noexcept {
    resident_.insert(row, Stay{now, log_worth(1, row, table), 1});
  }
  void on_access(Row row, Tick now, const AdapterTable& table) noexcept {
    Stay& stay = resident_[row];
    stay.last_use = now;
    stay.log_worth = log_worth(++stay.uses, row, table);
  }
  void on_remove(Row row) noexcept { resident_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick now, const AdapterTable&, const Guard& guard) noexcept {
    const double horizon =
        config_.horizon == 0 ? static_cast<double>(resident_.size()) : static_cast<double>(config_.horizon);
    const Sampling sampling{config_.samples, config_.scan_max};
    // -t - log 2 <= log(1 - sigmoid(t)) <= -t: most candidates are out before the exponential is taken.
    const double slack = config_.recency > 0 ? config_.recency * std::numbers::ln2 : 0;
    Row victim = kNoRow;
    double least = 0;
    for_each_candidate(resident_, sampling, rng_, guard, [&](const auto& member) {
      const double idle = static_cast<double>((now - member.value.last_use).value) / horizon;
      const double bound = member.value.log_worth - config_.recency * idle;
      if (victim != kNoRow && bound - slack >= least) return;
      const double value = bound - config_.recency * std::log1p(std::exp(-idle));
      if (victim != kNoRow && value >= least) return;
      victim = member.row;
      least = value;
    });
    if (victim != kNoRow) resident_.erase(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept { resident_.prefetch(row); }

 private:
  struct Stay {  // always read together
    Tick last_use;
    double log_worth = 0;  // log(C^cost * V^visits), as of the last use
    std::uint32_t uses = 0;
  };

  [[nodiscard]] double log_worth(std::uint32_t uses, Row row, const AdapterTable& table) const noexcept {
    return config_.cost * std::log(swap_cost(row, table)) +
           config_.visits * std::log(static_cast<double>(uses));
  }

  /// Costs nothing below the least positive double: an adapter that is free to load back still has a
  /// logarithm.
  [[nodiscard]] static double swap_cost(Row row, const AdapterTable& table) noexcept {
    const double cost = table.reload_cost.empty() ? static_cast<double>(table.size_of(row).value)
                                                  : static_cast<double>(table.reload_cost_of(row));
    return cost > 0 ? cost : 1e-300;
  }

  Config config_;
  DenseMap<Stay> resident_;
  Rng rng_;
};
static_assert(EvictionPolicy<FastLibra>);

}  // namespace loracle
