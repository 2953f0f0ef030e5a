#include "loracle/sim/what_if.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

constexpr double kNegligible = 1e-12;  // probability

/// Gaps of mean 1: with probability `often` short ones, else long ones, and as much time in either kind.
/// An exponential is the case where both are the same.
struct Gaps {
  double often = 0.5;
  explicit Gaps(double scv) { often = scv <= 1 ? 0.5 : (1 + std::sqrt((scv - 1) / (scv + 1))) / 2; }
  /// P(gap > t).
  [[nodiscard]] double longer(double t) const noexcept {
    return often * std::exp(-2 * often * t) + (1 - often) * std::exp(-2 * (1 - often) * t);
  }
  /// P(the last use was within t), at any time.
  [[nodiscard]] double within(double t) const noexcept {
    return 1 - (std::exp(-2 * often * t) + std::exp(-2 * (1 - often) * t)) / 2;
  }
};

double sum_of(std::span<const double> rates) noexcept {
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace

double characteristic_time(std::span<const double> rates, double entries, double gap_scv) {
  if (entries >= static_cast<double>(rates.size())) return std::numeric_limits<double>::infinity();
  if (!(entries > 0)) return 0;
  const Gaps gaps(gap_scv);
  // The expected number of entries used within t is concave in t, so Newton from below never steps over.
  constexpr int kStepsMax = 200;
  constexpr double kPrecision = 1e-12;
  double time = entries / sum_of(rates);
  for (int step = 0; step < kStepsMax; ++step) {
    double within = 0;
    double slope = 0;
    for (const double rate : rates) {
      within += gaps.within(rate * time);
      slope += rate * gaps.longer(rate * time);
    }
    const double more = (entries - within) / slope;
    if (!(more > time * kPrecision)) break;
    time += more;
  }
  return time;
}

namespace {

struct CacheModel {
  double misses = 0;  // share of uses
  double delay = 0;   // mean of all uses
};

/// Of an LRU cache of so many entries, whose misses load for this long.
CacheModel cache_model(std::span<const double> rates, double entries, double load, double gap_scv) {
  const double time = characteristic_time(rates, entries, gap_scv);
  const Gaps gaps(gap_scv);
  CacheModel sums;
  for (const double rate : rates) {
    const double misses = gaps.longer(rate * time);
    sums.misses += rate * misses;
    // A miss begins a load; who comes while it lasts waits for half of it on average, and is no miss.
    sums.delay += rate * misses * (load + rate * load * load / 2) / (1 + misses * rate * load);
  }
  const double total = sum_of(rates);
  return {sums.misses / total, sums.delay / total};
}

bool is_enough(const BusySlots& busy, std::uint32_t slots, double may_wait) noexcept {
  return busy.mean() < slots && busy.waits(slots) <= may_wait;
}

}  // namespace

double lru_miss_ratio(std::span<const double> rates, double entries, double gap_scv) {
  return cache_model(rates, entries, 0, gap_scv).misses;
}

double delayed_hit_mean(std::span<const double> rates, double entries, double load, double gap_scv) {
  return cache_model(rates, entries, load, gap_scv).delay;
}

BusySlots::BusySlots(std::span<const double> rates, double held) {
  std::vector<double> busy;  // by adapter
  busy.reserve(rates.size());
  double variance = 0;
  for (const double rate : rates) {
    const double p = -std::expm1(-rate * held);
    busy.push_back(p);
    variance += p * (1 - p);
  }
  mean_ = sum_of(busy);
  constexpr double kExactMax = 1e7;  // steps; some 20 ms
  const double in_use_max = mean_ + 8 * std::sqrt(variance) + 8;
  if (static_cast<double>(rates.size()) * in_use_max <= kExactMax)
    count_exactly(rates, busy);
  else
    count_by_moments(rates, busy);
}

void BusySlots::count_exactly(std::span<const double> rates, std::span<const double> busy) {
  std::vector<double> in_use = {1.0};  // [k] probability that k are; what is negligible is cut off
  for (const double p : busy) {
    in_use.push_back(0);
    for (std::size_t k = in_use.size() - 1; k > 0; --k) in_use[k] = in_use[k] * (1 - p) + in_use[k - 1] * p;
    in_use[0] *= 1 - p;
    if (in_use.back() < kNegligible && in_use.size() > 2) in_use.pop_back();
  }
  const std::size_t count = in_use.size();
  seen_at_.assign(count + 1, 0);
  waits_at_.assign(count + 1, 0);
  const double total = sum_of(rates);
  std::vector<double> others(count);
  for (std::size_t i = 0; i < rates.size(); ++i) {
    const double p = busy[i];
    // The others' distribution, by taking this one out again: from the end at which the recurrence is stable.
    if (p <= 0.5) {
      double before = 0;
      for (std::size_t k = 0; k < count; ++k) before = others[k] = (in_use[k] - p * before) / (1 - p);
    } else {
      double after = 0;
      for (std::size_t k = count; k-- > 0;)
        after = others[k] = k + 1 < count ? (in_use[k + 1] - (1 - p) * after) / p : 0;
    }
    const double share = rates[i] / total;
    double at_least = 0;  // others in use
    for (std::size_t k = count; k-- > 0;) {
      const double here = std::max(0.0, others[k]);
      at_least += here;
      seen_at_[k + 1] += share * here;
      waits_at_[k] += share * (1 - p) * at_least;
    }
  }
}

void BusySlots::count_by_moments(std::span<const double> rates, std::span<const double> busy) {
  double variance = 0;
  double third = 0;
  double own_seen = 0;  // the part of the mean that an arriving request's own adapter is
  double idle = 0;      // arrivals whose adapter is idle
  double own_idle = 0;
  const double total = sum_of(rates);
  for (std::size_t i = 0; i < rates.size(); ++i) {
    const double p = busy[i];
    const double share = rates[i] / total;
    variance += p * (1 - p);
    third += p * (1 - p) * (1 - 2 * p);
    own_seen += share * p;
    idle += share * (1 - p);
    own_idle += share * (1 - p) * p;
  }
  const double sigma = std::sqrt(variance);
  const double skew = third / (variance * sigma);
  // P(others <= k), the normal distribution corrected for skewness.
  const auto at_most = [&](double k, double mean) {
    const double x = (k + 0.5 - mean) / sigma;
    const double normal = std::erfc(-x / std::sqrt(2.0)) / 2;
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
    return std::clamp(normal + skew * (1 - x * x) * density / 6, 0.0, 1.0);
  };
  const double seen_mean = mean_ - own_seen;
  const double idle_mean = idle > 0 ? mean_ - own_idle / idle : mean_;
  const auto count =
      static_cast<std::size_t>(std::min(static_cast<double>(rates.size()), mean_ + 8 * sigma + 8));
  seen_at_.assign(count + 1, 0);
  waits_at_.assign(count + 1, 0);
  double before = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const double here = std::max(before, at_most(static_cast<double>(k), seen_mean));
    seen_at_[k + 1] = here - std::exchange(before, here);
    waits_at_[k] = idle * (1 - at_most(static_cast<double>(k) - 1, idle_mean));
  }
}

std::uint32_t BusySlots::quantile(double probability) const noexcept {
  double sum = 0;
  for (std::size_t k = 0; k < seen_at_.size(); ++k) {
    sum += seen_at_[k];
    if (sum >= probability - kNegligible) return static_cast<std::uint32_t>(k);
  }
  return static_cast<std::uint32_t>(seen_at_.size() - 1);
}

double BusySlots::waits(std::uint32_t slots) const noexcept {
  return slots < waits_at_.size() ? std::clamp(waits_at_[slots], 0.0, 1.0) : 0;
}

namespace {

/// How long requests would have to be held at a steady rate for as many to be under way as there are so far
/// into a burst.
double held_in_burst(const WhatIfModel& model, double since_s) {
  const double burst_s = model.burst_period_s / model.burst;
  const double left = std::exp(-(model.burst_period_s - burst_s) / model.held_s);  // of one burst at the next
  const double at_begin =
      left * std::expm1(-burst_s / model.held_s) / std::expm1(-model.burst_period_s / model.held_s);
  const double gone = std::exp(-since_s / model.held_s);
  return model.burst * model.held_s * (1 - gone + at_begin * gone);
}

/// What arriving requests find: the mean over a burst, by Gauss's rule of three points.
void fill_slots(const WhatIfModel& model, TrafficAnswer& found) {
  if (!(model.burst > 1) || !(model.held_s > 0)) {
    const BusySlots busy(model.rates, model.held_s);
    found.in_use_mean = busy.mean();
    found.in_use_p99 = busy.quantile(0.99);
    found.waits = busy.waits(model.slots);
    found.piles_up = model.slots < model.rates.size() && busy.mean() >= model.slots;
    return;
  }
  constexpr double kOuter = 0.774596669241483377;  // sqrt(3 / 5)
  constexpr std::array<std::pair<double, double>, 3> kPoints = {
      std::pair{(1 - kOuter) / 2, 5.0 / 18}, {0.5, 8.0 / 18}, {(1 + kOuter) / 2, 5.0 / 18}};
  for (const auto& [place, weight] : kPoints) {
    const BusySlots busy(model.rates, held_in_burst(model, place * model.burst_period_s / model.burst));
    found.in_use_mean += weight * busy.mean();
    found.in_use_p99 = std::max(found.in_use_p99, busy.quantile(0.99));
    found.waits += weight * busy.waits(model.slots);
  }
  double mean = 0;  // over all the time: what waits in a burst may be served after it
  for (const double rate : model.rates) mean += -std::expm1(-rate * model.held_s);
  found.piles_up = model.slots < model.rates.size() && mean >= model.slots;
}

}  // namespace

TrafficAnswer answer(const WhatIfModel& model) {
  TrafficAnswer found;
  fill_slots(model, found);
  const CacheModel device = cache_model(model.rates, model.slots, model.slot_load_s, model.gap_scv);
  const CacheModel host = cache_model(model.rates, model.host, model.disk_load_s, model.gap_scv);
  found.gpu_hits = 1 - device.misses;
  found.disk_loads = host.misses;
  found.load_delay_s = device.delay + host.delay;
  return found;
}

bool enough_slots(const WhatIfModel& model, double may_wait) {
  if (model.slots >= model.rates.size()) return true;
  return is_enough(BusySlots(model.rates, model.held_s), model.slots, may_wait);
}

std::uint32_t slots_needed(const WhatIfModel& model, double may_wait) {
  const BusySlots busy(model.rates, model.held_s);
  // Above the mean, waits fall with every slot.
  std::uint32_t low = 0;  // not enough
  auto high = static_cast<std::uint32_t>(model.rates.size());
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (is_enough(busy, middle, may_wait) ? high : low) = middle;
  }
  return high;
}

double traffic_limit(const WhatIfModel& model, double may_wait) {
  constexpr double kMost = 64;
  constexpr double kPrecision = 1.001;
  const auto is_enough_at = [&](double factor) {
    WhatIfModel scaled = model;
    for (double& rate : scaled.rates) rate *= factor;
    return enough_slots(scaled, may_wait);
  };
  double low = 1 / kMost;
  double high = kMost;
  if (!is_enough_at(low)) return 0;
  if (is_enough_at(high)) return std::numeric_limits<double>::infinity();
  while (high / low > kPrecision) {
    const double middle = std::sqrt(low * high);
    (is_enough_at(middle) ? low : high) = middle;
  }
  return low;
}

std::string change_text(Change change, const ChangeOptions& options) {
  switch (change) {
    case Change::kNothing:
      return "nothing changes";
    case Change::kTraffic:
      return "twice the traffic";
    case Change::kSplit:
      return "2x the adapters alone";
    case Change::kAdapters:
      return "1.5x adapters+traffic";
    case Change::kRank:
      return "twice the rank";
    case Change::kBursts:
      return fmt::format("bursts of {:g}x traffic", kBurst);
    case Change::kReplica:
      return fmt::format("one of {} replicas lost", options.replicas);
    case Change::kBusiest:
      return options.has_tenants ? "busiest tenant twice" : "busiest adapter twice";
    case Change::kSlowDisk:
      return "disk 4 times as slow";
    case Change::kObjectStore:
      break;
  }
  return "no disk: loads from S3";
}

double traffic_without_one(const ChangeOptions& options) noexcept {
  const double replicas = options.replicas;
  return replicas / (replicas - 1);
}

std::vector<WhatIfModel> what_if_changes(const WhatIfModel& today, const ChangeOptions& options) {
  LORACLE_CHECK(options.replicas >= 2);
  std::vector<WhatIfModel> all(kChanges, today);
  const auto changed = [&all](Change change) -> WhatIfModel& {
    return all[static_cast<std::size_t>(change)];
  };
  for (double& rate : changed(Change::kTraffic).rates) rate *= 2;
  std::vector<double>& split = changed(Change::kSplit).rates;
  for (double& rate : split) rate /= 2;
  const std::vector<double> halves = split;
  split.insert(split.end(), halves.begin(), halves.end());
  for (std::size_t i = 1; i < today.rates.size(); i += 2)
    changed(Change::kAdapters).rates.push_back(today.rates[i]);
  changed(Change::kRank).slot_load_s *= 2;
  changed(Change::kRank).disk_load_s *= 2;
  changed(Change::kBursts).burst = kBurst;
  changed(Change::kBursts).burst_period_s = kBurstPeriodS;
  for (double& rate : changed(Change::kReplica).rates) rate *= traffic_without_one(options);
  if (!today.rates.empty())
    changed(Change::kBusiest).rates.push_back(*std::max_element(today.rates.begin(), today.rates.end()));
  changed(Change::kSlowDisk).disk_load_s *= 4;
  changed(Change::kObjectStore).disk_load_s = options.store_load_s;
  return all;
}

}  // namespace loracle
