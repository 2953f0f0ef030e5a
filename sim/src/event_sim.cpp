#include "loracle/sim/event_sim.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "tier_setup.hpp"

namespace loracle {
namespace {

/// A request that has its slots. The one that ends first comes first; of several, the earlier.
struct Running {
  double end_s = 0;  // on the clock that stands still while loads stall
  std::uint64_t request = 0;

  friend bool operator>(const Running& a, const Running& b) noexcept {
    return a.end_s != b.end_s ? a.end_s > b.end_s : a.request > b.request;
  }
};

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
        waiting_for_(stream.uses.rows, 0),
        there_s_(stream.uses.rows, 0) {}

  Result<EventOutcome> run(const TierPolicies& policies) {
    auto made = detail::make_tier_stack(stream_.uses, options_.tiers, policies, &watch_);
    if (!made) return fail(std::move(made.error()));
    stack_ = std::move(*made);
    free_slots_ = options_.tiers.max_loras - static_cast<std::uint32_t>(options_.tiers.pins.size());
    for (const Row pin : options_.tiers.pins) holders_[index_of(pin)] = 1;  // it never comes free
    watch_.loads.clear();
    slot_wait_.reserve(stream_.requests());
    load_wait_.reserve(stream_.requests());
    arrivals();
    while (!running_.empty()) end_first();
    return outcome();
  }

 private:
  void arrivals() {
    std::uint64_t batch = 0;
    for (std::uint64_t i = 0; i < trace_.requests; ++i) {
      if (trace_.batch(i).empty()) continue;
      origin_.push_back(i);
      const double now_s = trace_.arrival_s[i];
      while (!running_.empty() && end_of(running_.front()) <= now_s) end_first();
      arrive(batch++, now_s);
    }
  }

  [[nodiscard]] double end_of(const Running& request) const noexcept { return request.end_s + stalled_s_; }

  void arrive(std::uint64_t batch, double now_s) {
    ++outcome_.requests;
    const std::span<const Row> rows = stream_.batch(batch);
    const Verdict verdict = stack_->tiers->would_serve(rows);
    if (verdict == Verdict::kTooManyAdapters || verdict == Verdict::kTooLarge) {
      static_cast<void>(stack_->tiers->request(rows, Tick{tick_}));  // it counts and logs the refusal
      ++outcome_.refused;
      return;
    }
    if (can_start(rows)) {
      start(batch, std::max(now_s, standing_still_until_s_));
      return;
    }
    for (const Row row : rows) ++waiting_for_[index_of(row)];
    waiting_.push_back(batch);
    outcome_.waiting_max = std::max<std::uint64_t>(outcome_.waiting_max, waiting_.size());
  }

  [[nodiscard]] bool can_start(std::span<const Row> rows) noexcept {
    return running_.size() < options_.max_num_seqs && stack_->tiers->would_serve(rows) == Verdict::kServed;
  }

  void start(std::uint64_t batch, double now_s) {
    const std::span<const Row> rows = stream_.batch(batch);
    const Verdict verdict = stack_->tiers->request(rows, Tick{tick_});
    LORACLE_CHECK(verdict == Verdict::kServed);
    tick_ += rows.size();
    stack_->tiers->lease(rows);
    for (const Row row : rows)
      if (holders_[index_of(row)]++ == 0) --free_slots_;
    const double ready_s = load(rows, now_s);
    const std::uint64_t request = origin_[batch];
    const double waited_s = now_s - trace_.arrival_s[request];
    const double loading_s = ready_s - now_s;
    slot_wait_.push_back(static_cast<float>(waited_s));
    load_wait_.push_back(static_cast<float>(loading_s));
    if (waited_s > 0) ++outcome_.waited_for_slot;
    if (loading_s > 0) ++outcome_.waited_for_load;
    const float held_s = trace_.duration_s[request];
    running_.push_back({ready_s - stalled_s_ + (held_s > 0 ? static_cast<double>(held_s) : 0.0), batch});
    std::push_heap(running_.begin(), running_.end(), std::greater<>());
  }

  /// Brings what the hierarchy has just decided to bring. When all of the batch is there.
  double load(std::span<const Row> rows, double now_s) {
    double ready_s = now_s;
    if (options_.loads_stall) {
      for (const Decision& decision : watch_.loads) {
        const Bytes size = stack_->table.size[index_of(decision.row)];
        ready_s += (decision.to == Place::kDevice ? slot_ : disk_).alone(size);
      }
      stalled_s_ += ready_s - now_s;
      standing_still_until_s_ = ready_s;
      watch_.loads.clear();
      return ready_s;
    }
    for (const Decision& decision : watch_.loads) {  // into host memory before into a slot
      double& there_s = there_s_[index_of(decision.row)];
      const Bytes size = stack_->table.size[index_of(decision.row)];
      if (decision.to != Place::kDevice) {
        there_s = disk_.load(now_s, now_s, size);
      } else {
        there_s = slot_.load(now_s, std::max(now_s, there_s), size);
        loaded_now_.push_back(decision.row);
      }
    }
    watch_.loads.clear();
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
    const Running ended = running_.front();
    const double now_s = end_of(ended);
    std::pop_heap(running_.begin(), running_.end(), std::greater<>());
    running_.pop_back();
    const std::span<const Row> rows = stream_.batch(ended.request);
    stack_->tiers->give_back(rows);
    for (const Row row : rows)
      if (--holders_[index_of(row)] == 0) ++free_slots_;
    if (!waiting_.empty()) start_waiting(std::max(now_s, standing_still_until_s_));
  }

  /// Those that can start now, in the order of arrival. Most often the first takes the one slot that came
  /// free; then only those that want the same adapter are looked for.
  void start_waiting(double now_s) {
    std::uint64_t followers = 0;  // that wait for adapters which were idle until just now
    bool only_single = stream_.batch_max <= 1;
    const bool is_seat_free = running_.size() + 1 < options_.max_num_seqs;
    for (auto place = waiting_.begin(); place != waiting_.end();) {
      if (running_.size() >= options_.max_num_seqs) return;
      if (only_single && is_seat_free && free_slots_ == 0 && followers == 0) return;
      const std::uint64_t batch = *place;
      const std::span<const Row> rows = stream_.batch(batch);
      const bool in_use = holders_[index_of(rows.front())] > 0;
      if ((only_single && free_slots_ == 0 && !in_use) || !can_start(rows)) {
        ++place;
        continue;
      }
      for (const Row row : rows) --waiting_for_[index_of(row)];
      if (in_use && followers > 0)
        --followers;
      else
        for (const Row row : rows) followers += waiting_for_[index_of(row)];
      start(batch, std::max(now_s, standing_still_until_s_));
      place = waiting_.erase(place);
    }
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
    return std::move(outcome_);
  }

  const Trace& trace_;
  const BatchStream& stream_;
  const EventOptions& options_;
  LoadWatch watch_;
  Channel disk_;
  Channel slot_;
  std::unique_ptr<detail::TierStack> stack_;
  std::vector<std::uint64_t> origin_;       // [batches so far] the trace's request
  std::vector<std::uint32_t> holders_;      // [rows] running requests, and one if it is pinned
  std::vector<std::uint32_t> waiting_for_;  // [rows] waiting requests
  std::vector<double> there_s_;             // [rows] when its last load is done
  std::vector<Row> loaded_now_;             // scratch
  std::vector<Running> running_;            // a heap; `request` is a batch
  std::deque<std::uint64_t> waiting_;       // batches, in the order of arrival
  std::uint32_t free_slots_ = 0;            // that no running request holds
  double stalled_s_ = 0;
  double standing_still_until_s_ = 0;
  std::uint64_t tick_ = 0;
  std::vector<float> slot_wait_;
  std::vector<float> load_wait_;
  EventOutcome outcome_;
};

Result<Unit> check_options(const Trace& trace, const EventOptions& options) {
  if (trace.arrival_s.empty() || trace.duration_s.empty())
    return fail(Errc::kInvalid, fmt::format("{}: says not when requests arrive and how long they hold their "
                                            "adapters: give arrival_s and duration_s",
                                            trace.source));
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

Result<EventOutcome> simulate_events(const Trace& trace, const EventOptions& options, DecisionSink* sink) {
  if (Result<Unit> ok = check_options(trace, options); !ok) return fail(std::move(ok.error()));
  const Result<TierPolicies> policies = parse_tier_policies(options.tiers.tiers);
  if (!policies) return fail(policies.error());
  for (const PolicySpec& policy : {policies->device, policies->host})
    if (is_clairvoyant(policy))
      return fail(Errc::kInvalid,
                  fmt::format("policy {}: knows the order of arrivals, not that of starts", policy.name));
  const Result<BatchStream> stream = make_batch_stream(trace);
  if (!stream) return fail(stream.error());
  return Server(trace, *stream, options, sink).run(*policies);
}

}  // namespace loracle
