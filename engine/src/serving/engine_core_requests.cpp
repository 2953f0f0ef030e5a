/// The stages of a request.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loracle/core/check.hpp"
#include "serving/engine_core.hpp"

namespace loracle {
namespace {

using Stage = PendingRequest::Stage;

bool is_abandoned(const PendingRequest& request) noexcept { return request.abandoned && *request.abandoned; }

Error abandoned_error() { return {Errc::kCancelled, "nobody waits for this request any more", 0}; }

}  // namespace

/// Everything is on the device already: no stage is needed, and nothing is allocated.
bool EngineCore::serve_resident(std::span<const Row> rows, Lease& lease) noexcept {
  for (const Row row : rows)
    if (!ready_.contains(row)) return false;
  if (!room_.empty()) {
    if (is_front_impatient()) return false;
    ++passes_by_newest_;
  }
  const Verdict verdict = tiers_.request(rows, Tick{tick_});
  tick_ += rows.size();
  LORACLE_CHECK(verdict == Verdict::kServed);
  lease = lease_of(rows);
  return true;
}

Lease EngineCore::lease_of(std::span<const Row> rows) {
  Lease lease;
  lease.core_ = this;
  lease.count_ = static_cast<std::uint32_t>(rows.size());
  LeasedAdapter* to = lease.few_;
  if (rows.size() > Lease::kInline) {
    lease.many_ = std::make_unique<LeasedAdapter[]>(rows.size());
    to = lease.many_.get();
  }
  for (const Row row : rows) {
    const AdapterSource& source = rows_.source(row);
    *to++ = {source.id, tiers_.tier(kDeviceLevel).slot_of(row), source.rank, row, !source.uri.empty()};
    ++rows_.uses(row);
  }
  lease_rows(rows);
  ++leases_total_;
  return lease;
}

PendingPtr EngineCore::begin(Purpose purpose, std::size_t level, std::vector<Row> rows, AcquireCallback done,
                             std::shared_ptr<const std::atomic<bool>> abandoned) {
  auto request = std::make_shared<PendingRequest>();
  request->abandoned = std::move(abandoned);
  request->purpose = purpose;
  request->level = level;
  request->rows = std::move(rows);
  request->done = std::move(done);
  request->begun_ns = env_.clock->now_ns();
  request->number = ++request_number_;
  ++waiting_;
  if (waiting_ > requests_waiting_max_) {
    finish(request,
           fail(Errc::kBusy, fmt::format("{} requests wait already (requests_waiting_max): try again",
                                         requests_waiting_max_)));
    return request;
  }
  start(request);
  pump_loads();
  return request;
}

Verdict EngineCore::ask(const PendingRequest& request) noexcept {
  return tiers_.would_serve(request.rows, request.level);
}

/// REQUIRES: somebody waits for room.
bool EngineCore::is_front_impatient() const noexcept {
  return room_.front()->passed + passes_by_newest_ >= passes_max_;
}

/// True if an older request has been passed often enough.
bool EngineCore::must_queue(const PendingRequest& request) const noexcept {
  return !room_.empty() && is_front_impatient() && room_.front()->number < request.number;
}

/// A request moves in: those that came before it and still wait for room have been passed once more.
void EngineCore::count_pass(std::uint64_t number) noexcept {
  if (room_.empty()) return;
  if (room_.back()->number < number) {
    ++passes_by_newest_;
    return;
  }
  for (const PendingPtr& request : room_)
    if (request->number < number) ++request->passed;
}

void EngineCore::start(const PendingPtr& request) {
  const Verdict verdict = ask(*request);
  if (verdict == Verdict::kTooManyAdapters || verdict == Verdict::kTooLarge) {
    refuse(request, verdict);
    return;
  }
  for (const Row row : request->rows) ++needed_[index_of(row)];
  request->counted = true;
  advance(request);
}

/// Loads what is missing, or moves in, or waits for room. Nothing is held meanwhile: a row that was resident
/// may have been evicted since, and is then loaded too. What was read for the request stays staged, so it
/// lacks less each time.
void EngineCore::advance(const PendingPtr& request) {
  request->stage = Stage::kLoading;
  request->outstanding = 0;
  for (const Row row : request->rows) {
    if (staged_.contains(row) || tiers_.tier(kHostLevel).contains(row)) continue;
    if (loading_.contains(row)) ++stats_.loads_shared;
    require(row, /*urgent=*/true);
    waiters_[index_of(row)].push_back(request);
    ++request->outstanding;
  }
  if (request->outstanding != 0) return;
  if (is_abandoned(*request)) return finish(request, fail(abandoned_error()));
  const Verdict verdict = ask(*request);
  const bool has_shrunk = verdict == Verdict::kTooManyAdapters || verdict == Verdict::kTooLarge;  // a tier
  const bool is_pinned_shut = verdict == Verdict::kAllHeld && leases_total_ == 0 && copying_.empty();
  if (has_shrunk || is_pinned_shut) {
    refuse(request, verdict);  // waiting would not help
  } else if (verdict == Verdict::kServed && !must_queue(*request)) {
    if (!room_.empty()) count_pass(request->number);
    move_in(request);
  } else {
    wait_for_room(request);
  }
}

void EngineCore::refuse(const PendingPtr& request, Verdict verdict) {
  if (request->purpose == Purpose::kServe) {
    static_cast<void>(tiers_.request(request->rows, Tick{tick_}));  // it logs and counts the refusal
    tick_ += request->rows.size();
  }
  finish(request, fail(refusal(verdict, *request)));
}

/// The request wants no rows any more, or has them.
void EngineCore::leave_loading(PendingRequest& request) {
  if (!std::exchange(request.counted, false)) return;
  for (const Row row : request.rows) --needed_[index_of(row)];
}

void EngineCore::wait_for_room(const PendingPtr& request) {
  request->stage = Stage::kRoom;
  // The oldest first, also if it was here before.
  const auto later = std::find_if(room_.begin(), room_.end(), [&request](const PendingPtr& other) {
    return other->number > request->number;
  });
  request->place = room_.insert(later, request);
  request->passed -= passes_by_newest_;  // wraps, and back again when they are added
}

void EngineCore::leave_room(PendingRequest& request) {
  request.passed += passes_by_newest_;
  room_.erase(request.place);
}

void EngineCore::move_in(const PendingPtr& request) {
  leave_loading(*request);
  for (const Row row : request->rows) wanted_in_[index_of(row)] = 0;  // what a prefetch wanted is done now
  Verdict verdict = Verdict::kServed;
  switch (request->purpose) {
    case Purpose::kServe:
      verdict = tiers_.request(request->rows, Tick{tick_});
      tick_ += request->rows.size();
      break;
    case Purpose::kPin:  // `finish` pins it, when it is there
      if (request->level == kDeviceLevel) {
        verdict = tiers_.request(request->rows, Tick{tick_});
        break;
      }
      [[fallthrough]];
    case Purpose::kBring:
      verdict = tiers_.bring(request->rows, request->level, Tick{tick_});
      break;
  }
  LORACLE_CHECK(verdict == Verdict::kServed);
  if (request->purpose == Purpose::kServe) lease_rows(request->rows);
  carry_out();
  request->stage = Stage::kCopying;
  request->outstanding = 0;
  if (request->level == kDeviceLevel) {
    for (const Row row : request->rows) {
      if (ready_.contains(row)) continue;
      waiters_[index_of(row)].push_back(request);
      ++request->outstanding;
    }
  }
  if (request->outstanding == 0) finish(request, Lease());
}

/// `result` holds an error, or an empty lease that is filled here.
void EngineCore::finish(const PendingPtr& request, Result<Lease> result) {
  LORACLE_CHECK(request->stage != Stage::kDone);
  if (request->purpose == Purpose::kServe) {
    const bool moved_in = request->stage == Stage::kCopying;
    if (result) {
      result = lease_of(request->rows);
    } else {
      ++stats_.requests_failed;
    }
    // Those that were given up too: they have waited longest.
    if (result || result.error().code == Errc::kDeadline)
      stats_.acquire_latency.add(env_.clock->now_ns() - request->begun_ns);
    if (moved_in) give_back(request->rows);  // the lease has taken over
  }
  if (request->purpose == Purpose::kPin && result) tiers_.keep(request->rows.front(), request->level);
  leave_loading(*request);
  request->stage = Stage::kDone;
  --waiting_;
  for (const Row row : request->rows) settle_staged(row);
  if (request->done) {
    // A std::function must be copyable, and a lease is not.
    auto told = std::make_shared<Result<Lease>>(std::move(result));
    after_.push_back([done = std::move(request->done), told] { done(std::move(*told)); });
  } else {
    request->result = std::move(result);
    after_.push_back([request] { request->changed.notify_all(); });
  }
}

void EngineCore::cancel(const PendingPtr& request, Error error) {
  const Stage stage = request->stage;
  if (stage == Stage::kRoom) {
    leave_room(*request);
    if (request->purpose == Purpose::kServe && ask(*request) == Verdict::kAllHeld) {
      static_cast<void>(
          tiers_.request(request->rows, Tick{tick_}));  // now it is a refusal, and logged as one
      tick_ += request->rows.size();
    }
  } else {
    for (const Row row : request->rows) std::erase(waiters_[index_of(row)], request);
  }
  finish(request, fail(std::move(error)));
  for (const Row row : request->rows) bury_if_unused(row);
  wake_room();
  told_idle();
}

/// Those of tier `level` and of the tiers above it that still wait for the row.
void EngineCore::cancel_pins(Row row, std::size_t level) {
  std::vector<PendingPtr> waiting = waiters_[index_of(row)];
  waiting.insert(waiting.end(), room_.begin(), room_.end());
  for (const PendingPtr& request : waiting) {
    if (request->purpose != Purpose::kPin || request->level > level || request->rows.front() != row) continue;
    if (request->stage == Stage::kDone) continue;  // ended by what ended before it
    cancel(request,
           {Errc::kCancelled, fmt::format("'{}' was unpinned before it was there", rows_.name(row)), 0});
  }
}

Error EngineCore::refusal(Verdict verdict, const PendingRequest& request) const {
  const std::string& first = rows_.name(request.rows.front());
  switch (verdict) {
    case Verdict::kTooManyAdapters:
      return {Errc::kTooLarge,
              fmt::format("a request for {} adapters ('{}', ...) exceeds the {} slots: raise max_loras",
                          request.rows.size(), first, max_loras_),
              0};
    case Verdict::kTooLarge:
      return {Errc::kTooLarge,
              fmt::format("'{}'{}: larger than a tier even when it is empty: raise gpu_memory or cpu_memory",
                          first, request.rows.size() > 1 ? " and the others of its request together" : ""),
              0};
    case Verdict::kAllHeld:
    case Verdict::kServed:
      break;
  }
  return {Errc::kAllPinned,
          fmt::format("'{}': pinned adapters leave too little room: unpin some, or raise max_loras or "
                      "max_cpu_loras",
                      first),
          0};
}

/// Tries the requests that wait for room again, in their order. Who comes back waits for the next time.
void EngineCore::wake_room() {
  const std::vector<PendingPtr> round(room_.begin(), room_.end());
  for (const PendingPtr& request : round) {
    if (request->stage != Stage::kRoom) continue;  // cancelled by what happened before it in this round
    if (is_abandoned(*request)) {
      leave_room(*request);
      finish(request, fail(abandoned_error()));
      for (const Row row : request->rows) bury_if_unused(row);
      continue;
    }
    if (must_queue(*request)) break;
    const bool only_pins = leases_total_ == 0 && copying_.empty();
    if (ask(*request) == Verdict::kAllHeld && !only_pins) continue;
    leave_room(*request);
    advance(request);
  }
  pump_loads();
}

void EngineCore::submit_later(std::function<void()> task) {
  after_.push_back([this, task = std::move(task)]() mutable { env_.workers->submit(std::move(task)); });
}

/// Runs callbacks, and wakes threads, without the lock: who is woken on a busy machine may run in place of
/// the one who wakes it, and all others would wait for that one's lock. Whoever shuts down waits for this:
/// the core must be there when callbacks return.
void EngineCore::flush(Lock& lock) {
  if (after_.empty()) return;
  ++telling_;
  while (!after_.empty()) {
    std::vector<std::function<void()>> tasks;
    tasks.swap(after_);
    lock.unlock();
    for (const std::function<void()>& task : tasks) task();
    tasks.clear();
    lock.lock();
  }
  --telling_;
  told_idle();
}

void EngineCore::told_idle() {
  if (stopping_) idle_.notify_all();
}

}  // namespace loracle
