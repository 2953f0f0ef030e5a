#pragma once
/// The event simulation without cleverness: lists that are searched, a queue that is scanned from the front
/// at every end, the hierarchy asked about each. What sim/src/event_sim.cpp must equal, decision by decision.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/policy/all_policies.hpp"
#include "loracle/policy/any_policy.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::testing {

class EventTwin final : public DecisionSink {
 public:
  EventTwin(const Trace& trace, const EventOptions& options)
      : trace_(trace), options_(options), stream_(*make_batch_stream(trace)), log_(this) {
    table_.size = stream_.uses.size;
    tiers_ = hierarchy(log_);
    loads_.clear();
    pinning_ = tiers_->counts();
    there_s_.assign(stream_.uses.rows, 0);
  }

  EventOutcome run() {
    DecisionLog unread;
    const auto idle = hierarchy(unread);
    std::uint64_t batch = 0;
    for (std::uint64_t i = 0; i < trace_.requests; ++i) {
      if (trace_.batch(i).empty()) continue;
      const double now_s = trace_.arrival_s[i];
      while (!running_.empty() && running_[first()].end_s + stalled_s_ <= now_s) end_first();
      arrive({batch, i, now_s, false}, *idle);
      ++batch;
    }
    while (!running_.empty()) end_first();
    LORACLE_CHECK(waiting_.empty());
    outcome_.counts = since(tiers_->counts(), pinning_);
    outcome_.decision_log_hash = log_.hash();
    outcome_.stalled_s = stalled_s_;
    std::vector<float> delay;
    for (std::size_t i = 0; i < slot_wait_.size(); ++i) delay.push_back(slot_wait_[i] + load_wait_[i]);
    outcome_.slot_wait = times_of(slot_wait_);
    outcome_.load_wait = times_of(load_wait_);
    outcome_.delay = times_of(delay);
    return outcome_;
  }

  void on_decision(const Decision& decision) noexcept override {
    if (decision.action == Action::kLoad) loads_.push_back(decision);
  }

 private:
  struct Request {
    std::uint64_t batch = 0;
    std::uint64_t origin = 0;
    double arrival_s = 0;
    bool lacked_seat = false;
    double end_s = 0;
  };

  [[nodiscard]] std::unique_ptr<Hierarchy<AnyPolicy>> hierarchy(DecisionLog& log) const {
    const TierOptions& tiers = options_.tiers;
    const TierPolicies policies = *parse_tier_policies(tiers.tiers);
    const std::uint32_t rows = stream_.uses.rows;
    const Capacity device{tiers.max_loras, tiers.gpu_memory};
    const Capacity host{tiers.max_cpu_loras, tiers.cpu_memory};
    std::vector<TierSetup<AnyPolicy>> setups;
    setups.push_back(
        {Place::kDevice, device, *make_any_policy(policies.device, rows, device), tiers.boundary});
    setups.push_back({Place::kHost, host, *make_any_policy(policies.host, rows, host)});
    auto made = std::make_unique<Hierarchy<AnyPolicy>>(rows, std::move(setups), table_, log);
    for (const Row pin : tiers.pins) LORACLE_CHECK(made->pin(pin, Tick{0}) == Verdict::kServed);
    return made;
  }

  [[nodiscard]] std::size_t first() const {
    const auto found =
        std::min_element(running_.begin(), running_.end(), [](const Request& a, const Request& b) {
          return a.end_s != b.end_s ? a.end_s < b.end_s : a.batch < b.batch;
        });
    return static_cast<std::size_t>(found - running_.begin());
  }

  void arrive(Request request, Hierarchy<AnyPolicy>& idle) {
    ++outcome_.requests;
    const auto rows = stream_.batch(request.batch);
    if (idle.would_serve(rows) != Verdict::kServed) {
      LORACLE_CHECK(tiers_->request(rows, Tick{tick_}) != Verdict::kServed);
      ++outcome_.refused;
      return;
    }
    const bool has_slots = tiers_->would_serve(rows) == Verdict::kServed;
    if (has_slots && running_.size() < options_.max_num_seqs) {
      start(request, request.arrival_s);
      return;
    }
    request.lacked_seat = has_slots;
    waiting_.push_back(request);
    outcome_.waiting_max = std::max<std::uint64_t>(outcome_.waiting_max, waiting_.size());
  }

  void start(Request request, double now_s) {
    const auto rows = stream_.batch(request.batch);
    LORACLE_CHECK(tiers_->request(rows, Tick{tick_}) == Verdict::kServed);
    tick_ += rows.size();
    tiers_->lease(rows);
    const double ready_s = load(rows, std::max(now_s, standing_still_until_s_));
    const double waited_s = now_s - request.arrival_s;
    slot_wait_.push_back(static_cast<float>(waited_s));
    load_wait_.push_back(static_cast<float>(ready_s - now_s));
    if (waited_s > 0) ++(request.lacked_seat ? outcome_.waited_for_seat : outcome_.waited_for_slot);
    if (ready_s > now_s) ++outcome_.waited_for_load;
    const float held_s = trace_.duration_s[request.origin];
    request.end_s = ready_s - stalled_s_ + (held_s > 0 ? static_cast<double>(held_s) : 0.0);
    running_.push_back(request);
  }

  [[nodiscard]] double busy_s(const LoadChannel& way, Row row) const {
    return static_cast<double>(table_.size[index_of(row)].value) / way.bytes_per_s;
  }
  /// One after the other on each way; a load out of a slot takes none of them.
  double load_on(const LoadChannel& way, double& free_s, Row row, double now_s, double after_s) const {
    free_s = std::max(free_s, now_s) + busy_s(way, row);
    return std::max(free_s, after_s + busy_s(way, row)) + way.latency_s;
  }

  double load(std::span<const Row> rows, double now_s) {
    double ready_s = now_s;
    std::vector<Row> loaded;
    for (const Decision& decision : std::exchange(loads_, {})) {
      if (decision.from == Place::kDevice) continue;
      const bool over_disk = decision.from != Place::kHost;
      const bool into_slot = decision.to == Place::kDevice;
      if (options_.loads_stall) {
        if (over_disk) ready_s += options_.disk.latency_s + busy_s(options_.disk, decision.row);
        if (into_slot) ready_s += options_.slot.latency_s + busy_s(options_.slot, decision.row);
        continue;
      }
      double& there_s = there_s_[index_of(decision.row)];
      if (over_disk) there_s = load_on(options_.disk, disk_free_s_, decision.row, now_s, now_s);
      if (into_slot)
        there_s = load_on(options_.slot, slot_free_s_, decision.row, now_s, std::max(now_s, there_s));
      if (into_slot) loaded.push_back(decision.row);
    }
    if (options_.loads_stall) {
      stalled_s_ += ready_s - now_s;
      standing_still_until_s_ = ready_s;
      return ready_s;
    }
    for (const Row row : rows) {
      const double there_s = there_s_[index_of(row)];
      if (there_s > now_s && std::find(loaded.begin(), loaded.end(), row) == loaded.end())
        ++outcome_.shared_loads;
      ready_s = std::max(ready_s, there_s);
    }
    return ready_s;
  }

  void end_first() {
    const std::size_t place = first();
    const Request ended = running_[place];
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(place));
    tiers_->give_back(stream_.batch(ended.batch));
    const double now_s = ended.end_s + stalled_s_;
    for (std::size_t i = 0; i < waiting_.size();) {
      const Request request = waiting_[i];
      if (running_.size() >= options_.max_num_seqs ||
          tiers_->would_serve(stream_.batch(request.batch)) != Verdict::kServed) {
        ++i;
        continue;
      }
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      start(request, now_s);
    }
  }

  static WaitTimes times_of(const std::vector<float>& waits) {
    if (waits.empty()) return {};
    double sum = 0;
    for (const float wait : waits) sum += static_cast<double>(wait);
    std::vector<float> sorted = waits;
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&sorted](double share) {
      return static_cast<double>(
          sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))]);
    };
    return {sum / static_cast<double>(waits.size()), at(0.5), at(0.99), at(1)};
  }

  const Trace& trace_;
  const EventOptions& options_;
  BatchStream stream_;
  AdapterTable table_;
  DecisionLog log_;
  std::vector<Decision> loads_;
  std::unique_ptr<Hierarchy<AnyPolicy>> tiers_;
  HierarchyCounts pinning_;
  std::vector<double> there_s_;
  double disk_free_s_ = 0;
  double slot_free_s_ = 0;
  std::vector<Request> running_;
  std::vector<Request> waiting_;
  double stalled_s_ = 0;
  double standing_still_until_s_ = 0;
  std::uint64_t tick_ = 0;
  std::vector<float> slot_wait_;
  std::vector<float> load_wait_;
  EventOutcome outcome_;
};

}  // namespace loracle::testing
