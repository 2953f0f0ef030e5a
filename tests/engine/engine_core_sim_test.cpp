// The engine's core in seeded simulations: many requests at once, loads and copies that take their time and
// fail, deadlines, replaced and removed adapters. What must hold, holds at every moment; equal seeds end
// alike.

#include <gtest/gtest.h>

#include <cstdlib>
#include <list>
#include <string>
#include <vector>

#include "engine/core_scene.hpp"

namespace loracle::testing {
namespace {

/// Checks, decision by decision, that no tier ever exceeds its capacity.
class Watch final : public DecisionSink {
 public:
  void on_decision(const Decision& d) noexcept override {
    if (d.action == Action::kLoad) ++(d.to == Place::kDevice ? device : host);
    if (d.action == Action::kEvict || d.action == Action::kRemove)
      --(d.from == Place::kDevice ? device : host);
    EXPECT_LE(device, device_max);
    EXPECT_LE(host, host_max);
  }
  int device = 0;
  int host = 0;
  int device_max = 0;
  int host_max = 0;
};

struct Outcome {
  std::uint64_t hash = 0;
  std::uint64_t decisions = 0;
  std::uint64_t served = 0;
  std::uint64_t failed = 0;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed)
      : rng_(seed), scene_(draw(), seed, seed % 2 == 0 ? 64 : 6 + static_cast<std::uint32_t>(seed % 7)) {
    scene_.workers.delay_max = 1 + rng_.below(1'000'000);
    if (rng_.below(2) == 0) scene_.read_fails = [this] { return faults_.below(10) == 0; };
    if (rng_.below(2) == 0) scene_.device.fails = [this] { return faults_.below(15) == 0; };
    for (std::uint32_t i = 0; i < kNames; ++i) scene_.know(name(i), 1 + rng_.below(kWidth));
  }

  Outcome run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      switch (rng_.below(14)) {
        case 0:
          scene_.know(any_name(), 1 + rng_.below(kWidth));
          break;
        case 1: {
          const std::string gone = any_name();
          static_cast<void>(scene_.core->forget(gone));
          scene_.know(gone, 1 + rng_.below(kWidth));
          break;
        }
        case 2: {
          const std::string wanted = any_name();
          const std::string_view names[] = {wanted};
          static_cast<void>(scene_.core->prefetch(names, rng_.below(2)));
          break;
        }
        case 3:
          static_cast<void>(scene_.core->deactivate(any_name()));
          break;
        case 4:
        case 5:
        case 6:
          if (!leases_.empty()) leases_.pop_front();
          break;
        case 7:
          scene_.core->pin_later(any_name(), rng_.below(2));
          break;
        case 8:
          static_cast<void>(scene_.core->unpin(any_name(), rng_.below(2)));
          break;
        default:
          request();
      }
      scene_.time.now += rng_.below(200'000);
      for (std::uint32_t tasks = rng_.below(4); tasks > 0 && scene_.workers.pending(); --tasks)
        scene_.workers.run_one();
    }
    while (scene_.workers.pending() || !leases_.empty()) {
      if (!leases_.empty()) leases_.pop_front();
      scene_.workers.run_all();
    }
    const EngineStats stats = scene_.core->stats();
    EXPECT_EQ(asked_, outcome_.served + outcome_.failed) << "every request is answered once";
    EXPECT_EQ(stats.requests_waiting, 0U);
    EXPECT_EQ(stats.leases, 0U);
    EXPECT_EQ(stats.loads_in_flight, 0U);
    scene_.core->shutdown();
    outcome_.hash = stats.decision_log_hash;
    outcome_.decisions = stats.decisions;
    return outcome_;
  }

 private:
  static constexpr std::uint32_t kNames = 10;

  static std::string name(std::uint32_t i) { return "a" + std::to_string(i); }
  std::string any_name() { return name(rng_.below(kNames)); }

  EngineConfig draw() {
    EngineConfig config;
    config.max_loras = 1 + rng_.below(4);
    config.max_cpu_loras = config.max_loras + rng_.below(4);
    config.loads_in_flight_max = 1 + rng_.below(3);
    config.passes_max = rng_.below(6);
    config.policy = rng_.below(2) == 0 ? "lru" : "sieve/gdsf";
    config.decisions = &watch_;
    watch_.device_max = static_cast<int>(config.max_loras);
    watch_.host_max = static_cast<int>(config.max_cpu_loras);
    return config;
  }

  void request() {
    std::vector<std::string> names(1 + rng_.below(3));
    for (std::string& wanted : names) wanted = any_name();
    const std::vector<std::string_view> views(names.begin(), names.end());
    AcquireOptions options;
    if (rng_.below(3) == 0) options.timeout_ns = rng_.below(3'000'000);
    const bool keep = rng_.below(2) == 0;
    ++asked_;
    std::vector<std::uint32_t> ids;
    for (const std::string& wanted : names)
      if (const std::uint32_t id = scene_.id_of(wanted); std::find(ids.begin(), ids.end(), id) == ids.end())
        ids.push_back(id);
    scene_.core->acquire_async(views, options, [this, keep, ids](Result<Lease> lease) {
      if (!lease) {
        ++outcome_.failed;
        return;
      }
      ++outcome_.served;
      ASSERT_EQ(lease->adapters().size(), ids.size());
      std::vector<float> versions;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const LeasedAdapter& adapter = lease->adapters()[i];
        ASSERT_EQ(adapter.id, ids[i]);
        versions.push_back(scene_.version_in(adapter.slot));
        ASSERT_TRUE(scene_.was_ever(adapter.id, versions.back())) << "the slot holds another adapter";
      }
      scene_.expect_whole(*lease, versions);
      if (keep) leases_.push_back(std::move(*lease));
    });
  }

  Rng rng_;
  Rng faults_{7};
  Watch watch_;
  CoreScene scene_;
  std::list<Lease> leases_;
  std::uint64_t asked_ = 0;
  Outcome outcome_;
};

// If this failed, some order of completions would lose a request, a slot, or the bytes in it.
TEST(EngineCoreSim, EveryRequestIsAnsweredAndEveryLeaseIsWholeWhateverFails) {
  const std::uint64_t seeds = std::getenv("LORACLE_SOAK") != nullptr ? 20'000 : 400;
  std::uint64_t served = 0;
  for (std::uint64_t seed = 0; seed < seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Outcome first = Simulation(seed).run(150);
    served += first.served;
    if (seed % 8 == 0) {
      EXPECT_EQ(first, Simulation(seed).run(150)) << "equal seeds must end alike";
    }
  }
  EXPECT_GT(served, seeds * 20);
}

}  // namespace
}  // namespace loracle::testing
