/// What happens to rows: read, moved in, copied to slots, dropped.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "loracle/core/check.hpp"
#include "serving/engine_core.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kNobody = std::numeric_limits<std::uint64_t>::max();

}  // namespace

void EngineCore::lease_rows(std::span<const Row> rows) noexcept {
  tiers_.lease(rows);
  for (const Row row : rows) ++leases_[index_of(row)];
}

void EngineCore::give_back(std::span<const Row> rows) noexcept {
  tiers_.give_back(rows);
  for (const Row row : rows) --leases_[index_of(row)];
}

/// Queues a row to be read, unless it is queued or read already; an urgent one goes before all prefetches.
void EngineCore::require(Row row, bool urgent) {
  if (!loading_.contains(row)) {
    if (staged_.contains(row)) return;
    loading_.insert(row);
    (urgent ? urgent_ : background_).push_back(row);
    return;
  }
  if (!urgent || in_flight_.contains(row)) return;
  const auto waits = std::find(background_.begin(), background_.end(), row);
  if (waits == background_.end()) return;
  background_.erase(waits);
  urgent_.push_back(row);
}

void EngineCore::pump_loads() {
  while (in_flight_.size() < loads_in_flight_max_) {
    std::deque<Row>& queue = urgent_.empty() ? background_ : urgent_;
    if (queue.empty()) return;
    const Row row = queue.front();
    if (!arena_.allocate(row, rows_.source(row).bytes) && !make_staging_room(row)) {
      if (&queue == &background_ || !waiters_[index_of(row)].empty()) return;
      queue.pop_front();  // who waited for it has gone: it must not be in the way of others
      if (wanted_in_[index_of(row)] != 0) {
        background_.push_back(row);
      } else {
        loading_.erase(row);
        bury_if_unused(row);
      }
      continue;
    }
    queue.pop_front();
    in_flight_.insert(row);
    const std::span<std::byte> image = arena_.bytes(row);
    submit_later([this, row, image, source = rows_.source(row), name = rows_.name(row)] {
      const std::uint64_t begun_ns = env_.clock->now_ns();
      finish_load(row, read_(name, source, image), begun_ns);
    });
  }
}

void EngineCore::finish_load(Row row, Result<std::shared_ptr<const ImageManifest>> result,
                             std::uint64_t begun_ns) {
  Lock lock(mutex_);
  in_flight_.erase(row);
  loading_.erase(row);
  arena_.release(row);
  if (!result) {
    ++stats_.loads_failed;
    arena_.free(row);
    wanted_in_[index_of(row)] = 0;
    fail_waiters(row, result.error());
    bury_if_unused(row);
  } else {
    ++stats_.loads;
    stats_.loaded_bytes += rows_.source(row).bytes;
    stats_.load_latency.add(env_.clock->now_ns() - begun_ns);
    staged_.insert(row);
    manifests_[index_of(row)] = std::move(*result);
    const std::vector<PendingPtr> waiting = std::exchange(waiters_[index_of(row)], {});
    for (const PendingPtr& request : waiting)
      if (--request->outstanding == 0) advance(request);
    settle_staged(row);
  }
  pump_loads();
  flush(lock);
  told_idle();
}

bool EngineCore::fits_without_eviction(Row row) const noexcept {
  const Tier<AnyPolicy>& host = tiers_.tier(kHostLevel);
  const Capacity capacity = host.capacity();
  return host.used().entries < capacity.entries &&
         rows_.source(row).bytes <= capacity.bytes.value - std::min(capacity.bytes, host.used().bytes).value;
}

/// A staged row that no request wants goes where a prefetch wanted it, at the cost of others. Without one, it
/// was read for a request that failed: it stays in host memory if it is in nobody's way.
void EngineCore::settle_staged(Row row) {
  if (needed_[index_of(row)] != 0) return;
  if (!staged_.contains(row) && !tiers_.tier(kHostLevel).contains(row)) return;  // it is still to come
  const std::uint8_t wanted = std::exchange(wanted_in_[index_of(row)], std::uint8_t{0});
  if (doomed_.contains(row)) {
    if (staged_.contains(row)) drop_staged(row);
    bury_if_unused(row);
    return;
  }
  if (wanted == 1 && !tiers_.tier(kDeviceLevel).contains(row) &&
      tiers_.bring({&row, 1}, kDeviceLevel, Tick{tick_}) == Verdict::kServed) {
    carry_out();
    return;
  }
  if (!staged_.contains(row)) return;
  const bool may_stay = wanted != 0 || fits_without_eviction(row);
  if (may_stay && tiers_.bring({&row, 1}, kHostLevel, Tick{tick_}) == Verdict::kServed) {
    carry_out();
  } else {
    if (wanted != 0) ++stats_.prefetches_dropped;
    drop_staged(row);
  }
}

void EngineCore::drop_staged(Row row) {
  staged_.erase(row);
  arena_.free(row);
  manifests_[index_of(row)] = nullptr;
}

/// There is no room to read `row` into. While something is read or copied, that will make some, and a
/// prefetch has time. Else requests that wait for each other fill the staging memory: what the newest of them
/// wants is dropped, and so on, until there is room; it is read again in its turn. The arena holds one whole
/// batch beside the residents, so the reader-to-be can always go on.
bool EngineCore::make_staging_room(Row row) {
  if (!in_flight_.empty() || !copying_.empty() || waiters_[index_of(row)].empty()) return false;
  std::map<Row, std::uint64_t> wanted_by;  // the oldest request that wants it
  const auto note = [&wanted_by](const PendingRequest& request) {
    for (const Row wanted : request.rows) {
      const auto [at, is_first] = wanted_by.emplace(wanted, request.number);
      if (!is_first) at->second = std::min(at->second, request.number);
    }
  };
  for (const PendingPtr& request : room_) note(*request);
  for (const Row loading : loading_.rows())
    for (const PendingPtr& request : waiters_[index_of(loading)]) note(*request);
  const std::vector<Row>& keep = waiters_[index_of(row)].front()->rows;
  std::vector<std::pair<std::uint64_t, Row>> staged;
  for (const Row other : staged_.rows()) {
    if (std::find(keep.begin(), keep.end(), other) != keep.end()) continue;
    const auto wanted = wanted_by.find(other);
    staged.emplace_back(wanted == wanted_by.end() ? kNobody : wanted->second, other);
  }
  std::sort(staged.begin(), staged.end(), std::greater<>());
  for (const auto& [number, other] : staged) {
    drop_staged(other);
    if (arena_.allocate(row, rows_.source(row).bytes)) return true;
  }
  return false;
}

/// Does what the hierarchy has just decided.
void EngineCore::carry_out() {
  for (std::size_t i = 0; i < actions_.made.size(); ++i) {
    const Decision action = actions_.made[i];
    const bool into = action.action == Action::kLoad;
    const Place place = into ? action.to : action.from;
    if (place == Place::kHost && into) {
      LORACLE_CHECK(staged_.contains(action.row));
      staged_.erase(action.row);
    } else if (place == Place::kHost) {
      arena_.free(action.row);
      manifests_[index_of(action.row)] = nullptr;
    } else if (into) {
      start_copy(action.row, action.slot);
    } else if (ready_.contains(action.row)) {
      ready_.erase(action.row);
    }
  }
  actions_.made.clear();
}

void EngineCore::start_copy(Row row, std::uint32_t slot) {
  copying_.insert(row);
  tiers_.lease({&row, 1});
  arena_.fix(row);
  submit_later([this, row, slot, image = std::span<const std::byte>(arena_.bytes(row)),
                manifest = manifests_[index_of(row)]] {
    const std::uint64_t begun_ns = env_.clock->now_ns();
    finish_copy(row, env_.device->write_slot(slot, *manifest, image), begun_ns);
  });
}

void EngineCore::finish_copy(Row row, const Result<Unit>& result, std::uint64_t begun_ns) {
  Lock lock(mutex_);
  copying_.erase(row);
  arena_.release(row);
  if (result) {
    ++stats_.copies;
    stats_.copied_bytes += rows_.source(row).bytes;
    stats_.copy_latency.add(env_.clock->now_ns() - begun_ns);
    ready_.insert(row);
    const std::vector<PendingPtr> waiting = std::exchange(waiters_[index_of(row)], {});
    for (const PendingPtr& request : waiting)
      if (--request->outstanding == 0) finish(request, Lease());
    tiers_.give_back({&row, 1});  // not before: who waited may have come to pin it
  } else {
    ++stats_.copies_failed;
    tiers_.give_back({&row, 1});
    tiers_.deactivate(row);  // what the slot holds now is nothing
    carry_out();
    fail_waiters(row, result.error());
  }
  bury_if_unused(row);
  wake_room();
  flush(lock);
  told_idle();
}

void EngineCore::fail_waiters(Row row, const Error& error) {
  const std::vector<PendingPtr> waiting = std::exchange(waiters_[index_of(row)], {});
  for (const PendingPtr& request : waiting)
    if (request->stage != PendingRequest::Stage::kDone) cancel(request, error);
}

/// A row that has lost its name lives until nobody uses it.
void EngineCore::doom(Row row) {
  doomed_.insert(row);
  wanted_in_[index_of(row)] = 0;
  if (loading_.contains(row) && !in_flight_.contains(row) && needed_[index_of(row)] == 0) {
    loading_.erase(row);
    std::erase(urgent_, row);
    std::erase(background_, row);
  }
  bury_if_unused(row);
}

void EngineCore::bury_if_unused(Row row) {
  if (!doomed_.contains(row) || leases_[index_of(row)] != 0 || needed_[index_of(row)] != 0) return;
  if (loading_.contains(row) || copying_.contains(row) || !waiters_[index_of(row)].empty()) return;
  tiers_.unpin(row);
  if (tiers_.tier(kHostLevel).held(row)) return;
  if (staged_.contains(row)) drop_staged(row);
  tiers_.remove(row);
  carry_out();
  doomed_.erase(row);
  rows_.recycle(row);
}

}  // namespace loracle
