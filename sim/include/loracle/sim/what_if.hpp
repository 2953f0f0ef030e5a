#pragma once
/// Answers within a blink, from a model instead of a simulation: how often an LRU cache of any size misses,
/// how many slots are in use at once, and what a load that takes time adds.
///
/// Each adapter is asked for at its own rate, independently of the others.
///
/// Misses (Che's approximation): an adapter that nobody asks for leaves an LRU cache after the
/// characteristic time T, the same for all, in which as many different adapters are asked for as the cache
/// holds. A use misses if none came for its adapter within T before it. Gaps between an adapter's uses are
/// exponential, or hyper-exponential with balanced means where they vary more (`gap_scv`, the squared
/// coefficient of variation; 1 is exponential, and less is taken as 1): bursts help LRU, and the plain form
/// is then too pessimistic. Against simulation of independent requests (Zipf 0.6 to 1.2, 50 to 1000
/// adapters): within 0.5 points at 4 entries or more; renewals within 1 point. Popularity that changes over
/// time is not modelled.
///
/// Slots in use: an adapter is in use with probability 1 - exp(-rate x held), whatever the distribution of
/// the times held (M/G/infinity); the number of them is Poisson-binomial. Who finds all slots busy would
/// wait; that waiting makes others wait is not modelled, so waits that are not rare are longer.
///
/// Cost: misses O(adapters) a step of Newton, some ten steps. Slots O(adapters x in use); where that is above
/// 10 million, O(adapters), from a normal distribution corrected for skewness, then within half a point.
/// Threads: any.
/// REQUIRES everywhere: rates are positive and finite.
/// Sources: Che, Tung, Wang, IEEE JSAC 20(7), 2002; Garetto, Leonardi, Martina, ACM TOMPECS 1(3), 2016
/// (renewals); Hong, CSDA 59, 2013 (the Poisson-binomial recurrence).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace loracle {

/// How long an adapter stays in an LRU cache of so many entries after its last use, in the unit of 1/rate;
/// infinity if all of them fit.
[[nodiscard]] double characteristic_time(std::span<const double> rates, double entries, double gap_scv = 1);

/// Of all uses, in the long run: first uses are not in it. 0 if all adapters fit, 1 at no entries.
[[nodiscard]] double lru_miss_ratio(std::span<const double> rates, double entries, double gap_scv = 1);

/// What loads of `load` (in the unit of 1/rate) add to a use on average, those included that arrive while one
/// is under way and wait for the rest of it.
[[nodiscard]] double delayed_hit_mean(std::span<const double> rates, double entries, double load,
                                      double gap_scv = 1);

/// How many adapters are in use at once.
class BusySlots {
 public:
  /// `held`: how long a request holds its adapter on average, in the unit of 1/rate.
  BusySlots(std::span<const double> rates, double held);

  [[nodiscard]] double mean() const noexcept { return mean_; }
  /// The number that is not exceeded with this probability, as an arriving request finds it, its own
  /// included.
  [[nodiscard]] std::uint32_t quantile(double probability) const noexcept;
  /// Share of arriving requests whose adapter is idle while all of so many slots are busy.
  [[nodiscard]] double waits(std::uint32_t slots) const noexcept;

 private:
  void count_exactly(std::span<const double> rates, std::span<const double> busy);
  void count_by_moments(std::span<const double> rates, std::span<const double> busy);

  double mean_ = 0;
  std::vector<double> seen_at_;   // [k] arrivals that find k in use, their own included
  std::vector<double> waits_at_;  // [k] waits with k slots
};

/// Squared coefficient of variation of the gaps between the uses of one adapter, each adapter's gaps in units
/// of their mean, weighed by their number. Adapters of fewer than three uses say nothing; 1 if all are so.
/// `times[i]` and `adapters[i]`: use i, in the order of time.
[[nodiscard]] double gap_variation(std::span<const double> times, std::span<const std::uint32_t> adapters,
                                   std::size_t adapter_count);

}  // namespace loracle
