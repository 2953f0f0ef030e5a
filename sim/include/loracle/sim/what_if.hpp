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

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace loracle {

/// How long an adapter stays in an LRU cache of so many entries after its last use, in the unit of 1/rate;
/// infinity if all of them fit.
[[nodiscard]] double characteristic_time(std::span<const double> rates, double entries, double gap_scv = 1);

/// Of all uses, in the long run: first uses are not in it. 0 if all adapters fit, 1 at no entries.
[[nodiscard]] double lru_miss_ratio(std::span<const double> rates, double entries, double gap_scv = 1);

/// What loads of `load` (in the unit of 1/rate) add to a use on average, those included that arrive while one
/// is under way and wait for the rest of it; never more than the load. Bursts after a miss are not in it.
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

/// Traffic, and what serves it: slots and adapters in host memory, both LRU. Times in seconds.
struct WhatIfModel {
  std::vector<double> rates;  // requests a second, by adapter
  double held_s = 0;          // how long a request holds its adapter on average
  double gap_scv = 1;         // of hits only: waits are those of Poisson arrivals
  std::uint32_t slots = 1;
  std::uint32_t host = 1;
  double slot_load_s = 0;
  double disk_load_s = 0;  // before that
  double burst = 1;        // of each burst_period_s, so many times the rates at its beginning, and then none
  double burst_period_s = 60;
};

/// In bursts, slots and waits are what the arriving requests find, at exponential times held; hits and loads
/// do not change, as the order of requests does not.
struct TrafficAnswer {
  double in_use_mean = 0;
  std::uint32_t in_use_p99 = 0;
  double waits = 0;         // share of arriving requests that find all slots busy
  bool piles_up = false;    // more are in use on average than there are slots: waits grow without end
  double gpu_hits = 0;      // share of uses
  double disk_loads = 0;    // likewise; first uses are not in it
  double load_delay_s = 0;  // mean of all requests
};

[[nodiscard]] TrafficAnswer answer(const WhatIfModel& model);

/// Nothing piles up, and no more than this share wait.
[[nodiscard]] bool enough_slots(const WhatIfModel& model, double may_wait);
/// The fewest slots that are enough; `model.slots` is not looked at. By bisection.
[[nodiscard]] std::uint32_t slots_needed(const WhatIfModel& model, double may_wait);
/// Up to how many times this traffic the slots are enough, to 0.1 %; 0: not at a 64th; infinity: at 64 times
/// and, for all the model knows, at any.
[[nodiscard]] double traffic_limit(const WhatIfModel& model, double may_wait);

/// What a what-if asks; the plan simulates the same.
enum class Change : std::uint8_t {
  kNothing,
  kTraffic,      // twice the traffic
  kSplit,        // twice the adapters, which share the traffic of today
  kAdapters,     // 50 % more, with traffic of their own
  kRank,         // every adapter of twice the rank
  kSlowDisk,     // four times as slow
  kObjectStore,  // no disk: every load is from object storage
  kBursts,       // of each minute, three times the traffic for a third
  kReplica,      // one of the replicas is lost; the others get its traffic
  kBusiest,      // the busiest tenant comes a second time, with adapters of its own; else the busiest adapter
};
inline constexpr std::size_t kChanges = 10;
inline constexpr double kBurst = 3;
inline constexpr double kBurstPeriodS = 60;

/// What the changes take for granted.
struct ChangeOptions {
  std::uint32_t replicas = 4;  // 2 or more
  double store_load_s = 1;     // 84 MB at 85 MB/s, what one connection to Amazon S3 is said to give
  bool has_tenants = false;
};
/// "twice the traffic"; at most 22 characters, up to 9 replicas.
[[nodiscard]] std::string change_text(Change change, const ChangeOptions& options);
/// How much traffic a replica gets when one is lost.
[[nodiscard]] double traffic_without_one(const ChangeOptions& options) noexcept;

/// One model for each Change, in their order. Of the adapters that are half as many more, each has the rate
/// of one of today's, every second one's.
[[nodiscard]] std::vector<WhatIfModel> what_if_changes(const WhatIfModel& today,
                                                       const ChangeOptions& options = {});

}  // namespace loracle
