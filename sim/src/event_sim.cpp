#include "loracle/sim/event_sim.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "loading.hpp"
#include "loracle/core/check.hpp"
#include "running.hpp"
#include "slot_holders.hpp"
#include "tier_setup.hpp"
#include "waiting_lanes.hpp"

namespace loracle {
namespace {

class Server {
 public:
  Server(const Trace& trace, const BatchStream& stream, const EventOptions& options, DecisionSink* sink)
      : trace_(trace),
        stream_(stream),
        options_(options),
        one_each_(stream.batch_max == 1),
        none_left_out_(stream.requests() == trace.requests),
        watch_(sink),
        lacked_seat_(stream.requests(), false),
        waiting_(stream.uses.rows, stream.requests(), stream.batch_max) {
    outcome_.stretches.resize(options.tiers.stretches);
  }

  Result<EventOutcome> run(const TierPolicies& policies) {
    auto made = detail::make_tier_stack(stream_.uses, options_.tiers, policies, &watch_);
    if (!made) return fail(std::move(made.error()));
    stack_ = std::move(*made);
    const std::uint32_t rows = stream_.uses.rows;
    holders_.emplace(options_.tiers, rows, stack_->table);
    loading_.emplace(options_.disk, options_.slot, rows, stack_->table);
    for (const Row pin : options_.tiers.pins)
      if (holders_->hold_forever(pin)) waiting_.taken(pin);
    watch_.loads.clear();
    slot_wait_.reserve(stream_.requests());
    load_wait_.reserve(stream_.requests());
    arrivals();
    while (!running_.empty()) end_first();
    LORACLE_CHECK(waiting_.empty());
    return outcome();
  }

 private:
  using Running = detail::Running;

  void arrivals() {
    for (std::uint64_t batch = 0; batch < stream_.requests(); ++batch) {
      const double now_s = trace_.arrival_s[origin_of(batch)];
      while (!running_.empty() && end_of(running_.first()) <= now_s) end_first();
      arrive(batch, now_s);
    }
  }

  /// `end_s` is on the clock that stands still while loads stall.
  [[nodiscard]] double end_of(const Running& request) const noexcept { return request.end_s + stalled_s_; }

  void arrive(std::uint64_t batch, double now_s) {
    ++outcome_.requests;
    const std::span<const Row> rows = rows_of(batch);
    if (StretchCounts* const stretch = stretch_of_batch(batch); stretch != nullptr) {
      ++stretch->requests;
      stretch->uses += rows.size();
    }
    const Verdict verdict = stack_->tiers->would_serve(rows);
    const bool can_ever_start =
        verdict == Verdict::kServed || (verdict == Verdict::kAllHeld && holders_->fits_beside_pins(rows));
    if (!can_ever_start) {
      const Verdict refusal = stack_->tiers->request(rows, Tick{tick_});  // it counts and logs the refusal
      LORACLE_CHECK(refusal != Verdict::kServed);
      ++outcome_.refused;
      return;
    }
    if (verdict == Verdict::kServed && running_.size() < options_.max_num_seqs) {
      start(batch, now_s);
      return;
    }
    lacked_seat_[batch] = verdict == Verdict::kServed;
    waiting_.join(batch, rows);
    outcome_.waiting_max = std::max(outcome_.waiting_max, waiting_.size());
  }

  /// `now_s`: when there are slots and a seat for it. A server that stands still then loads for others first.
  void start(std::uint64_t batch, double now_s) {
    const std::span<const Row> rows = rows_of(batch);
    const Verdict verdict = stack_->tiers->request(rows, Tick{tick_});
    LORACLE_CHECK(verdict == Verdict::kServed);
    tick_ += rows.size();
    stack_->tiers->lease(rows);
    for (const Row row : rows)
      if (holders_->hold(row)) waiting_.taken(row);
    const std::uint64_t request = origin_of(batch);
    const double waited_s = now_s - trace_.arrival_s[request];
    StretchCounts* const stretch = stretch_of_batch(batch);
    if (stretch != nullptr) {
      count_loads(*stretch, rows.size());
      if (waited_s > 0 && !lacked_seat_[batch]) ++stretch->waited_for_slot;
    }
    const double ready_s = load(rows, std::max(now_s, standing_still_until_s_));
    const double loading_s = ready_s - now_s;
    slot_wait_.push_back(static_cast<float>(waited_s));
    load_wait_.push_back(static_cast<float>(loading_s));
    if (options_.starts != nullptr) tell_start(batch, waited_s, now_s, loading_s);
    watch_.loads.clear();
    if (waited_s > 0) ++(lacked_seat_[batch] ? outcome_.waited_for_seat : outcome_.waited_for_slot);
    if (loading_s > 0) ++outcome_.waited_for_load;
    if (waited_s + loading_s > options_.late_s) {
      ++outcome_.late;
      if (stretch != nullptr) ++stretch->late;
    }
    running_.begin({ready_s - stalled_s_ + detail::held_s(trace_.duration_s[request]), batch});
  }

  /// nullptr where they are not asked for.
  [[nodiscard]] StretchCounts* stretch_of_batch(std::uint64_t batch) noexcept {
    std::vector<StretchCounts>& all = outcome_.stretches;
    if (all.empty()) return nullptr;
    return &all[stretch_of(batch, stream_.requests(), static_cast<std::uint32_t>(all.size()))];
  }

  /// What the hierarchy has just decided for a request of so many uses.
  void count_loads(StretchCounts& stretch, std::uint64_t uses) const noexcept {
    stretch.gpu_hits += uses;
    for (const Decision& decision : watch_.loads) {
      const detail::Ways ways = detail::ways_of(decision);
      if (ways.slot) --stretch.gpu_hits;
      if (ways.disk) ++stretch.disk_loads;
    }
  }

  /// Brings what the hierarchy has just decided to bring. When all of the batch is there.
  double load(std::span<const Row> rows, double now_s) {
    double ready_s = now_s;
    if (options_.loads_stall) {
      ready_s = loading_->standing_still(watch_.loads, now_s);
      stalled_s_ += ready_s - now_s;
      standing_still_until_s_ = ready_s;
    } else {
      ready_s = loading_->beside(watch_.loads, rows, now_s);
    }
    return ready_s;
  }

  void tell_start(std::uint64_t batch, double waited_s, double now_s, double loading_s) {
    started_.clear();
    for (const Row row : stream_.batch(batch)) {
      StartedUse use{row, Place::kDevice, options_.loads_stall ? loading_s : loading_->left_s(row, now_s)};
      for (const Decision& decision : watch_.loads) {
        if (decision.row != row) continue;
        const detail::Ways ways = detail::ways_of(decision);
        if (ways.disk) use.found = Place::kDisk;
        if (ways.slot && !ways.disk && use.found == Place::kDevice) use.found = Place::kHost;
      }
      started_.push_back(use);
    }
    options_.starts->on_start({batch, waited_s, loading_s, started_});
  }

  void end_first() {
    const double now_s = end_of(running_.first());
    const std::span<const Row> rows = rows_of(running_.end_first().request);
    if (!running_.empty()) prefetch_rows(running_.first().request);
    stack_->tiers->give_back(rows);
    for (const Row row : rows)
      if (holders_->let_go(row)) waiting_.freed(row);
    if (!waiting_.empty()) start_waiting(now_s);
  }

  // Who has waited or run for long is no longer in the cache when its turn comes. So what says where to look
  // is not looked at where it says nothing, and what is looked at is asked for before.
  [[nodiscard]] std::span<const Row> rows_of(std::uint64_t batch) const noexcept {
    return one_each_ ? stream_.uses.uses.view().subspan(batch, 1) : stream_.batch(batch);
  }
  [[nodiscard]] std::uint64_t origin_of(std::uint64_t batch) const noexcept {
    return none_left_out_ ? batch : stream_.origin[batch];
  }
  void prefetch_rows(std::uint64_t batch) const noexcept {
    if (one_each_)
      __builtin_prefetch(&stream_.uses.uses.view()[batch]);
    else
      __builtin_prefetch(&stream_.begin[batch]);
  }
  void prefetch(std::uint64_t batch) const noexcept {
    prefetch_rows(batch);
    if (none_left_out_) {
      __builtin_prefetch(&trace_.arrival_s[batch]);
      __builtin_prefetch(&trace_.duration_s[batch]);
    } else {
      __builtin_prefetch(&stream_.origin[batch]);
    }
  }

  /// Those that can start now, in the order of arrival. One that starts takes as many free slots as it can
  /// spare another, or more, so that none that was passed over can start after it.
  void start_waiting(double now_s) {
    const bool bytes_decide = holders_->bytes_decide();
    while (running_.size() < options_.max_num_seqs) {
      const std::uint64_t batch = waiting_.first(holders_->free_slots());
      if (batch == detail::WaitingLanes::kNone) break;
      if (bytes_decide && stack_->tiers->would_serve(rows_of(batch)) != Verdict::kServed) {
        waiting_.put_aside();
        continue;
      }
      const std::uint64_t behind = waiting_.leave();
      if (behind != detail::WaitingLanes::kNone) prefetch(behind);
      start(batch, now_s);
    }
    waiting_.restore();
  }

  EventOutcome outcome() {
    outcome_.counts = since(stack_->tiers->counts(), stack_->pinning);
    outcome_.decision_log_hash = stack_->log.hash();
    outcome_.stalled_s = stalled_s_;
    std::vector<float> delay(slot_wait_.size());
    for (std::size_t i = 0; i < delay.size(); ++i) delay[i] = slot_wait_[i] + load_wait_[i];
    outcome_.shared_loads = loading_->shared();
    outcome_.slot_wait = detail::times_of(slot_wait_);
    outcome_.load_wait = detail::times_of(load_wait_);
    outcome_.delay = detail::times_of(delay);
    return outcome_;
  }

  const Trace& trace_;
  const BatchStream& stream_;
  const EventOptions& options_;
  bool one_each_;       // no request has several adapters, and so batch i the use i alone
  bool none_left_out_;  // every request has an adapter, and so batch i is request i
  detail::LoadWatch watch_;
  std::unique_ptr<detail::TierStack> stack_;
  std::optional<detail::SlotHolders> holders_;  // from here on made with the stack
  std::optional<detail::Loading> loading_;
  detail::RunningRequests running_;  // by batch
  std::vector<bool> lacked_seat_;    // [requests] that lacked a seat alone on arrival
  detail::WaitingLanes waiting_;     // likewise
  double stalled_s_ = 0;
  double standing_still_until_s_ = -std::numeric_limits<double>::infinity();
  std::uint64_t tick_ = 0;
  std::vector<float> slot_wait_;
  std::vector<float> load_wait_;
  std::vector<StartedUse> started_;  // scratch
  EventOutcome outcome_;
};

Result<Unit> check_options(const Trace& trace, const EventOptions& options) {
  if (Result<Unit> ok = detail::check_times(trace); !ok) return ok;
  if (Result<Unit> ok = check_tier_options(options.tiers); !ok) return ok;
  if (options.max_num_seqs == 0) return fail(Errc::kInvalid, "max_num_seqs 0 serves nothing");
  return detail::check_channels(options.disk, options.slot);
}

}  // namespace

Result<EventOutcome> simulate_events(const Trace& trace, const BatchStream& stream,
                                     const EventOptions& options, DecisionSink* sink) {
  if (Result<Unit> ok = check_options(trace, options); !ok) return fail(std::move(ok.error()));
  const Result<TierPolicies> policies = detail::policies_in_time(options.tiers);
  if (!policies) return fail(policies.error());
  return Server(trace, stream, options, sink).run(*policies);
}

Result<EventOutcome> simulate_events(const Trace& trace, const EventOptions& options, DecisionSink* sink) {
  const Result<BatchStream> stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  return simulate_events(trace, *stream, options, sink);
}

}  // namespace loracle
