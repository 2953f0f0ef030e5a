#include "loracle/sim/event_sim.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "running.hpp"
#include "tier_setup.hpp"
#include "waiting_lanes.hpp"

namespace loracle {
namespace {

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
  double free_s_ = 0;
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

WaitTimes times_of(std::vector<float>& waits) {
  WaitTimes times;
  if (waits.empty()) return times;
  double sum = 0;
  for (const float wait : waits) sum += static_cast<double>(wait);
  times.mean = sum / static_cast<double>(waits.size());
  const auto quantile = [&waits](double share) {
    const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(waits.size() - 1));
    std::nth_element(waits.begin(), waits.begin() + place, waits.end());
    return static_cast<double>(waits[static_cast<std::size_t>(place)]);
  };
  times.p50 = quantile(0.5);
  times.p99 = quantile(0.99);
  times.max = quantile(1);
  return times;
}

class Server {
 public:
  Server(const Trace& trace, const BatchStream& stream, const EventOptions& options, DecisionSink* sink)
      : trace_(trace),
        stream_(stream),
        options_(options),
        watch_(sink),
        disk_(options.disk),
        slot_(options.slot),
        holders_(stream.uses.rows, 0),
        is_pinned_(stream.uses.rows, false),
        there_s_(stream.uses.rows, 0),
        lacked_seat_(stream.requests(), false),
        waiting_(stream.uses.rows, stream.requests(), stream.batch_max) {
    outcome_.stretches.resize(options.tiers.stretches);
  }

  Result<EventOutcome> run(const TierPolicies& policies) {
    auto made = detail::make_tier_stack(stream_.uses, options_.tiers, policies, &watch_);
    if (!made) return fail(std::move(made.error()));
    stack_ = std::move(*made);
    free_slots_ = options_.tiers.max_loras;
    for (const Row pin : options_.tiers.pins) hold_forever(pin);
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

  void hold_forever(Row pin) {
    if (is_pinned_[index_of(pin)]) return;  // named twice
    is_pinned_[index_of(pin)] = true;
    ++pins_;
    pinned_bytes_ += stack_->table.size_of(pin);
    hold(pin);
  }
  void hold(Row row) {
    if (holders_[index_of(row)]++ > 0) return;
    --free_slots_;
    waiting_.taken(row);
  }
  void let_go(Row row) {
    if (--holders_[index_of(row)] > 0) return;
    ++free_slots_;
    waiting_.freed(row);
  }

  void arrivals() {
    for (std::uint64_t batch = 0; batch < stream_.requests(); ++batch) {
      const double now_s = trace_.arrival_s[stream_.origin[batch]];
      while (!running_.empty() && end_of(running_.first()) <= now_s) end_first();
      arrive(batch, now_s);
    }
  }

  /// `end_s` is on the clock that stands still while loads stall.
  [[nodiscard]] double end_of(const Running& request) const noexcept { return request.end_s + stalled_s_; }

  void arrive(std::uint64_t batch, double now_s) {
    ++outcome_.requests;
    const std::span<const Row> rows = stream_.batch(batch);
    if (StretchCounts* const stretch = stretch_of_batch(batch); stretch != nullptr) {
      ++stretch->requests;
      stretch->uses += rows.size();
    }
    const Verdict verdict = stack_->tiers->would_serve(rows);
    const bool can_ever_start =
        verdict == Verdict::kServed || (verdict == Verdict::kAllHeld && fits_beside_pins(rows));
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

  /// Whether it could be served if nothing ran. The counts of the host tier follow from the device's.
  [[nodiscard]] bool fits_beside_pins(std::span<const Row> rows) const noexcept {
    const TierOptions& tiers = options_.tiers;
    std::uint64_t entries = pins_;
    Bytes bytes{};
    for (const Row row : rows) {
      if (is_pinned_[index_of(row)]) continue;
      ++entries;
      bytes += stack_->table.size_of(row);
    }
    const auto has_bytes = [&](Bytes limit) { return bytes <= limit - pinned_bytes_; };
    return entries <= tiers.max_loras && has_bytes(tiers.gpu_memory) &&
           (tiers.boundary == Boundary::kExclusive || has_bytes(tiers.cpu_memory));
  }

  /// `now_s`: when there are slots and a seat for it. A server that stands still then loads for others first.
  void start(std::uint64_t batch, double now_s) {
    const std::span<const Row> rows = stream_.batch(batch);
    const Verdict verdict = stack_->tiers->request(rows, Tick{tick_});
    LORACLE_CHECK(verdict == Verdict::kServed);
    tick_ += rows.size();
    stack_->tiers->lease(rows);
    for (const Row row : rows) hold(row);
    const std::uint64_t request = stream_.origin[batch];
    const double waited_s = now_s - trace_.arrival_s[request];
    if (StretchCounts* const stretch = stretch_of_batch(batch); stretch != nullptr) {
      count_loads(*stretch, rows.size());
      if (waited_s > 0 && !lacked_seat_[batch]) ++stretch->waited_for_slot;
    }
    const double ready_s = load(rows, std::max(now_s, standing_still_until_s_));
    const double loading_s = ready_s - now_s;
    slot_wait_.push_back(static_cast<float>(waited_s));
    load_wait_.push_back(static_cast<float>(loading_s));
    if (waited_s > 0) ++(lacked_seat_[batch] ? outcome_.waited_for_seat : outcome_.waited_for_slot);
    if (loading_s > 0) ++outcome_.waited_for_load;
    running_.begin({ready_s - stalled_s_ + detail::held_s(trace_.duration_s[request]), batch});
  }

  /// Which ways a load takes. Moving down out of a slot takes none: nobody waits for that.
  struct Ways {
    bool disk = false;
    bool slot = false;
  };
  static Ways ways_of(const Decision& load) noexcept {
    if (load.from == Place::kDevice) return {};
    return {load.from != Place::kHost, load.to == Place::kDevice};
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
      const Ways ways = ways_of(decision);
      if (ways.slot) --stretch.gpu_hits;
      if (ways.disk) ++stretch.disk_loads;
    }
  }

  /// Brings what the hierarchy has just decided to bring. When all of the batch is there.
  double load(std::span<const Row> rows, double now_s) {
    const double ready_s = options_.loads_stall ? load_standing_still(now_s) : load_beside(rows, now_s);
    watch_.loads.clear();
    return ready_s;
  }

  double load_standing_still(double now_s) {
    double ready_s = now_s;
    for (const Decision& decision : watch_.loads) {
      const Bytes size = stack_->table.size_of(decision.row);
      const Ways ways = ways_of(decision);
      if (ways.disk) ready_s += disk_.alone(size);
      if (ways.slot) ready_s += slot_.alone(size);
    }
    stalled_s_ += ready_s - now_s;
    standing_still_until_s_ = ready_s;
    return ready_s;
  }

  double load_beside(std::span<const Row> rows, double now_s) {
    for (const Decision& decision : watch_.loads) {  // into host memory before into a slot
      double& there_s = there_s_[index_of(decision.row)];
      const Bytes size = stack_->table.size_of(decision.row);
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
        ++outcome_.shared_loads;
      ready_s = std::max(ready_s, there_s);
    }
    loaded_now_.clear();
    return ready_s;
  }

  void end_first() {
    const double now_s = end_of(running_.first());
    const std::span<const Row> rows = stream_.batch(running_.end_first().request);
    stack_->tiers->give_back(rows);
    for (const Row row : rows) let_go(row);
    if (!waiting_.empty()) start_waiting(now_s);
  }

  /// Those that can start now, in the order of arrival. One that starts takes as many free slots as it can
  /// spare another, or more, so that none that was passed over can start after it.
  void start_waiting(double now_s) {
    const bool counts_decide =
        options_.tiers.gpu_memory.value == kUnlimited && options_.tiers.cpu_memory.value == kUnlimited;
    while (running_.size() < options_.max_num_seqs) {
      const std::uint64_t batch = waiting_.first(free_slots_);
      if (batch == detail::WaitingLanes::kNone) break;
      if (!counts_decide && stack_->tiers->would_serve(stream_.batch(batch)) != Verdict::kServed) {
        waiting_.put_aside();
        continue;
      }
      waiting_.leave();
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
    outcome_.slot_wait = times_of(slot_wait_);
    outcome_.load_wait = times_of(load_wait_);
    outcome_.delay = times_of(delay);
    return outcome_;
  }

  const Trace& trace_;
  const BatchStream& stream_;
  const EventOptions& options_;
  LoadWatch watch_;
  Channel disk_;
  Channel slot_;
  std::unique_ptr<detail::TierStack> stack_;
  std::vector<std::uint32_t> holders_;  // [rows] running requests, and one if it is pinned
  std::vector<bool> is_pinned_;         // [rows]
  std::vector<double> there_s_;         // [rows] when its last load is done
  std::vector<Row> loaded_now_;         // scratch
  detail::RunningRequests running_;     // by batch
  std::vector<bool> lacked_seat_;       // [requests] that lacked a seat alone on arrival
  detail::WaitingLanes waiting_;        // likewise
  std::uint32_t pins_ = 0;              // distinct
  Bytes pinned_bytes_{};
  std::uint32_t free_slots_ = 0;  // that neither a pin nor a running request holds
  double stalled_s_ = 0;
  double standing_still_until_s_ = 0;
  std::uint64_t tick_ = 0;
  std::vector<float> slot_wait_;
  std::vector<float> load_wait_;
  EventOutcome outcome_;
};

Result<Unit> check_options(const Trace& trace, const EventOptions& options) {
  if (Result<Unit> ok = detail::check_times(trace); !ok) return ok;
  if (Result<Unit> ok = check_tier_options(options.tiers); !ok) return ok;
  if (options.tiers.tiers == "vllm")
    return fail(Errc::kInvalid, "vllm's own cache knows no leases: take lru/lru with loads that stall");
  if (options.max_num_seqs == 0) return fail(Errc::kInvalid, "max_num_seqs 0 serves nothing");
  for (const LoadChannel& way : {options.disk, options.slot})
    if (!(way.latency_s >= 0 && way.bytes_per_s > 0))
      return fail(Errc::kInvalid, "a load takes 0 seconds or more, at more than 0 bytes a second");
  return Unit{};
}

}  // namespace

Result<EventOutcome> simulate_events(const Trace& trace, const BatchStream& stream,
                                     const EventOptions& options, DecisionSink* sink) {
  if (Result<Unit> ok = check_options(trace, options); !ok) return fail(std::move(ok.error()));
  const Result<TierPolicies> policies = parse_tier_policies(options.tiers.tiers);
  if (!policies) return fail(policies.error());
  for (const PolicySpec& policy : {policies->device, policies->host})
    if (is_clairvoyant(policy))
      return fail(Errc::kInvalid,
                  fmt::format("policy {}: knows the order of arrivals, not that of starts", policy.name));
  return Server(trace, stream, options, sink).run(*policies);
}

Result<EventOutcome> simulate_events(const Trace& trace, const EventOptions& options, DecisionSink* sink) {
  const Result<BatchStream> stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  return simulate_events(trace, *stream, options, sink);
}

}  // namespace loracle
