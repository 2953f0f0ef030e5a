#pragma once
/// What loads cost in virtual time; what simulate_events and simulate_batches share.
///
/// A load takes one way or two: from disk into host memory, from there into a slot. Each way of a server is
/// one channel, first come, first served. Threads: one owner.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/result.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/service_model.hpp"

namespace loracle::detail {

/// Loads one way, one after the other.
class Channel {
 public:
  explicit Channel(const LoadChannel& way) : way_(way) {}
  /// When a load is done that is asked for at `now_s` and cannot be whole before `after_s`.
  [[nodiscard]] double load(double now_s, double after_s, Bytes size) noexcept {
    const double busy_s = static_cast<double>(size.value) / way_.bytes_per_s;
    free_s_ = std::max(free_s_, now_s) + busy_s;
    return std::max(free_s_, after_s + busy_s) + way_.latency_s;
  }
  /// How long it takes alone.
  [[nodiscard]] double alone(Bytes size) const noexcept {
    return way_.latency_s + static_cast<double>(size.value) / way_.bytes_per_s;
  }

 private:
  LoadChannel way_;
  double free_s_ = -std::numeric_limits<double>::infinity();
};

/// Notes which rows the hierarchy has just loaded, and hands everything on.
class LoadWatch final : public DecisionSink {
 public:
  explicit LoadWatch(DecisionSink* next) : next_(next) {}
  void on_decision(const Decision& decision) noexcept override {
    if (next_ != nullptr) next_->on_decision(decision);
    if (decision.action == Action::kLoad) loads.push_back(decision);
  }
  std::vector<Decision> loads;

 private:
  DecisionSink* next_;
};

/// Which ways a load takes. Moving down out of a slot takes none: nobody waits for that.
struct Ways {
  bool disk = false;
  bool slot = false;
};
[[nodiscard]] inline Ways ways_of(const Decision& load) noexcept {
  if (load.from == Place::kDevice) return {};
  return {load.from != Place::kHost, load.to == Place::kDevice};
}

/// Both ways of a server, and when what is on its way will be there. `table` must outlive it.
class Loading {
 public:
  Loading(const LoadChannel& disk, const LoadChannel& slot, std::uint32_t rows, const AdapterTable& table)
      : disk_(disk), slot_(slot), there_s_(rows, -std::numeric_limits<double>::infinity()), table_(&table) {}

  /// When the loads are done, one after the other, while nothing else happens.
  [[nodiscard]] double standing_still(std::span<const Decision> loads, double now_s) const noexcept {
    for (const Decision& decision : loads) {
      const Bytes size = table_->size_of(decision.row);
      const Ways ways = ways_of(decision);
      if (ways.disk) now_s += disk_.alone(size);
      if (ways.slot) now_s += slot_.alone(size);
    }
    return now_s;
  }

  /// Begins the loads at `now_s`, which never decreases. When all of `rows` will be there.
  [[nodiscard]] double beside(std::span<const Decision> loads, std::span<const Row> rows, double now_s) {
    for (const Decision& decision : loads) {  // into host memory before into a slot
      double& there_s = there_s_[index_of(decision.row)];
      const Bytes size = table_->size_of(decision.row);
      const Ways ways = ways_of(decision);
      if (ways.disk) there_s = disk_.load(now_s, now_s, size);
      if (!ways.slot) continue;
      there_s = slot_.load(now_s, std::max(now_s, there_s), size);
      loaded_now_.push_back(decision.row);
    }
    double ready_s = now_s;
    for (const Row row : rows) {
      const double there_s = there_s_[index_of(row)];
      if (there_s > now_s && std::find(loaded_now_.begin(), loaded_now_.end(), row) == loaded_now_.end())
        ++shared_;
      ready_s = std::max(ready_s, there_s);
    }
    loaded_now_.clear();
    return ready_s;
  }

  /// How long until the row's last load that `beside` began is done.
  [[nodiscard]] double left_s(Row row, double now_s) const noexcept {
    return std::max(0.0, there_s_[index_of(row)] - now_s);
  }

  /// Uses that joined a load which was under way.
  [[nodiscard]] std::uint64_t shared() const noexcept { return shared_; }

 private:
  Channel disk_;
  Channel slot_;
  std::vector<double> there_s_;  // [rows] when its last load is done; before all time: there was none
  std::vector<Row> loaded_now_;  // scratch
  const AdapterTable* table_;
  std::uint64_t shared_ = 0;
};

/// Errors: kInvalid unless loads take 0 seconds or more, at more than 0 bytes a second.
[[nodiscard]] Result<Unit> check_channels(const LoadChannel& disk, const LoadChannel& slot);
/// What check_tier_options lets pass and a server in time cannot be asked: `vllm`, clairvoyant policies.
[[nodiscard]] Result<TierPolicies> policies_in_time(const TierOptions& options);

/// Mean, quantiles (of the sorted, the one at share x (count - 1), rounded down) and the largest; all 0 of
/// none. Reorders what it is given. REQUIRES: none is below 0.
[[nodiscard]] WaitTimes times_of(std::span<float> waits);

}  // namespace loracle::detail
