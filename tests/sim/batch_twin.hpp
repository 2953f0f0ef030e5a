#pragma once
/// The simulation in steps without cleverness: one step after another, each from lists that are searched,
/// every sum formed anew. What simulate_batches must equal.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/policy/all_policies.hpp"
#include "loracle/policy/any_policy.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/sim/batch_sim.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::testing {

struct TwinRequest {
  std::uint64_t number = 0;  // in the trace
  double arrival_s = 0;
  std::vector<Row> rows;
  std::int32_t priority = 0;
  std::uint32_t prefill_left = 0;
  std::uint32_t output_left = 0;
  bool was_seen = false;  // by the scheduler
  double ready_s = 0;
  std::uint32_t given = 0;
  double admitted_s = 0;
  double load_wait_s = 0;
  double first_token_s = 0;
  double latency_s = 0;
};

/// One replica.
class BatchTwin final : public DecisionSink {
 public:
  BatchTwin(const Trace& trace, const BatchOptions& options, const BatchStream& stream)
      : trace_(trace), options_(options), log_(this) {
    table_.size = stream.uses.size;
    tiers_ = hierarchy(stream.uses.rows, log_);
    idle_ = hierarchy(stream.uses.rows, unread_);
    loads_.clear();
    pinning_ = tiers_->counts();
    there_s_.assign(stream.uses.rows, 0);
  }

  void on_decision(const Decision& decision) noexcept override {
    if (decision.action == Action::kLoad) loads_.push_back(decision);
  }

  /// Begins every step that begins before then; a step that ends later is still under way.
  void run_until(double until_s) {
    for (;;) {
      if (step_end_s_ > until_s) return;
      if (step_under_way_) end_step();
      const double next_s = next_look_s();
      if (!(next_s < until_s)) return;
      begin_step(next_s);
    }
  }

  void arrive(std::uint64_t number, std::vector<Row> rows, std::int32_t priority) {
    ++outcome.requests;
    TwinRequest request;
    request.number = number;
    request.arrival_s = trace_.arrival_s[number];
    request.rows = std::move(rows);
    request.priority = priority;
    request.prefill_left = std::max(1U, trace_.input_tokens[number]);
    request.output_left = std::max(1U, trace_.output_tokens[number]);
    if (idle_->would_serve(request.rows) != Verdict::kServed) {
      LORACLE_CHECK(tiers_->request(request.rows, Tick{tick_}) != Verdict::kServed);
      ++outcome.refused;
      return;
    }
    if (options_.prefetch && tiers_->bring(request.rows, 1, Tick{tick_}) == Verdict::kServed)
      for (const Decision& decision : std::exchange(loads_, {})) {
        move_over(outcome.prefetched, decision.row);
        move_over(outcome.disk, decision.row);
        there_s_[index_of(decision.row)] =
            load_on(options_.service.disk, disk_free_s_, decision.row, request.arrival_s, request.arrival_s);
      }
    look_again_s_ = std::min(look_again_s_, request.arrival_s);
    waiting_.push_back(std::move(request));
  }

  [[nodiscard]] std::uint64_t outstanding() const {
    return waiting_.size() + loading_.size() + prefilling_.size() + decoding_.size();
  }
  [[nodiscard]] bool has(Row row) const {
    for (const auto* list : {&waiting_, &loading_, &prefilling_, &decoding_})
      for (const TwinRequest& request : *list)
        if (std::count(request.rows.begin(), request.rows.end(), row) > 0) return true;
    return tiers_->tier(0).contains(row);
  }

  void finish() {
    LORACLE_CHECK(outstanding() == 0);
    outcome.counts = since(tiers_->counts(), pinning_);
    outcome.decision_log_hash = log_.hash();
    std::vector<double> sorted = gaps_;
    std::sort(sorted.begin(), sorted.end());
    TokenGaps& gaps = outcome.gaps;
    gaps.count = sorted.size();
    if (sorted.empty()) return;
    gaps.mean = std::accumulate(gaps_.begin(), gaps_.end(), 0.0) / static_cast<double>(sorted.size());
    const auto at = [&sorted](double share) {
      return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
    };
    gaps.p50 = at(0.5);
    gaps.p99 = at(0.99);
    gaps.max = at(1);
  }

  ReplicaOutcome outcome;
  std::vector<TwinRequest> ended;
  double running_s = 0;
  double adapters_s = 0;
  double last_end_s = 0;

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  [[nodiscard]] std::unique_ptr<Hierarchy<AnyPolicy>> hierarchy(std::uint32_t rows, DecisionLog& log) const {
    const TierOptions& tiers = options_.tiers;
    const TierPolicies policies = *parse_tier_policies(tiers.tiers);
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

  [[nodiscard]] double busy_s(const LoadChannel& way, Row row) const {
    return static_cast<double>(table_.size[index_of(row)].value) / way.bytes_per_s;
  }
  double load_on(const LoadChannel& way, double& free_s, Row row, double now_s, double after_s) const {
    free_s = std::max(free_s, now_s) + busy_s(way, row);
    return std::max(free_s, after_s + busy_s(way, row)) + way.latency_s;
  }
  void move_over(Moved& moved, Row row) const {
    ++moved.loads;
    moved.bytes += table_.size[index_of(row)];
  }

  [[nodiscard]] double next_look_s() const {
    if (!decoding_.empty() || !prefilling_.empty()) return step_end_s_;
    double next_s = look_again_s_;
    for (const TwinRequest& request : loading_) next_s = std::min(next_s, request.ready_s);
    return std::max(next_s, step_end_s_);
  }

  void begin_step(double now_s) {
    now_s_ = now_s;
    look_again_s_ = kNever;
    stall_s_ = 0;
    // Those whose adapters are there, in that order; of several at once the earlier.
    std::stable_sort(loading_.begin(), loading_.end(), [](const TwinRequest& a, const TwinRequest& b) {
      return std::pair(a.ready_s, a.number) < std::pair(b.ready_s, b.number);
    });
    while (!loading_.empty() && loading_.front().ready_s <= now_s) {
      prefilling_.push_back(loading_.front());
      loading_.erase(loading_.begin());
    }
    std::uint64_t budget = options_.max_num_batched_tokens - decoding_.size();
    for (TwinRequest& request : prefilling_) give(request, budget);
    admit(budget);
    for (TwinRequest& request : waiting_)
      if (!std::exchange(request.was_seen, true))
        ++(tiers_->would_serve(request.rows) == Verdict::kServed ? outcome.waited_for_seat
                                                                 : outcome.waited_for_slot);
    outcome.waiting_max = std::max<std::uint64_t>(outcome.waiting_max, waiting_.size());
    for (TwinRequest& request : prefilling_)
      if (request.admitted_s == now_s && stall_s_ > 0) request.load_wait_s = stall_s_;
    step_under_way_ = !decoding_.empty() || !prefilling_.empty();
    if (!step_under_way_) return;
    measure_batch();
    step_end_s_ = now_s + each_s_;
  }

  static void give(TwinRequest& request, std::uint64_t& budget) {
    request.given = static_cast<std::uint32_t>(std::min<std::uint64_t>(request.prefill_left, budget));
    budget -= request.given;
  }

  void admit(std::uint64_t& budget) {
    std::stable_sort(waiting_.begin(), waiting_.end(), [](const TwinRequest& a, const TwinRequest& b) {
      return std::pair(a.priority, a.number) < std::pair(b.priority, b.number);
    });
    for (std::size_t i = 0; i < waiting_.size();) {
      const std::uint64_t seated = loading_.size() + prefilling_.size() + decoding_.size();
      if (budget == 0 || seated >= options_.max_num_seqs) return;
      if (tiers_->would_serve(waiting_[i].rows) != Verdict::kServed) {
        ++i;
        continue;
      }
      TwinRequest request = waiting_[i];
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      start(request, budget);
    }
  }

  void start(TwinRequest request, std::uint64_t& budget) {
    LORACLE_CHECK(tiers_->request(request.rows, Tick{tick_}) == Verdict::kServed);
    tick_ += request.rows.size();
    tiers_->lease(request.rows);
    request.admitted_s = now_s_;
    request.ready_s = now_s_;
    load(request);
    request.load_wait_s = request.ready_s - now_s_;
    if (request.ready_s > now_s_) {
      loading_.push_back(request);
      return;
    }
    give(request, budget);
    prefilling_.push_back(request);
  }

  void load(TwinRequest& request) {
    std::vector<Row> loaded;
    for (const Decision& decision : std::exchange(loads_, {})) {
      if (decision.from == Place::kDevice) continue;
      const bool over_disk = decision.from != Place::kHost;
      const bool into_slot = decision.to == Place::kDevice;
      const ServiceModel& service = options_.service;
      double& there_s = there_s_[index_of(decision.row)];
      if (over_disk) move_over(outcome.disk, decision.row);
      if (into_slot) move_over(outcome.slot, decision.row);
      if (options_.loads_stall) {
        if (over_disk) stall_s_ += service.disk.latency_s + busy_s(service.disk, decision.row);
        if (into_slot) stall_s_ += service.slot.latency_s + busy_s(service.slot, decision.row);
        continue;
      }
      if (over_disk) there_s = load_on(service.disk, disk_free_s_, decision.row, now_s_, now_s_);
      if (into_slot)
        there_s = load_on(service.slot, slot_free_s_, decision.row, now_s_, std::max(now_s_, there_s));
      if (into_slot) loaded.push_back(decision.row);
    }
    for (const Row row : request.rows) {
      const double there_s = there_s_[index_of(row)];
      if (there_s > now_s_ && std::count(loaded.begin(), loaded.end(), row) == 0) ++outcome.shared_loads;
      request.ready_s = std::max(request.ready_s, there_s);
    }
  }

  void measure_batch() {
    std::set<Row> adapters;
    std::uint64_t prefill_tokens = 0;
    in_batch_ = decoding_.size();
    for (const TwinRequest& request : decoding_) adapters.insert(request.rows.begin(), request.rows.end());
    for (const TwinRequest& request : prefilling_) {
      if (request.given == 0) continue;
      ++in_batch_;
      prefill_tokens += request.given;
      adapters.insert(request.rows.begin(), request.rows.end());
    }
    std::uint64_t ranks = 0;
    for (const Row row : adapters) {
      const auto& rank = trace_.adapters.rank;
      ranks += !rank.empty() && rank[index_of(row)] != 0 ? rank[index_of(row)] : options_.unknown_rank;
    }
    adapters_ = adapters.size();
    const StepTimes& times = options_.service.step;
    each_s_ = stall_s_ + (times.base_s + times.prefill_token_s * static_cast<double>(prefill_tokens) +
                          times.sequence_s * static_cast<double>(in_batch_) +
                          times.adapter_s * static_cast<double>(adapters_) +
                          times.adapter_rank_s * static_cast<double>(ranks));
    outcome.prefill_tokens += prefill_tokens;
  }

  void end_step() {
    step_under_way_ = false;
    look_again_s_ = step_end_s_;
    last_end_s = step_end_s_;
    ++outcome.steps;
    outcome.busy_s += each_s_;
    outcome.stalled_s += stall_s_;
    running_s += each_s_ * static_cast<double>(in_batch_);
    adapters_s += each_s_ * static_cast<double>(adapters_);
    std::vector<TwinRequest> decoding;
    for (TwinRequest& request : decoding_) {
      gaps_.push_back(each_s_);
      if (stall_s_ > 0) ++outcome.gaps.stalled;
      emit(request, decoding);
    }
    std::vector<TwinRequest> prefilling;
    for (TwinRequest& request : prefilling_) {
      request.prefill_left -= std::exchange(request.given, 0);
      if (request.prefill_left > 0) {
        prefilling.push_back(request);
        continue;
      }
      request.first_token_s = step_end_s_ - request.arrival_s;
      emit(request, decoding);
    }
    decoding_ = std::move(decoding);
    prefilling_ = std::move(prefilling);
  }

  void emit(TwinRequest& request, std::vector<TwinRequest>& decoding) {
    ++outcome.output_tokens;
    if (--request.output_left > 0) {
      decoding.push_back(request);
      return;
    }
    request.latency_s = step_end_s_ - request.arrival_s;
    tiers_->give_back(request.rows);
    ended.push_back(request);
  }

  const Trace& trace_;
  const BatchOptions& options_;
  AdapterTable table_;
  DecisionLog log_;
  DecisionLog unread_;
  std::vector<Decision> loads_;
  std::unique_ptr<Hierarchy<AnyPolicy>> tiers_;
  std::unique_ptr<Hierarchy<AnyPolicy>> idle_;
  HierarchyCounts pinning_;
  std::vector<double> there_s_;
  double disk_free_s_ = 0;
  double slot_free_s_ = 0;
  std::vector<TwinRequest> waiting_;
  std::vector<TwinRequest> loading_;
  std::vector<TwinRequest> prefilling_;
  std::vector<TwinRequest> decoding_;
  std::vector<double> gaps_;
  double now_s_ = 0;
  double look_again_s_ = kNever;  // when somebody arrived, or a step ended, that was not looked at yet
  bool step_under_way_ = false;
  double step_end_s_ = -kNever;
  double each_s_ = 0;
  double stall_s_ = 0;
  std::uint64_t in_batch_ = 0;
  std::uint64_t adapters_ = 0;
  std::uint64_t tick_ = 0;
};

/// Several of them behind a router, likewise. What simulate_batches says but for groups and, of several
/// replicas, the total.
class BatchFleetTwin {
 public:
  BatchFleetTwin(const Trace& trace, const BatchOptions& options) : trace_(trace), options_(options) {}

  BatchOutcome run() {
    const BatchStream stream = *make_batch_stream(trace_);
    for (std::uint32_t i = 0; i < options_.replicas; ++i)
      replicas_.push_back(std::make_unique<BatchTwin>(trace_, options_, stream));
    for (std::uint64_t number = 0; number < trace_.requests; ++number) {
      std::vector<Row> rows;
      for (const Row row : trace_.batch(number))
        if (std::count(rows.begin(), rows.end(), row) == 0) rows.push_back(row);
      for (auto& replica : replicas_) replica->run_until(trace_.arrival_s[number]);
      replicas_[choose(number, rows)]->arrive(number, rows, priority_of(number));
    }
    BatchOutcome outcome;
    double end_s = trace_.requests == 0 ? 0 : trace_.arrival_s[0];
    for (auto& replica : replicas_) {
      replica->run_until(std::numeric_limits<double>::max());
      replica->finish();
      end_s = std::max(end_s, replica->last_end_s);
    }
    outcome.span_s = trace_.requests == 0 ? 0 : end_s - trace_.arrival_s[0];
    for (auto& replica : replicas_) {
      ReplicaOutcome one = replica->outcome;
      one.slot_wait = times_of(*replica, [](const TwinRequest& r) { return r.admitted_s - r.arrival_s; });
      one.load_wait = times_of(*replica, [](const TwinRequest& r) { return r.load_wait_s; });
      one.first_token = times_of(*replica, [](const TwinRequest& r) { return r.first_token_s; });
      one.latency = times_of(*replica, [](const TwinRequest& r) { return r.latency_s; });
      for (const TwinRequest& request : replica->ended)
        if (request.load_wait_s > 0) ++one.waited_for_load;
      if (outcome.span_s > 0) one.running_mean = replica->running_s / outcome.span_s;
      if (outcome.span_s > 0) one.adapters_mean = replica->adapters_s / outcome.span_s;
      outcome.replicas.push_back(one);
    }
    return outcome;
  }

 private:
  [[nodiscard]] std::int32_t priority_of(std::uint64_t number) const {
    if (trace_.tenant.empty() || trace_.tenant[number] >= options_.tenant_priority.size()) return 0;
    return options_.tenant_priority[trace_.tenant[number]];
  }

  /// Routers that keep no ring.
  [[nodiscard]] std::size_t choose(std::uint64_t number, const std::vector<Row>& rows) const {
    const std::size_t count = replicas_.size();
    if (options_.router == Router::kRoundRobin) return number % count;
    std::uint64_t total = 1;
    for (const auto& replica : replicas_) total += replica->outstanding();
    const double most = std::ceil(options_.load_bound * (static_cast<double>(total) / double(count)));
    std::vector<std::size_t> all;
    std::vector<std::size_t> with_adapters;
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(i);
      bool has_all = !rows.empty() && static_cast<double>(replicas_[i]->outstanding() + 1) <= most;
      for (const Row row : rows) has_all = has_all && replicas_[i]->has(row);
      if (has_all) with_adapters.push_back(i);
    }
    const bool prefers = options_.router == Router::kLoraAffinity && !with_adapters.empty();
    const std::vector<std::size_t>& from = prefers ? with_adapters : all;
    return *std::min_element(from.begin(), from.end(), [&](std::size_t a, std::size_t b) {
      return replicas_[a]->outstanding() < replicas_[b]->outstanding();
    });
  }

  template <class Seconds>
  static WaitTimes times_of(const BatchTwin& replica, const Seconds& seconds) {
    std::vector<TwinRequest> ended = replica.ended;
    std::sort(ended.begin(), ended.end(),
              [](const TwinRequest& a, const TwinRequest& b) { return a.number < b.number; });
    if (ended.empty()) return {};
    double sum = 0;
    std::vector<float> sorted;
    for (const TwinRequest& request : ended) {
      sorted.push_back(static_cast<float>(seconds(request)));
      sum += static_cast<double>(sorted.back());
    }
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&sorted](double share) {
      return static_cast<double>(
          sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))]);
    };
    return {sum / static_cast<double>(sorted.size()), at(0.5), at(0.99), at(1)};
  }

  const Trace& trace_;
  const BatchOptions& options_;
  std::vector<std::unique_ptr<BatchTwin>> replicas_;
};

}  // namespace loracle::testing
