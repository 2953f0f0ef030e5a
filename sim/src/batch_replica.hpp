#pragma once
/// One replica of simulate_batches: its tiers, who waits, who is loaded for, and the steps of its batches.
///
/// A request that is not refused waits, is admitted (it then holds a seat, slots and leases), has its loads
/// done, is prefilled over one step or more, decodes one token a step, and ends. Requests have numbers of
/// their own here, in the order of arrival. Steps without prefill or stall are alike until somebody ends or
/// is ready, or arrives: they are begun as one stretch, which an arrival cuts short at the end of a step.
/// Threads: one owner.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "loading.hpp"
#include "loracle/core/result.hpp"
#include "loracle/sim/batch_sim.hpp"
#include "running.hpp"
#include "slot_holders.hpp"
#include "tier_setup.hpp"
#include "waiting_lanes.hpp"

namespace loracle::detail {

/// What all replicas read.
struct BatchScene {
  const Trace* trace = nullptr;
  const BatchOptions* options = nullptr;
  BatchStream stream;
  TierPolicies policies;
  std::vector<std::uint64_t> begin;         // [requests + 1] into the uses; equal ends: no adapter
  std::vector<std::uint32_t> tenant_class;  // [tenants] of priority, 0 goes first
  std::uint32_t default_class = 0;          // without a tenant
  std::uint32_t classes = 1;

  [[nodiscard]] std::span<const Row> rows_of(std::uint64_t request) const noexcept {
    return stream.uses.uses.view().subspan(begin[request], begin[request + 1] - begin[request]);
  }
  /// kNoTenant if the trace says none.
  [[nodiscard]] std::uint32_t tenant_of(std::uint64_t request) const noexcept {
    return trace->tenant.empty() ? kNoTenant : trace->tenant[request];
  }
  [[nodiscard]] std::uint32_t class_of(std::uint64_t request) const noexcept {
    const std::uint32_t tenant = tenant_of(request);
    return tenant < tenant_class.size() ? tenant_class[tenant] : default_class;
  }
  [[nodiscard]] std::uint32_t input_of(std::uint64_t request) const noexcept {
    return std::max(1U, trace->input_tokens[request]);
  }
  [[nodiscard]] std::uint32_t output_of(std::uint64_t request) const noexcept {
    return std::max(1U, trace->output_tokens[request]);
  }
  [[nodiscard]] std::uint32_t rank_of(Row row) const noexcept {
    const auto& rank = trace->adapters.rank;
    const std::uint32_t known = rank.empty() ? 0U : rank[index_of(row)];
    return known != 0 ? known : options->unknown_rank;
  }
};

/// What replicas write: seconds of each request, and what was moved for whom.
struct BatchRecord {
  static constexpr float kRefused = -1;

  std::vector<float> slot_wait_s;      // [requests] kRefused: until it is admitted, or for ever
  std::vector<float> load_wait_s;      // [requests]
  std::vector<float> first_token_s;    // [requests]
  std::vector<float> latency_s;        // [requests]
  std::vector<std::uint32_t> replica;  // [requests]
  std::vector<Moved> row_disk;         // [rows]
  std::vector<Moved> row_slot;         // [rows]
  std::vector<Moved> tenant_disk;      // [tenants]
  std::vector<Moved> tenant_slot;      // [tenants]
};

/// Gaps of equal length, one after another.
struct GapRun {
  double gap_s = 0;
  std::uint64_t tokens = 0;
};

class BatchReplica {
 public:
  /// All three must outlive it; `sink` may be null. Errors: those of make_tier_stack.
  [[nodiscard]] static Result<std::unique_ptr<BatchReplica>> make(const BatchScene& scene,
                                                                  BatchRecord& record, DecisionSink* sink);

  /// Whether advance(until_s) would change anything.
  [[nodiscard]] bool due(double until_s) const noexcept {
    return in_step_ ? step_end_s_ <= until_s : next_s_ < until_s;
  }
  /// Ends what ends until then, and begins what begins before. REQUIRES: never earlier than before.
  void advance(double until_s);
  /// A request arrives. REQUIRES: advanced to its arrival, and to nothing later.
  void arrive(std::uint64_t request);

  /// Arrived here, not refused and not ended.
  [[nodiscard]] std::uint64_t outstanding() const noexcept { return outstanding_; }
  /// Whether an adapter is in a slot here, or outstanding requests want it.
  [[nodiscard]] bool has(Row row) const noexcept {
    return asked_[index_of(row)] > 0 || stack_->tiers->tier(0).contains(row);
  }

  /// All but what needs every request looked at: waits, means over the time, gaps. REQUIRES: all have ended.
  [[nodiscard]] ReplicaOutcome outcome() const;
  [[nodiscard]] const std::vector<GapRun>& gaps() const noexcept { return gaps_; }
  /// Requests in the batch and distinct adapters, times the seconds that they were.
  [[nodiscard]] double running_s() const noexcept { return running_s_; }
  [[nodiscard]] double adapters_s() const noexcept { return adapters_s_; }
  [[nodiscard]] double end_s() const noexcept { return end_s_; }

 private:
  /// A request whose adapters are there and whose prompt is not through yet.
  struct Prefill {
    std::uint32_t request = 0;  // as numbered here
    std::uint32_t left = 0;     // tokens
    std::uint32_t given = 0;    // of these, in this step
  };

  BatchReplica(const BatchScene& scene, BatchRecord& record, DecisionSink* sink);
  Result<Unit> open();

  void begin_step();
  void end_step();
  void cut_stretch(double until_s) noexcept;
  void take_ready();
  void give_tokens(Prefill& prefill);
  void admit();
  [[nodiscard]] WaitingLanes* next_to_admit(std::uint32_t& request) noexcept;
  void start(std::uint32_t request);
  void wait_for_stall(double stall_s);
  void look_at_newcomers();
  [[nodiscard]] double step_s() const noexcept;
  [[nodiscard]] std::uint64_t steps_alike() const noexcept;
  [[nodiscard]] std::uint64_t steps_until(double until_s) const noexcept;
  void end_prefills();
  void end(std::uint32_t request);

  void prefetch(std::uint64_t request, double now_s);
  /// Adds up what the hierarchy has just decided to load.
  void count_loads(std::uint64_t request);
  void enter_batch(std::uint32_t request) noexcept;
  void leave_batch(std::uint32_t request) noexcept;
  [[nodiscard]] std::span<const Row> rows_of(std::uint32_t request) const noexcept {
    return scene_->rows_of(mine_[request]);
  }
  [[nodiscard]] double arrival_of(std::uint32_t request) const noexcept {
    return scene_->trace->arrival_s[mine_[request]];
  }

  const BatchScene* scene_;
  const BatchOptions* options_;
  BatchRecord* record_;
  LoadWatch watch_;
  std::unique_ptr<TierStack> stack_;
  std::optional<SlotHolders> holders_;  // from here on made with the stack
  std::optional<Loading> loading_;
  std::vector<WaitingLanes> waiting_;       // [classes]
  std::vector<std::uint32_t> mine_;         // [requests here] their numbers in the trace
  std::vector<std::uint32_t> asked_;        // [rows] outstanding requests that want it
  std::vector<std::uint32_t> batch_users_;  // [rows] requests in the batch that use it
  RunningRequests loads_;                   // admitted, by when their adapters are there
  std::deque<Prefill> prefills_;            // in the order in which they were ready
  RunningRequests decoding_;                // by the step in which they end
  std::vector<std::uint32_t> admitted_now_;

  double next_s_ = std::numeric_limits<double>::infinity();  // when the scheduler looks next, between steps
  bool in_step_ = false;
  double begin_s_ = 0;     // of the step, or stretch of steps, that runs
  double step_end_s_ = 0;  // of its end
  double each_s_ = 0;      // of its steps
  double stall_s_ = 0;     // of these, loads
  double stalled_until_s_ = 0;
  std::uint64_t steps_ = 0;  // in it
  std::uint64_t step_ = 0;   // that ended so far
  std::uint32_t budget_ = 0;
  std::uint32_t prefill_tokens_ = 0;  // in this step
  std::uint32_t prefilling_ = 0;      // requests at the head of prefills_ that have tokens in this step
  std::uint32_t newcomers_from_ = 0;  // who arrived since the scheduler looked
  std::uint64_t batch_adapters_ = 0;
  std::uint64_t batch_ranks_ = 0;  // of these, their sum
  std::uint64_t waiting_count_ = 0;
  std::uint64_t seated_ = 0;
  std::uint64_t outstanding_ = 0;
  std::uint64_t tick_ = 0;
  double running_s_ = 0;
  double adapters_s_ = 0;
  double end_s_ = 0;
  std::uint64_t stalled_tokens_ = 0;
  std::vector<GapRun> gaps_;
  ReplicaOutcome outcome_;
};

}  // namespace loracle::detail
