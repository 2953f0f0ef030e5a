#include "batch_replica.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "loracle/core/check.hpp"

namespace loracle::detail {
namespace {

constexpr double kNeverS = std::numeric_limits<double>::infinity();

void add(Moved& moved, Bytes size) noexcept {
  ++moved.loads;
  moved.bytes += size;
}

}  // namespace

BatchReplica::BatchReplica(const BatchScene& scene, BatchRecord& record, DecisionSink* sink)
    : scene_(&scene),
      options_(scene.options),
      record_(&record),
      watch_(sink),
      asked_(scene.stream.uses.rows, 0),
      batch_users_(scene.stream.uses.rows, 0) {
  waiting_.reserve(scene.classes);
  for (std::uint32_t i = 0; i < scene.classes; ++i)
    waiting_.emplace_back(scene.stream.uses.rows, 0, scene.stream.batch_max);
}

Result<std::unique_ptr<BatchReplica>> BatchReplica::make(const BatchScene& scene, BatchRecord& record,
                                                         DecisionSink* sink) {
  std::unique_ptr<BatchReplica> replica(new BatchReplica(scene, record, sink));
  if (Result<Unit> ok = replica->open(); !ok) return fail(std::move(ok.error()));
  return replica;
}

Result<Unit> BatchReplica::open() {
  auto made = make_tier_stack(scene_->stream.uses, options_->tiers, scene_->policies, &watch_);
  if (!made) return fail(std::move(made.error()));
  stack_ = std::move(*made);
  const std::uint32_t rows = scene_->stream.uses.rows;
  holders_.emplace(options_->tiers, rows, stack_->table);
  loading_.emplace(options_->service.disk, options_->service.slot, rows, stack_->table);
  for (const Row pin : options_->tiers.pins)
    if (holders_->hold_forever(pin))
      for (WaitingLanes& lanes : waiting_) lanes.taken(pin);
  watch_.loads.clear();
  return Unit{};
}

void BatchReplica::advance(double until_s) {
  while (due(until_s)) {
    if (in_step_)
      end_step();
    else
      begin_step();
  }
}

void BatchReplica::arrive(std::uint64_t request) {
  const double now_s = scene_->trace->arrival_s[request];
  ++outcome_.requests;
  const std::span<const Row> rows = scene_->rows_of(request);
  const Verdict verdict = stack_->tiers->would_serve(rows);
  const bool can_ever_start =
      verdict == Verdict::kServed || (verdict == Verdict::kAllHeld && holders_->fits_beside_pins(rows));
  if (!can_ever_start) {
    const Verdict refusal = stack_->tiers->request(rows, Tick{tick_});  // it counts and logs the refusal
    LORACLE_CHECK(refusal != Verdict::kServed);
    ++outcome_.refused;
    return;
  }
  waiting_[scene_->class_of(request)].join(mine_.size(), rows);
  mine_.push_back(static_cast<std::uint32_t>(request));
  for (const Row row : rows) ++asked_[index_of(row)];
  ++waiting_count_;
  ++outstanding_;
  if (options_->prefetch) prefetch(request, now_s);
  if (in_step_)
    cut_stretch(now_s);
  else
    next_s_ = std::min(next_s_, now_s);
}

void BatchReplica::prefetch(std::uint64_t request, double now_s) {
  const std::span<const Row> rows = scene_->rows_of(request);
  if (stack_->tiers->bring(rows, 1, Tick{tick_}) != Verdict::kServed) return;  // no room now
  for (const Decision& load : watch_.loads) add(outcome_.prefetched, stack_->table.size_of(load.row));
  count_loads(request);
  static_cast<void>(loading_->beside(watch_.loads, {}, now_s));
  watch_.loads.clear();
}

void BatchReplica::begin_step() {
  begin_s_ = next_s_;
  stalled_until_s_ = begin_s_;
  take_ready();
  budget_ = options_->max_num_batched_tokens - static_cast<std::uint32_t>(decoding_.size());
  prefill_tokens_ = 0;
  prefilling_ = 0;
  admitted_now_.clear();
  for (Prefill& prefill : prefills_) {
    if (budget_ == 0) break;
    give_tokens(prefill);
  }
  if (waiting_count_ > 0) admit();
  look_at_newcomers();
  if (decoding_.empty() && prefilling_ == 0) {
    LORACLE_CHECK(waiting_count_ == 0 || !loads_.empty());
    next_s_ = loads_.empty() ? kNeverS : loads_.first().end_s;
    return;
  }
  stall_s_ = stalled_until_s_ - begin_s_;
  if (stall_s_ > 0) wait_for_stall(stall_s_);
  each_s_ = stall_s_ + step_s();
  steps_ = steps_alike();
  step_end_s_ = begin_s_ + static_cast<double>(steps_) * each_s_;
  in_step_ = true;
}

void BatchReplica::take_ready() {
  while (!loads_.empty() && loads_.first().end_s <= begin_s_) {
    const auto request = static_cast<std::uint32_t>(loads_.end_first().request);
    prefills_.push_back({request, scene_->input_of(mine_[request])});
  }
}

/// REQUIRES: it is the first that has none yet, and some are left.
void BatchReplica::give_tokens(Prefill& prefill) {
  prefill.given = std::min(prefill.left, budget_);
  budget_ -= prefill.given;
  prefill_tokens_ += prefill.given;
  ++prefilling_;
  enter_batch(prefill.request);
}

/// One that starts takes as many free slots as it can spare another, or more, so that none that was passed
/// over can start after it.
void BatchReplica::admit() {
  const bool bytes_decide = holders_->bytes_decide();
  while (budget_ > 0 && seated_ < options_->max_num_seqs) {
    std::uint32_t request = 0;
    WaitingLanes* const lanes = next_to_admit(request);
    if (lanes == nullptr) break;
    if (bytes_decide && stack_->tiers->would_serve(rows_of(request)) != Verdict::kServed) {
      lanes->put_aside();
      continue;
    }
    lanes->leave();
    start(request);
  }
  for (WaitingLanes& lanes : waiting_) lanes.restore();
}

/// nullptr: none of those who wait can have its slots.
WaitingLanes* BatchReplica::next_to_admit(std::uint32_t& request) noexcept {
  for (WaitingLanes& lanes : waiting_) {
    const std::uint64_t first = lanes.empty() ? WaitingLanes::kNone : lanes.first(holders_->free_slots());
    if (first == WaitingLanes::kNone) continue;
    request = static_cast<std::uint32_t>(first);
    return &lanes;
  }
  return nullptr;
}

void BatchReplica::start(std::uint32_t request) {
  const std::span<const Row> rows = rows_of(request);
  const std::uint64_t in_trace = mine_[request];
  const Verdict verdict = stack_->tiers->request(rows, Tick{tick_});
  LORACLE_CHECK(verdict == Verdict::kServed);
  tick_ += rows.size();
  stack_->tiers->lease(rows);
  for (const Row row : rows)
    if (holders_->hold(row))
      for (WaitingLanes& lanes : waiting_) lanes.taken(row);
  --waiting_count_;
  ++seated_;
  admitted_now_.push_back(request);
  record_->slot_wait_s[in_trace] = static_cast<float>(begin_s_ - arrival_of(request));
  count_loads(in_trace);
  double ready_s = begin_s_;
  if (options_->loads_stall)
    stalled_until_s_ = loading_->standing_still(watch_.loads, stalled_until_s_);
  else
    ready_s = loading_->beside(watch_.loads, rows, begin_s_);
  watch_.loads.clear();
  record_->load_wait_s[in_trace] = static_cast<float>(ready_s - begin_s_);
  if (ready_s > begin_s_) {
    ++outcome_.waited_for_load;
    loads_.begin({ready_s, request});
    return;
  }
  prefills_.push_back({request, scene_->input_of(in_trace)});
  give_tokens(prefills_.back());
}

/// The step waits for the loads of all whom it admits.
void BatchReplica::wait_for_stall(double stall_s) {
  for (const std::uint32_t request : admitted_now_)
    record_->load_wait_s[mine_[request]] = static_cast<float>(stall_s);
  outcome_.waited_for_load += admitted_now_.size();
}

/// Counts those who could not be admitted when the scheduler first saw them, by what they lacked.
void BatchReplica::look_at_newcomers() {
  outcome_.waiting_max = std::max(outcome_.waiting_max, waiting_count_);
  const auto all = static_cast<std::uint32_t>(mine_.size());
  for (; newcomers_from_ < all; ++newcomers_from_) {
    if (record_->slot_wait_s[mine_[newcomers_from_]] >= 0) continue;
    const bool has_slots = stack_->tiers->would_serve(rows_of(newcomers_from_)) == Verdict::kServed;
    ++(has_slots ? outcome_.waited_for_seat : outcome_.waited_for_slot);
  }
}

double BatchReplica::step_s() const noexcept {
  const StepTimes& times = options_->service.step;
  const std::size_t requests = decoding_.size() + prefilling_;
  return times.base_s + times.prefill_token_s * static_cast<double>(prefill_tokens_) +
         times.sequence_s * static_cast<double>(requests) +
         times.adapter_s * static_cast<double>(batch_adapters_) +
         times.adapter_rank_s * static_cast<double>(batch_ranks_);
}

/// How many steps from here are as this one, if nobody arrives.
std::uint64_t BatchReplica::steps_alike() const noexcept {
  if (prefilling_ > 0 || stall_s_ > 0) return 1;
  const std::uint64_t until_end = static_cast<std::uint64_t>(decoding_.first().end_s) - step_;
  return loads_.empty() ? until_end : std::min(until_end, steps_until(loads_.first().end_s));
}

/// Until the end of the first step that ends then or later.
std::uint64_t BatchReplica::steps_until(double until_s) const noexcept {
  const auto end_of = [this](std::uint64_t steps) { return begin_s_ + static_cast<double>(steps) * each_s_; };
  const double estimate = std::clamp(std::ceil((until_s - begin_s_) / each_s_), 1.0, 0x1p53);
  auto steps = static_cast<std::uint64_t>(estimate);
  while (steps > 1 && end_of(steps - 1) >= until_s) --steps;
  while (end_of(steps) < until_s && steps < std::uint64_t{1} << 53U) ++steps;
  return steps;
}

void BatchReplica::cut_stretch(double until_s) noexcept {
  if (steps_ == 1) return;
  steps_ = std::min(steps_, steps_until(until_s));
  step_end_s_ = begin_s_ + static_cast<double>(steps_) * each_s_;
}

void BatchReplica::end_step() {
  step_ += steps_;
  const double spent_s = step_end_s_ - begin_s_;
  const std::uint64_t tokens = decoding_.size() * steps_;
  outcome_.steps += steps_;
  outcome_.busy_s += spent_s;
  outcome_.stalled_s += stall_s_;
  outcome_.prefill_tokens += prefill_tokens_;
  outcome_.output_tokens += tokens;
  running_s_ += spent_s * static_cast<double>(decoding_.size() + prefilling_);
  adapters_s_ += spent_s * static_cast<double>(batch_adapters_);
  if (tokens > 0) {
    if (gaps_.empty() || gaps_.back().gap_s != each_s_) gaps_.push_back({each_s_, 0});
    gaps_.back().tokens += tokens;
    if (stall_s_ > 0) stalled_tokens_ += tokens;
  }
  in_step_ = false;
  next_s_ = end_s_ = step_end_s_;
  while (!decoding_.empty() && static_cast<std::uint64_t>(decoding_.first().end_s) == step_)
    end(static_cast<std::uint32_t>(decoding_.end_first().request));
  end_prefills();
}

/// Of those with tokens in this step all are through, but perhaps the last.
void BatchReplica::end_prefills() {
  for (; prefilling_ > 0; --prefilling_) {
    Prefill& prefill = prefills_.front();
    const std::uint32_t request = prefill.request;
    prefill.left -= prefill.given;
    if (prefill.left > 0) {
      LORACLE_DCHECK(prefilling_ == 1);
      leave_batch(request);
      prefilling_ = 0;
      return;
    }
    prefills_.pop_front();
    ++outcome_.output_tokens;
    record_->first_token_s[mine_[request]] = static_cast<float>(step_end_s_ - arrival_of(request));
    const std::uint32_t more = scene_->output_of(mine_[request]) - 1;
    if (more == 0)
      end(request);
    else
      decoding_.begin({static_cast<double>(step_ + more), request});
  }
}

void BatchReplica::end(std::uint32_t request) {
  const std::span<const Row> rows = rows_of(request);
  record_->latency_s[mine_[request]] = static_cast<float>(step_end_s_ - arrival_of(request));
  leave_batch(request);
  stack_->tiers->give_back(rows);
  for (const Row row : rows) {
    --asked_[index_of(row)];
    if (holders_->let_go(row))
      for (WaitingLanes& lanes : waiting_) lanes.freed(row);
  }
  --seated_;
  --outstanding_;
}

void BatchReplica::count_loads(std::uint64_t request) {
  const std::uint32_t tenant = scene_->tenant_of(request);
  for (const Decision& load : watch_.loads) {
    const Ways ways = ways_of(load);
    const Bytes size = stack_->table.size_of(load.row);
    if (ways.disk) {
      add(outcome_.disk, size);
      add(record_->row_disk[index_of(load.row)], size);
      if (tenant != kNoTenant) add(record_->tenant_disk[tenant], size);
    }
    if (ways.slot) {
      add(outcome_.slot, size);
      add(record_->row_slot[index_of(load.row)], size);
      if (tenant != kNoTenant) add(record_->tenant_slot[tenant], size);
    }
  }
}

void BatchReplica::enter_batch(std::uint32_t request) noexcept {
  for (const Row row : rows_of(request)) {
    if (batch_users_[index_of(row)]++ > 0) continue;
    ++batch_adapters_;
    batch_ranks_ += scene_->rank_of(row);
  }
}

void BatchReplica::leave_batch(std::uint32_t request) noexcept {
  for (const Row row : rows_of(request)) {
    if (--batch_users_[index_of(row)] > 0) continue;
    --batch_adapters_;
    batch_ranks_ -= scene_->rank_of(row);
  }
}

ReplicaOutcome BatchReplica::outcome() const {
  LORACLE_CHECK(outstanding_ == 0);
  ReplicaOutcome outcome = outcome_;
  outcome.shared_loads = loading_->shared();
  outcome.gaps.stalled = stalled_tokens_;
  outcome.counts = since(stack_->tiers->counts(), stack_->pinning);
  outcome.decision_log_hash = stack_->log.hash();
  return outcome;
}

}  // namespace loracle::detail
