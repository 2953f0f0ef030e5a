#include "loracle/sim/what_if.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <list>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "support/sanitized.hpp"

namespace loracle {
namespace {

std::vector<double> zipf_rates(std::size_t adapters, double alpha, double total) {
  std::vector<double> rates;
  for (std::size_t i = 1; i <= adapters; ++i) rates.push_back(std::pow(static_cast<double>(i), -alpha));
  const double sum = std::accumulate(rates.begin(), rates.end(), 0.0);
  for (double& rate : rates) rate *= total / sum;
  return rates;
}

struct Uses {
  std::vector<double> times;
  std::vector<std::uint32_t> adapters;
};

/// Each adapter a renewal process of its own: gaps exponential, or hyper-exponential with this variation.
Uses drawn(const std::vector<double>& rates, double scv, double until, std::uint64_t seed) {
  Rng rng(seed);
  const double often = scv <= 1 ? 0.5 : (1 + std::sqrt((scv - 1) / (scv + 1))) / 2;
  std::vector<std::pair<double, std::uint32_t>> all;
  for (std::uint32_t i = 0; i < rates.size(); ++i) {
    const auto gap = [&] {
      const double part = rng.uniform() < often ? often : 1 - often;
      return -std::log1p(-rng.uniform()) / (2 * part * rates[i]);
    };
    // From far enough back that the start does not show.
    for (double at = -5 / rates[i] * scv + gap(); at < until; at += gap())
      if (at >= 0) all.emplace_back(at, i);
  }
  std::sort(all.begin(), all.end());
  Uses uses;
  for (const auto& [at, adapter] : all) {
    uses.times.push_back(at);
    uses.adapters.push_back(adapter);
  }
  return uses;
}

/// Misses of a list, its first third left out: the cache is warm then.
double simulated_misses(const Uses& uses, std::size_t adapters, std::size_t entries) {
  std::list<std::uint32_t> order;
  std::vector<std::list<std::uint32_t>::iterator> place(adapters, order.end());
  const std::size_t warm = uses.adapters.size() / 3;
  std::uint64_t misses = 0;
  for (std::size_t i = 0; i < uses.adapters.size(); ++i) {
    const std::uint32_t adapter = uses.adapters[i];
    if (place[adapter] == order.end()) {
      misses += i >= warm ? 1 : 0;
      if (order.size() == entries) {
        place[order.back()] = order.end();
        order.pop_back();
      }
      order.push_front(adapter);
      place[adapter] = order.begin();
    } else {
      order.splice(order.begin(), order, place[adapter]);
    }
  }
  return static_cast<double>(misses) / static_cast<double>(uses.adapters.size() - warm);
}

TEST(WhatIf, MissesOfIndependentRequestsAreThoseOfASimulation) {
  // If this failed, every what-if would mislead by more than what it is about.
  LORACLE_SKIP_IF_SANITIZED();
  for (const double alpha : {0.6, 0.9, 1.2}) {
    for (const std::size_t adapters : {50U, 1000U}) {
      const std::vector<double> rates = zipf_rates(adapters, alpha, 10);
      const Uses uses = drawn(rates, 1, 60'000, 11);
      for (const std::size_t entries : {4U, 8U, 16U, 32U})
        EXPECT_NEAR(lru_miss_ratio(rates, static_cast<double>(entries)),
                    simulated_misses(uses, adapters, entries), 0.005)
            << alpha << " " << adapters << " " << entries;
    }
  }
}

TEST(WhatIf, BurstsAreRenewals) {
  // If this failed, bursty traffic would be told to buy slots it does not need.
  LORACLE_SKIP_IF_SANITIZED();
  const std::vector<double> rates = zipf_rates(200, 0.9, 10);
  for (const double scv : {4.0, 16.0}) {
    const Uses uses = drawn(rates, scv, 100'000, 5);
    for (const std::size_t entries : {8U, 16U, 64U}) {
      const double simulated = simulated_misses(uses, 200, entries);
      EXPECT_NEAR(lru_miss_ratio(rates, static_cast<double>(entries), scv), simulated, 0.01)
          << scv << " " << entries;
      EXPECT_GT(lru_miss_ratio(rates, static_cast<double>(entries)), simulated + 0.03) << "the plain form";
    }
  }
}

TEST(WhatIf, EndsOfTheScale) {
  // If this failed, the model would loop, divide by zero or promise less than nothing.
  const std::vector<double> rates = {3, 2, 1};
  EXPECT_EQ(lru_miss_ratio(rates, 0), 1);
  EXPECT_EQ(lru_miss_ratio(rates, 3), 0);
  EXPECT_EQ(lru_miss_ratio(rates, 1000), 0);
  EXPECT_EQ(characteristic_time(rates, 0), 0);
  EXPECT_TRUE(std::isinf(characteristic_time(rates, 3)));
  double before = 1;
  for (double entries = 0.05; entries < 3; entries += 0.05) {
    const double misses = lru_miss_ratio(rates, entries);
    EXPECT_LT(misses, before) << entries;
    before = misses;
  }
  const std::vector<double> same(100, 0.5);
  EXPECT_NEAR(lru_miss_ratio(same, 99.999), 1e-5, 1e-7);
  EXPECT_NEAR(lru_miss_ratio(same, 25), 0.75, 1e-9) << "equal rates: what is not there";
  EXPECT_NEAR(delayed_hit_mean(same, 25, 0.2), 0.75 * (0.2 + 0.5 * 0.02) / (1 + 0.75 * 0.1), 1e-9);
  EXPECT_LE(delayed_hit_mean(std::vector<double>(1000, 100), 500, 0.1), 0.1) << "who joins a load waits less";
}

TEST(WhatIf, SlotsInUseAreCountedExactly) {
  // If this failed, the floor would be a slot off. By hand: every set of adapters in use.
  const std::vector<double> rates = {0.1, 0.5, 1, 2, 4};
  const double held = 0.7;
  const double total = 7.6;
  std::vector<double> seen(6, 0);
  std::vector<double> waits(6, 0);
  double mean = 0;
  for (unsigned set = 0; set < 32; ++set) {
    double probability = 1;
    unsigned in_use = 0;
    for (unsigned i = 0; i < 5; ++i) {
      const double busy = 1 - std::exp(-rates[i] * held);
      const bool is_in = (set >> i & 1U) != 0;
      probability *= is_in ? busy : 1 - busy;
      in_use += is_in ? 1 : 0;
    }
    mean += probability * in_use;
    for (unsigned i = 0; i < 5; ++i) {
      const bool is_in = (set >> i & 1U) != 0;
      seen[in_use + (is_in ? 0 : 1)] += probability * rates[i] / total;
      for (unsigned slots = 0; slots <= in_use && !is_in; ++slots)
        waits[slots] += probability * rates[i] / total;
    }
  }
  const BusySlots busy(rates, held);
  EXPECT_NEAR(busy.mean(), mean, 1e-12);
  for (unsigned slots = 0; slots < 6; ++slots) EXPECT_NEAR(busy.waits(slots), waits[slots], 1e-10) << slots;
  EXPECT_EQ(busy.waits(5), 0) << "all have one";
  double sum = 0;
  for (unsigned k = 0; k < 6; ++k) {
    sum += seen[k];
    if (seen[k] > 0) {
      EXPECT_EQ(busy.quantile(sum), k);
    }
  }
}

TEST(WhatIf, SlotsInUseAreThoseOfTheLiterature) {
  // If this failed, a plan would take too few slots: planning notes, 200 adapters of Zipf 0.9, 2, 6 s held.
  for (const auto& [load, mean, p99] : {std::tuple{4.0, 3.8, 9U}, {12.0, 10.3, 17U}, {40.0, 27.9, 38U}}) {
    const BusySlots busy(zipf_rates(200, 0.9, load), 1);
    EXPECT_NEAR(busy.mean(), mean, 0.1);
    EXPECT_NEAR(busy.quantile(0.99), p99, 1);
  }
  const BusySlots many(zipf_rates(10'000, 0.5, 2000), 5);
  EXPECT_GT(many.mean(), 4000) << "most probabilities are near one half, and none may be lost";
  EXPECT_NEAR(many.quantile(0.5), many.mean(), 3);
  EXPECT_LT(many.waits(3'000), 1);
  EXPECT_GT(many.waits(3'000), many.waits(5'500));
  EXPECT_LT(many.waits(6'000), 1e-6);
}

TEST(WhatIf, ManyAdaptersAreCountedByTheirMoments) {
  // If this failed, a large fleet would wait minutes for an instant answer, or get a wrong one.
  const std::vector<double> rates = zipf_rates(50'000, 0.8, 300);
  const BusySlots by_moments(rates, 2);
  double mean = 0;
  double variance = 0;
  double idle = 0;  // arrivals whose own adapter is
  for (const double rate : rates) {
    const double p = 1 - std::exp(-rate * 2);
    mean += p;
    variance += p * (1 - p);
    idle += rate / 300 * (1 - p);
  }
  EXPECT_NEAR(by_moments.mean(), mean, 1e-9);
  // The exact distribution, by the recurrence alone.
  std::vector<double> in_use = {1.0};
  for (const double rate : rates) {
    const double p = 1 - std::exp(-rate * 2);
    if (in_use.size() < 900) in_use.push_back(0);
    for (std::size_t k = in_use.size() - 1; k > 0; --k) in_use[k] = in_use[k] * (1 - p) + in_use[k - 1] * p;
    in_use[0] *= 1 - p;
  }
  double at_least = 0;
  for (std::size_t k = in_use.size(); k-- > 0;) {
    at_least += in_use[k];
    if (k < 400) continue;
    EXPECT_NEAR(by_moments.waits(static_cast<std::uint32_t>(k)), idle * at_least, 0.005) << k;
  }
  EXPECT_NEAR(by_moments.quantile(0.99), mean + 2.33 * std::sqrt(variance) + 1, 2);
}

WhatIfModel traffic(std::size_t adapters, double total, std::uint32_t slots) {
  WhatIfModel model;
  model.rates = zipf_rates(adapters, 0.9, total);
  model.held_s = 6;
  model.slots = slots;
  model.host = slots;
  model.slot_load_s = 0.008;
  model.disk_load_s = 0.1;
  return model;
}

TEST(WhatIf, FullLoadAsksForAsManySlotsAsAdapters) {
  // If this failed: where every adapter is always in use, no arrival finds its own idle, so none would seem
  // to wait, and one slot would do.
  for (const auto& [adapters, total] : {std::pair(5U, 1000.0), {20U, 100.0}, {200U, 400.0}}) {
    const std::uint32_t needed = slots_needed(traffic(adapters, total, 1), 0.01);
    EXPECT_GT(needed, adapters * 9 / 10) << adapters;
    EXPECT_LE(needed, adapters);
  }
  EXPECT_EQ(slots_needed(traffic(1, 1000, 1), 0.01), 1U);
  EXPECT_FALSE(answer(traffic(1, 1000, 1)).piles_up) << "it has a slot";
  EXPECT_TRUE(answer(traffic(200, 4, 4)).piles_up) << "the trap";
}

TEST(WhatIf, SlotsNeededAreTheFewestAndTheTrafficLimitIsTheLast) {
  // If this failed, bisection would have looked on the wrong side of a place that is no step.
  for (const double total : {0.1, 1.0, 4.0, 40.0}) {
    WhatIfModel model = traffic(150, total, 1);
    model.slots = slots_needed(model, 0.01);
    EXPECT_TRUE(enough_slots(model, 0.01));
    const double limit = traffic_limit(model, 0.01);
    EXPECT_GE(limit, 1) << total;
    for (double factor = 1.0 / 64; factor < 64; factor *= 1.1) {
      WhatIfModel scaled = model;
      for (double& rate : scaled.rates) rate *= factor;
      EXPECT_EQ(enough_slots(scaled, 0.01), factor <= limit) << total << " x " << factor;
    }
    if (--model.slots > 0) {
      EXPECT_FALSE(enough_slots(model, 0.01)) << total;
    }
  }
  EXPECT_TRUE(std::isinf(traffic_limit(traffic(8, 4, 8), 0.01))) << "every adapter has a slot";
}

TEST(WhatIf, ChangesDoWhatTheySay) {
  const WhatIfModel today = traffic(101, 4, 40);
  const std::vector<WhatIfModel> all = what_if_changes(today);
  ASSERT_EQ(all.size(), kChanges);
  const auto total = [](const WhatIfModel& m) {
    return std::accumulate(m.rates.begin(), m.rates.end(), 0.0);
  };
  EXPECT_NEAR(total(all[1]), 8, 1e-9);
  EXPECT_NEAR(total(all[2]), 4, 1e-9);
  EXPECT_EQ(all[2].rates.size(), 202U);
  EXPECT_EQ(all[3].rates.size(), 151U);
  EXPECT_GT(total(all[3]), 4.5);
  EXPECT_LT(total(all[3]), 6);
  EXPECT_GT(answer(all[5]).load_delay_s, answer(all[0]).load_delay_s);
  EXPECT_LT(answer(all[2]).gpu_hits, answer(all[0]).gpu_hits);
}

TEST(WhatIf, BurstsAreWhatASimulationOfThemFinds) {
  // Exponential times held, requests in the first third of each minute: adapters in use as arrivals find
  // them. If this failed, a what-if would tell an operator that bursts do no harm.
  for (const double held : {2.0, 20.0}) {
    WhatIfModel model;
    model.rates = zipf_rates(60, 0.9, 3);
    model.held_s = held;
    model.slots = model.host = static_cast<std::uint32_t>(BusySlots(model.rates, held).mean()) + 4;
    model.burst = 3;
    const TrafficAnswer found = answer(model);
    Rng rng(11);
    std::vector<double> until(model.rates.size(), 0);
    std::vector<double> cumulated(model.rates.size());
    std::partial_sum(model.rates.begin(), model.rates.end(), cumulated.begin());
    double in_use_sum = 0;
    std::uint64_t waits = 0;
    constexpr std::uint64_t kArrivals = 200'000;
    double steady_s = 0;  // in bursts alone, time passes a third as fast
    for (std::uint64_t i = 0; i < kArrivals; ++i) {
      steady_s += -std::log1p(-rng.uniform()) / 9;  // three times the traffic
      const double now_s = std::floor(steady_s / 20) * 60 + std::fmod(steady_s, 20);
      const auto adapter = static_cast<std::size_t>(
          std::lower_bound(cumulated.begin(), cumulated.end(), rng.uniform() * cumulated.back()) -
          cumulated.begin());
      const auto in_use = static_cast<std::uint32_t>(
          std::count_if(until.begin(), until.end(), [&](double end) { return end > now_s; }));
      in_use_sum += in_use;
      waits += until[adapter] <= now_s && in_use >= model.slots ? 1 : 0;
      until[adapter] = std::max(until[adapter], now_s - std::log1p(-rng.uniform()) * held);
    }
    EXPECT_NEAR(found.in_use_mean, in_use_sum / kArrivals, 0.02 * found.in_use_mean) << held;
    EXPECT_NEAR(found.waits, static_cast<double>(waits) / kArrivals, 0.02) << held;
    WhatIfModel calm = model;
    calm.burst = 1;
    EXPECT_GT(found.waits, answer(calm).waits) << held;
    EXPECT_EQ(found.gpu_hits, answer(calm).gpu_hits);
  }
}

TEST(WhatIf, WhatIsHeldForEverIsNoReasonForNonsense) {
  WhatIfModel model = traffic(10, 1, 10);
  model.held_s = 1e18;
  model.burst = 3;
  const TrafficAnswer found = answer(model);
  EXPECT_NEAR(found.in_use_mean, 10, 1e-6);
  EXPECT_EQ(found.waits, 0);
}

TEST(WhatIf, EveryChangeHasAName) {
  ChangeOptions options;
  options.replicas = 3;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kChanges; ++i)
    names.push_back(change_text(Change{static_cast<std::uint8_t>(i)}, options));
  for (const std::string& name : names) EXPECT_LE(name.size(), 22U) << name;
  EXPECT_EQ(names[static_cast<std::size_t>(Change::kReplica)], "one of 3 replicas lost");
  options.has_tenants = true;
  EXPECT_EQ(change_text(Change::kBusiest, options), "busiest tenant twice");
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
  const std::vector<WhatIfModel> all = what_if_changes(traffic(100, 4, 40), options);
  const auto sum = [&](Change change) {
    const std::vector<double>& rates = all[static_cast<std::size_t>(change)].rates;
    return std::accumulate(rates.begin(), rates.end(), 0.0);
  };
  EXPECT_NEAR(sum(Change::kReplica), 6, 1e-9) << "two carry what three did";
  EXPECT_EQ(all[static_cast<std::size_t>(Change::kObjectStore)].disk_load_s, 1);
}

}  // namespace
}  // namespace loracle
