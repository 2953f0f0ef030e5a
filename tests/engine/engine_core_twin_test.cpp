// The engine against the simulator's hierarchy: random sequences of requests, leases, pins, prefetches,
// removals, failing loads and changes of policy, decided alike, entry by entry.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/core_scene.hpp"
#include "loracle/policy/all_policies.hpp"

namespace loracle::testing {
namespace {

class Recorder final : public DecisionSink {
 public:
  void on_decision(const Decision& decision) noexcept override { decisions.push_back(decision); }
  std::vector<Decision> decisions;
};

AnyPolicy policy_of(const std::string& name, std::uint32_t rows, const Capacity& capacity) {
  Result<PolicySpec> spec = parse_policy_spec(name);
  EXPECT_TRUE(spec);
  return std::move(*make_any_policy(*spec, rows, capacity));
}

/// What the engine is to decide, written as a simulator would: no threads, no bytes, no time.
class Model {
 public:
  Model(std::uint32_t rows, const EngineConfig& config, const std::string& policy, DecisionSink& sink)
      : rows_(rows),
        device_{config.max_loras, config.gpu_memory},
        host_{config.max_cpu_loras, config.cpu_memory},
        log_(&sink),
        tiers_(rows, setups(policy), table_, log_) {
    table_.size.assign(rows, Bytes{1});
  }

  Row row_of(const std::string& name, std::uint64_t bytes) {
    if (const auto found = names_.find(name); found != names_.end()) return found->second;
    Row row = Row{next_};
    if (next_ < rows_)
      ++next_;
    else {
      row = free_.back();
      free_.pop_back();
    }
    names_[name] = row;
    table_.size[index_of(row)] = Bytes{bytes};
    return row;
  }
  void rename(const std::string& name) {
    const auto found = names_.find(name);
    if (found == names_.end()) return;
    const Row old = found->second;
    doomed_.insert(old);
    names_.erase(found);
    bury({old});
  }
  /// Of these rows, takes out those that have lost their name and are not used any more.
  void bury(const std::vector<Row>& rows) {
    for (const Row row : rows) {
      if (!doomed_.contains(row)) continue;
      tiers_.unpin(row);
      if (tiers_.tier(1).held(row)) continue;
      tiers_.remove(row);
      free_.push_back(row);
      doomed_.erase(row);
    }
  }

  std::uint32_t rows_;
  AdapterTable table_;
  Capacity device_;
  Capacity host_;
  DecisionLog log_;
  Hierarchy<AnyPolicy> tiers_;
  std::map<std::string, Row> names_;
  std::set<Row> doomed_;
  std::vector<Row> free_;
  std::uint32_t next_ = 0;
  std::uint64_t tick_ = 0;
  std::uint64_t leases_ = 0;

 private:
  std::vector<TierSetup<AnyPolicy>> setups(const std::string& policy) const {
    const std::size_t slash = policy.find('/');
    std::vector<TierSetup<AnyPolicy>> made;
    made.push_back(
        {Place::kDevice, device_, policy_of(policy.substr(0, slash), rows_, device_), Boundary::kInclusive});
    made.push_back(
        {Place::kHost, host_, policy_of(policy.substr(slash + 1), rows_, host_), Boundary::kInclusive});
    return made;
  }
};

struct HeldLease {
  Lease lease;
  std::vector<Row> rows;
  std::vector<float> versions;
};

class Twins {
 public:
  explicit Twins(std::uint64_t seed) : rng_(seed), config_(draw()), scene_(config_, seed, kRows) {
    model_.emplace(kRows, config_, config_.policy, expected_);
    for (std::uint32_t i = 0; i < kNames; ++i) scene_.know(name(i), 1 + rng_.below(kWidth));
  }

  void step() {
    switch (rng_.below(16)) {
      case 0:
        if (!held_.empty()) let_go(rng_.below(static_cast<std::uint32_t>(held_.size())));
        break;
      case 1:
        return pin();
      case 2:
        return unpin();
      case 3:
        return prefetch();
      case 4:
        return replace();
      case 5:
        return deactivate();
      case 6:
        return set_policy();
      case 7:
        broken_toggle();
        break;
      default:
        request();
    }
    compare();
  }

  void finish() {
    while (!held_.empty()) let_go(0);
    compare();
    EXPECT_EQ(scene_.core->stats().decision_log_hash, model_->log_.hash());
    EXPECT_EQ(scene_.core->stats().counts, model_->tiers_.counts());
  }

 private:
  static constexpr std::uint32_t kRows = 40;
  static constexpr std::uint32_t kNames = 12;

  static std::string name(std::uint32_t i) { return "a" + std::to_string(i); }
  std::string any_name() { return name(rng_.below(kNames)); }

  EngineConfig draw() {
    // Every policy that may rule a server gets its turn.
    std::vector<std::string> policies;
    for (const std::string_view policy : policy_names())
      if (!is_clairvoyant(*parse_policy_spec(policy))) policies.emplace_back(policy);
    EngineConfig config;
    config.max_loras = 1 + rng_.below(4);
    config.max_cpu_loras = config.max_loras + rng_.below(5);
    if (rng_.below(3) == 0) config.cpu_memory = Bytes{(kWidth * 8 * 4) * (config.max_loras + 1)};
    config.policy = policies[rng_.below(static_cast<std::uint32_t>(policies.size()))] + "/" +
                    policies[rng_.below(static_cast<std::uint32_t>(policies.size()))];
    config.loads_in_flight_max = 1;  // one after the other: completions come in the order of requests
    config.decisions = &decided_;
    return config;
  }

  Row row(const std::string& adapter) { return model_->row_of(adapter, scene_.source(adapter).bytes); }

  /// Loads what the batch lacks, in its order; false if one fails. What was read is in `staged` then.
  bool load(const std::vector<std::string>& names, const std::vector<Row>& rows, std::vector<Row>& staged) {
    bool good = true;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (model_->tiers_.tier(1).contains(rows[i])) continue;
      if (scene_.broken.contains(names[i]))
        good = false;
      else
        staged.push_back(rows[i]);
    }
    return good;
  }
  void keep(const std::vector<Row>& staged) {
    for (const Row row : staged) static_cast<void>(model_->tiers_.bring({&row, 1}, 1, Tick{model_->tick_}));
  }
  /// Read for a request that failed: stays if nothing has to go for it.
  void keep_if_free(const std::vector<Row>& staged) {
    for (const Row row : staged) {
      const Tier<AnyPolicy>& host = model_->tiers_.tier(1);
      const Bytes size = model_->table_.size[index_of(row)];
      if (host.used().entries < host.capacity().entries && host.used().bytes + size <= host.capacity().bytes)
        keep({row});
    }
  }

  void request() {
    std::vector<std::string> names;
    const std::uint32_t size = 1 + rng_.below(4);
    while (names.size() < size) {
      const std::string adapter = any_name();
      if (std::find(names.begin(), names.end(), adapter) == names.end()) names.push_back(adapter);
    }
    Result<Lease> lease = scene_.acquire(names, 1'000'000);
    scene_.workers.run_all();
    std::vector<Row> rows;
    std::vector<float> versions;
    for (const std::string& adapter : names) {
      rows.push_back(row(adapter));
      versions.push_back(scene_.version_of(adapter));
    }
    Model& model = *model_;
    Verdict verdict = model.tiers_.would_serve(rows);
    const bool too_large = verdict == Verdict::kTooLarge || verdict == Verdict::kTooManyAdapters;
    std::vector<Row> staged;
    if (!too_large && !load(names, rows, staged)) {
      keep_if_free(staged);
      ASSERT_FALSE(lease);
      ASSERT_EQ(lease.error().code, Errc::kCorrupt);
      return;
    }
    verdict = model.tiers_.request(rows, Tick{model.tick_});
    model.tick_ += rows.size();
    if (verdict == Verdict::kAllHeld) keep_if_free(staged);
    ASSERT_EQ(lease.has_value(), verdict == Verdict::kServed);
    if (!lease) {
      const Errc code = lease.error().code;
      ASSERT_EQ(code, too_large ? Errc::kTooLarge : model.leases_ > 0 ? Errc::kDeadline : Errc::kAllPinned);
      return;
    }
    scene_.expect_whole(*lease, versions);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(lease->adapters()[i].row, rows[i]);
      ASSERT_EQ(lease->adapters()[i].slot, model.tiers_.tier(0).slot_of(rows[i]));
    }
    if (rng_.below(3) != 0) return;  // let go at once
    model.tiers_.lease(rows);
    ++model.leases_;
    held_.push_back({std::move(*lease), std::move(rows), std::move(versions)});
  }

  void let_go(std::size_t i) {
    scene_.expect_whole(held_[i].lease, held_[i].versions);
    held_[i].lease.let_go();
    scene_.workers.run_all();
    model_->tiers_.give_back(held_[i].rows);
    --model_->leases_;
    model_->bury(held_[i].rows);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  void pin() {
    const std::string adapter = any_name();
    const std::size_t level = rng_.below(2);
    const Result<Unit> pinned = scene_.core->pin(adapter, level, {1'000'000});
    scene_.workers.run_all();
    const Row adapter_row = row(adapter);
    Model& model = *model_;
    Verdict verdict = model.tiers_.would_serve({&adapter_row, 1}, level);
    std::vector<Row> staged;
    if (verdict != Verdict::kTooLarge && !load({adapter}, {adapter_row}, staged)) {
      ASSERT_FALSE(pinned);
      return compare();
    }
    if (verdict == Verdict::kServed) {
      if (level == 0) {
        verdict = model.tiers_.pin(adapter_row, Tick{model.tick_});
      } else {
        verdict = model.tiers_.bring({&adapter_row, 1}, 1, Tick{model.tick_});
        model.tiers_.keep(adapter_row, 1);
      }
    } else {
      keep_if_free(staged);
    }
    ASSERT_EQ(pinned.has_value(), verdict == Verdict::kServed);
    compare();
  }

  void unpin() {
    const std::string adapter = any_name();
    const std::size_t level = rng_.below(2);
    ASSERT_TRUE(scene_.core->unpin(adapter, level));
    if (const auto found = model_->names_.find(adapter); found != model_->names_.end())
      model_->tiers_.unpin(found->second, level);
    compare();
  }

  void prefetch() {
    const std::string adapter = any_name();
    const std::size_t level = rng_.below(2);
    const std::string_view names[] = {adapter};
    ASSERT_TRUE(scene_.core->prefetch(names, level));
    scene_.workers.run_all();
    const Row adapter_row = row(adapter);
    Model& model = *model_;
    std::vector<Row> staged;
    if (model.tiers_.tier(level).contains(adapter_row) || !load({adapter}, {adapter_row}, staged))
      return compare();
    const bool brought = model.tiers_.bring({&adapter_row, 1}, level, Tick{model.tick_}) == Verdict::kServed;
    if (!brought) keep(staged);
    compare();
  }

  void replace() {
    const std::string adapter = any_name();
    scene_.know(adapter, 1 + rng_.below(kWidth));
    scene_.workers.run_all();
    model_->rename(adapter);
    compare();
  }

  void deactivate() {
    const std::string adapter = any_name();
    const Result<Unit> done = scene_.core->deactivate(adapter);
    const auto found = model_->names_.find(adapter);
    if (found != model_->names_.end() && model_->tiers_.tier(0).contains(found->second)) {
      const bool held = model_->tiers_.tier(0).held(found->second);
      ASSERT_EQ(done.has_value(), !held);
      if (!held) model_->tiers_.deactivate(found->second);
    } else {
      ASSERT_TRUE(done);
    }
    compare();
  }

  void set_policy() {
    const std::size_t level = rng_.below(2);
    Model& model = *model_;
    if (level == 1 && rng_.below(3) == 0) {
      const bool few = rng_.below(2) == 0;
      const Result<Unit> done = scene_.core->set_policy(1, few ? "conservative" : "aggressive");
      Capacity capacity = model.host_;
      if (few) capacity.entries = std::min<std::uint64_t>(capacity.entries, config_.max_loras);
      const Verdict verdict = model.tiers_.set_capacity(1, capacity, Tick{model.tick_});
      ASSERT_EQ(done.has_value(), verdict == Verdict::kServed);
      return compare();
    }
    static constexpr std::array<const char*, 4> kSome = {"lru", "sieve", "gdsf", "s3fifo"};
    const std::string policy = kSome[rng_.below(4)];
    ASSERT_TRUE(scene_.core->set_policy(level, policy));
    model.tiers_.set_policy(level, policy_of(policy, kRows, level == 0 ? model.device_ : model.host_),
                            Tick{model.tick_});
    compare();
  }

  void broken_toggle() {
    const std::string adapter = any_name();
    if (scene_.broken.erase(adapter) == 0) scene_.broken.insert(adapter);
  }

  void compare() {
    for (; compared_ < std::min(decided_.decisions.size(), expected_.decisions.size()); ++compared_) {
      const Decision& engine = decided_.decisions[compared_];
      const Decision& simulator = expected_.decisions[compared_];
      ASSERT_EQ(engine, simulator) << "decision " << compared_ << ": engine " << name_of(engine.action)
                                   << " row " << index_of(engine.row) << " to " << name_of(engine.to)
                                   << ", simulator " << name_of(simulator.action) << " row "
                                   << index_of(simulator.row) << " to " << name_of(simulator.to);
    }
    ASSERT_EQ(decided_.decisions.size(), expected_.decisions.size());
  }

  Rng rng_;
  Recorder decided_;
  Recorder expected_;
  EngineConfig config_;
  CoreScene scene_;
  std::optional<Model> model_;
  std::vector<HeldLease> held_;
  std::size_t compared_ = 0;
};

// The one promise nobody else makes: the engine decides as the simulator said it would.
TEST(EngineCoreTwin, DecidesAsTheSimulatorDoesThroughEverythingThatCanHappen) {
  const std::uint64_t seeds = std::getenv("LORACLE_SOAK") != nullptr ? 20'000 : 300;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Twins twins(seed);
    for (int step = 0; step < 120 && !::testing::Test::HasFailure(); ++step) twins.step();
    if (!::testing::Test::HasFailure()) twins.finish();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace loracle::testing
