/// Construction, names, and the operations a caller sees.

#include "serving/engine_core.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/policy/all_policies.hpp"
#include "loracle/policy/policy_spec.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kTimeoutNsMax = std::uint64_t{1} << 62U;  // 146 years: no clock is asked for more

std::uint64_t deadline_of(const PendingRequest& request, const AcquireOptions& options) noexcept {
  return options.timeout_ns > kTimeoutNsMax ? kNoDeadline : request.begun_ns + options.timeout_ns;
}

/// Bytes of the arena: the host budget, room for one whole batch beside the loads in flight, and what
/// aligning every block may cost.
std::uint64_t arena_bytes(const Capacity& host, std::uint32_t max_loras, std::uint32_t loads_in_flight_max,
                          std::uint32_t rows, std::uint64_t image_max) {
  const std::uint64_t entries = std::min<std::uint64_t>(host.entries, rows);
  const std::uint64_t staged = std::uint64_t{max_loras} + loads_in_flight_max;
  const std::uint64_t resident = std::min(host.bytes.value, entries * image_max);
  return resident + staged * image_max + (entries + staged) * HostArena::kAlignment;
}

Result<AnyPolicy> make_serving_policy(const PolicySpec& spec, std::uint32_t rows, const Capacity& capacity) {
  if (is_clairvoyant(spec))
    return fail(Errc::kInvalid,
                fmt::format("policy {}: needs the future, which only a replay knows", spec.name));
  return make_any_policy(spec, rows, capacity);
}

Error not_found(std::string_view name) {
  return {Errc::kNotFound, fmt::format("no adapter is called '{}': look at the list, or refresh", name), 0};
}

}  // namespace

Result<std::unique_ptr<EngineCore>> EngineCore::make(const EngineConfig& config, SlotLayout layout,
                                                     std::uint32_t rows_max, const Env& env, ReadImage read) {
  const std::uint32_t max_cpu_loras = config.max_cpu_loras == 0 ? config.max_loras : config.max_cpu_loras;
  const Capacity device{config.max_loras, config.gpu_memory};
  const Capacity host{max_cpu_loras, config.cpu_memory};
  const Result<TierPolicies> policies = parse_tier_policies(config.policy);
  if (!policies) return fail(policies.error());
  const std::size_t slash = config.policy.find('/');
  const std::string names[2] = {config.policy.substr(0, slash),
                                slash == std::string::npos ? config.policy : config.policy.substr(slash + 1)};
  std::vector<TierSetup<AnyPolicy>> tiers;
  for (const std::size_t level : {kDeviceLevel, kHostLevel}) {
    const Capacity& capacity = level == kDeviceLevel ? device : host;
    Result<AnyPolicy> policy =
        make_serving_policy(level == kDeviceLevel ? policies->device : policies->host, rows_max, capacity);
    if (!policy) return fail(std::move(policy.error()));
    tiers.push_back({level == kDeviceLevel ? Place::kDevice : Place::kHost, capacity, std::move(*policy),
                     Boundary::kInclusive});
  }
  if (auto allocated = env.device->allocate(layout, config.max_loras); !allocated)
    return fail(std::move(allocated.error()));
  Result<std::span<std::byte>> arena = env.device->allocate_host(
      arena_bytes(host, config.max_loras, config.loads_in_flight_max, rows_max, layout.slot_bytes()));
  if (!arena) return fail(std::move(arena.error()));
  std::unique_ptr<EngineCore> core(
      new EngineCore(config, std::move(layout), rows_max, env, std::move(read), *arena, std::move(tiers)));
  core->policy_names_[kDeviceLevel] = names[kDeviceLevel];
  core->policy_names_[kHostLevel] = names[kHostLevel];
  return core;
}

EngineCore::EngineCore(const EngineConfig& config, SlotLayout layout, std::uint32_t rows_max, const Env& env,
                       ReadImage read, std::span<std::byte> arena, std::vector<TierSetup<AnyPolicy>> tiers)
    : env_(env),
      read_(std::move(read)),
      layout_(std::move(layout)),
      loads_in_flight_max_(std::max(config.loads_in_flight_max, 1U)),
      requests_waiting_max_(config.requests_waiting_max),
      passes_max_(config.passes_max),
      host_capacity_(tiers[kHostLevel].capacity),
      max_loras_(config.max_loras),
      rows_(rows_max),
      arena_(arena),
      actions_(config.decisions),
      log_(&actions_),
      tiers_(rows_max, std::move(tiers), rows_.table(), log_),
      loading_(rows_max),
      in_flight_(rows_max),
      staged_(rows_max),
      copying_(rows_max),
      ready_(rows_max),
      doomed_(rows_max),
      leases_(rows_max, 0),
      needed_(rows_max, 0),
      wanted_in_(rows_max, 0),
      mentioned_(rows_max, 0),
      waiters_(rows_max),
      manifests_(rows_max) {
  batch_.reserve(64);
  actions_.made.reserve(64);
  gate_->core = this;
}

EngineCore::~EngineCore() {
  shutdown();
  {
    const std::lock_guard closing(gate_->mutex);
    gate_->core = nullptr;
  }
  const std::lock_guard last(mutex_);  // a timer that came in before has nothing to do, but must get out
}

Result<Row> EngineCore::row_for(std::string_view name) {
  Row row = rows_.row_of(name);
  if (row != kNoRow) return row;
  const AdapterSource* const source = rows_.find(name);
  if (source == nullptr) return fail(not_found(name));
  row = rows_.assign(name, [this](Row candidate) { return idle(candidate); });
  if (row == kNoRow) {
    return fail(Errc::kTooLarge,
                fmt::format("'{}': all {} rows are in use: raise adapters_max", name, rows_.rows_max()));
  }
  return row;
}

/// True if nothing refers to the row: it may be given to another name.
bool EngineCore::idle(Row row) const noexcept {
  const std::size_t i = index_of(row);
  return leases_[i] == 0 && needed_[i] == 0 && mentioned_[i] != batches_ && waiters_[i].empty() &&
         !loading_.contains(row) && !staged_.contains(row) && !copying_.contains(row) &&
         !tiers_.tier(kHostLevel).contains(row) && !tiers_.tier(kHostLevel).held(row) &&
         !doomed_.contains(row);
}

/// Rows of the names, in their order, each once.
Result<Unit> EngineCore::resolve(std::span<const std::string_view> names, std::vector<Row>& rows) {
  rows.clear();
  ++batches_;
  if (names.empty()) return fail(Errc::kInvalid, "a request names no adapter: give at least one");
  for (const std::string_view name : names) {
    Result<Row> row = row_for(name);
    if (!row) return fail(std::move(row.error()));
    if (std::exchange(mentioned_[index_of(*row)], batches_) != batches_) rows.push_back(*row);
  }
  return Unit{};
}

void EngineCore::know(std::string_view name, const AdapterSource& source) {
  Lock lock(mutex_);
  if (const std::optional<Row> old = rows_.know(name, source)) {
    doom(*old);
    wake_room();  // it may have had a slot that others wait for
  }
  flush(lock);
}

void EngineCore::describe(std::string_view name, const AdapterSource& source) {
  const Lock lock(mutex_);
  rows_.describe(name, source);
}

std::vector<std::pair<std::string, AdapterSource>> EngineCore::known() const {
  const std::lock_guard lock(mutex_);
  return {rows_.known().begin(), rows_.known().end()};
}

void EngineCore::order_rows(std::span<const std::string> names) {
  const Lock lock(mutex_);
  for (const std::string& name : names.first(std::min<std::size_t>(names.size(), rows_.rows_max()))) {
    if (rows_.find(name) == nullptr)
      rows_.skip_row();
    else if (rows_.row_of(name) == kNoRow)
      static_cast<void>(rows_.assign(name, [](Row) { return false; }));
  }
}

bool EngineCore::forget(std::string_view name) {
  Lock lock(mutex_);
  if (rows_.find(name) == nullptr) return false;
  if (const std::optional<Row> old = rows_.forget(name)) {
    const std::vector<PendingPtr> waiting = waiters_[index_of(*old)];
    for (const PendingPtr& request : waiting)
      if (request->stage == PendingRequest::Stage::kLoading)
        cancel(request, {Errc::kCancelled, fmt::format("'{}' was removed while it was loaded", name), 0});
    doom(*old);
    wake_room();
  }
  flush(lock);
  return true;
}

Result<Lease> EngineCore::acquire(std::span<const std::string_view> names, const AcquireOptions& options) {
  Lock lock(mutex_);
  ++stats_.requests;
  if (stopping_) return fail(Errc::kCancelled, "the engine is shutting down");
  if (Result<Unit> known = resolve(names, batch_); !known) {
    ++stats_.requests_failed;
    return fail(std::move(known.error()));
  }
  if (Lease lease; serve_resident(batch_, lease)) return lease;
  return wait(lock, begin(Purpose::kServe, kDeviceLevel, batch_, nullptr), options);
}

void EngineCore::acquire_async(std::span<const std::string_view> names, const AcquireOptions& options,
                               AcquireCallback done) {
  Lock lock(mutex_);
  ++stats_.requests;
  Result<Unit> known = stopping_ ? Result<Unit>(fail(Errc::kCancelled, "the engine is shutting down"))
                                 : resolve(names, batch_);
  if (!known) {
    ++stats_.requests_failed;
    lock.unlock();
    done(fail(std::move(known.error())));
    return;
  }
  if (Lease lease; serve_resident(batch_, lease)) {
    lock.unlock();
    done(std::move(lease));
    return;
  }
  const PendingPtr request = begin(Purpose::kServe, kDeviceLevel, batch_, std::move(done), options.abandoned);
  flush(lock);
  const std::uint64_t deadline_ns = deadline_of(*request, options);
  if (deadline_ns == kNoDeadline || request->stage == PendingRequest::Stage::kDone) return;
  lock.unlock();
  // Weak: what has been answered need not be kept until then.
  env_.workers->submit_at(deadline_ns, [gate = gate_, waiting = std::weak_ptr(request)] {
    const PendingPtr late = waiting.lock();
    if (!late) return;
    Lock entering(gate->mutex);
    if (gate->core != nullptr) gate->core->expire(entering, late);
  });
}

void EngineCore::expire(Lock& entering, const PendingPtr& request) {
  Lock lock(mutex_);
  entering.unlock();  // the destructor passes both locks, so it waits for this
  if (request->stage == PendingRequest::Stage::kDone) return;
  cancel(request, too_late(*request));
  flush(lock);
}

/// What it still waited for when its time was over.
Error EngineCore::too_late(const PendingRequest& request) const {
  constexpr const char* kLate = "not on the device in the time given";
  switch (request.stage) {
    case PendingRequest::Stage::kLoading:
      return {Errc::kDeadline, fmt::format("{}: still to be read from storage, or being read", kLate), 0};
    case PendingRequest::Stage::kRoom:
      return {Errc::kDeadline,
              fmt::format("{}: waited for room{}: {}", kLate,
                          must_queue(request) ? ", after an older request" : "", occupancy(request.level)),
              0};
    case PendingRequest::Stage::kCopying:
    case PendingRequest::Stage::kDone:
      break;
  }
  return {Errc::kDeadline, fmt::format("{}: still being copied into its slot", kLate), 0};
}

/// Who cannot leave the tier: "of 8 slots 5 are leased, 1 pinned, 0 being filled".
std::string EngineCore::occupancy(std::size_t level) const {
  const auto& tier = tiers_.tier(level);
  std::uint32_t leased = 0;
  std::uint32_t pinned = 0;
  std::uint32_t filled = 0;
  for (const Row row : tier.row_in()) {
    if (row == kNoRow) continue;
    leased += leases_[index_of(row)] > 0 ? 1U : 0U;
    pinned += tier.pinned(row) ? 1U : 0U;
    filled += copying_.contains(row) ? 1U : 0U;
  }
  const bool is_device = level == kDeviceLevel;
  return fmt::format("of {} {} {} are leased, {} pinned, {} being filled",
                     is_device ? std::uint64_t{max_loras_} : host_capacity_.entries,
                     is_device ? "slots" : "places in host memory", leased, pinned, filled);
}

Result<Lease> EngineCore::wait(Lock& lock, const PendingPtr& request, const AcquireOptions& options) {
  flush(lock);
  const auto done = [&request] { return request->stage == PendingRequest::Stage::kDone; };
  if (!env_.workers->wait(lock, request->changed, deadline_of(*request, options), done)) {
    cancel(request, too_late(*request));
    flush(lock);
  }
  return std::move(request->result);
}

void EngineCore::let_go(std::span<const LeasedAdapter> adapters) noexcept {
  Lock lock(mutex_);
  for (const LeasedAdapter& adapter : adapters) give_back({&adapter.row, 1});
  --leases_total_;
  if (doomed_.empty() && room_.empty() && !stopping_) return;
  for (const LeasedAdapter& adapter : adapters) bury_if_unused(adapter.row);
  wake_room();
  flush(lock);
  told_idle();
}

AdapterSource EngineCore::source_of(const LeasedAdapter& leased) const {
  const std::lock_guard lock(mutex_);
  return rows_.source(leased.row);
}

void EngineCore::drop_abandoned() {
  Lock lock(mutex_);
  wake_room();
  flush(lock);
  told_idle();
}

Result<Unit> EngineCore::prefetch(std::span<const std::string_view> names, std::size_t level) {
  Lock lock(mutex_);
  ++batches_;
  Result<Unit> answer = Unit{};
  for (const std::string_view name : names) {
    Result<Row> row = stopping_ ? fail(Errc::kCancelled, "the engine is shutting down") : row_for(name);
    if (!row) {
      if (answer) answer = fail(std::move(row.error()));
      continue;
    }
    if (tiers_.tier(level).contains(*row)) continue;
    ++stats_.prefetches;
    if (tiers_.tier(kHostLevel).contains(*row)) {
      if (tiers_.bring({&*row, 1}, level, Tick{tick_}) == Verdict::kServed) carry_out();
      continue;
    }
    std::uint8_t& wanted = wanted_in_[index_of(*row)];
    const auto asked = static_cast<std::uint8_t>(level + 1);
    wanted = wanted == 0 ? asked : std::min(wanted, asked);
    require(*row, /*urgent=*/false);
  }
  pump_loads();
  flush(lock);
  return answer;
}

Result<Unit> EngineCore::bring(std::span<const std::string_view> names, std::size_t level,
                               const AcquireOptions& options) {
  Lock lock(mutex_);
  ++batches_;
  Result<Unit> answer = Unit{};
  std::vector<PendingPtr> requests;
  for (const std::string_view name : names) {
    Result<Row> row = stopping_ ? fail(Errc::kCancelled, "the engine is shutting down") : row_for(name);
    if (row)
      requests.push_back(begin(Purpose::kBring, level, {*row}, nullptr, options.abandoned));
    else if (answer)
      answer = fail(std::move(row.error()));
  }
  for (const PendingPtr& request : requests) {
    Result<Lease> done = wait(lock, request, options);
    if (!done && answer) answer = fail(std::move(done.error()));
  }
  return answer;
}

Result<Unit> EngineCore::pin(std::string_view name, std::size_t level, const AcquireOptions& options) {
  Lock lock(mutex_);
  ++batches_;
  const std::uint64_t begun_ns = env_.clock->now_ns();
  for (;;) {
    Result<Row> row = stopping_ ? fail(Errc::kCancelled, "the engine is shutting down") : row_for(name);
    if (!row) return fail(std::move(row.error()));
    AcquireOptions left = options;
    if (left.timeout_ns <= kTimeoutNsMax)
      left.timeout_ns -= std::min(left.timeout_ns, env_.clock->now_ns() - begun_ns);
    Result<Lease> done = wait(lock, begin(Purpose::kPin, level, {*row}, nullptr, options.abandoned), left);
    if (!done) return fail(std::move(done.error()));
    if (rows_.row_of(name) == *row) return Unit{};  // else it was replaced meanwhile: pin what is there now
    ++batches_;
  }
}

void EngineCore::pin_later(std::string_view name, std::size_t level) {
  Lock lock(mutex_);
  ++batches_;
  if (stopping_) return;
  const Result<Row> row = row_for(name);
  if (row) static_cast<void>(begin(Purpose::kPin, level, {*row}, [](const Result<Lease>&) {}));
  flush(lock);
}

Result<Unit> EngineCore::unpin(std::string_view name, std::size_t level) {
  Lock lock(mutex_);
  if (rows_.find(name) == nullptr) return fail(not_found(name));
  if (const Row row = rows_.row_of(name); row != kNoRow) {
    cancel_pins(row, level);
    tiers_.unpin(row, level);
  }
  wake_room();
  flush(lock);
  return Unit{};
}

Result<Unit> EngineCore::deactivate(std::string_view name) {
  Lock lock(mutex_);
  if (rows_.find(name) == nullptr) return fail(not_found(name));
  const Row row = rows_.row_of(name);
  if (row == kNoRow || !tiers_.tier(kDeviceLevel).contains(row)) return Unit{};
  if (tiers_.tier(kDeviceLevel).held(row))
    return fail(Errc::kAllPinned,
                fmt::format("'{}' is leased, pinned or being copied: its slot stays", name));
  tiers_.deactivate(row);
  carry_out();
  wake_room();
  flush(lock);
  return Unit{};
}

Result<Unit> EngineCore::set_policy(std::size_t level, std::string_view policy) {
  Lock lock(mutex_);
  if (policy == "conservative" || policy == "aggressive") {
    if (level != kHostLevel)
      return fail(Errc::kInvalid, fmt::format("'{}' is a preset of the host tier", policy));
    Capacity capacity = host_capacity_;
    if (policy == "conservative") capacity.entries = std::min<std::uint64_t>(capacity.entries, max_loras_);
    const Verdict verdict = tiers_.set_capacity(level, capacity, Tick{tick_});
    carry_out();
    if (verdict != Verdict::kServed) {
      flush(lock);
      return fail(Errc::kAllPinned, "more adapters are leased or pinned than 'conservative' would keep");
    }
    wake_room();
    flush(lock);
    return Unit{};
  }
  Result<PolicySpec> spec = parse_policy_spec(policy);
  if (!spec) return fail(std::move(spec.error()));
  const Capacity built{level == kDeviceLevel ? max_loras_ : host_capacity_.entries,
                       level == kDeviceLevel ? tiers_.tier(level).capacity().bytes : host_capacity_.bytes};
  Result<AnyPolicy> made = make_serving_policy(*spec, rows_.rows_max(), built);
  if (!made) return fail(std::move(made.error()));
  tiers_.set_policy(level, std::move(*made), Tick{tick_});
  policy_names_[level] = policy;
  return Unit{};
}

AdapterStatus EngineCore::status_of(const std::string& name, const AdapterSource& source) const {
  AdapterStatus status;
  status.name = name;
  if (source.uri.empty()) status.directory = source.directory;
  status.uri = source.uri;
  status.id = source.id;
  status.rank = source.rank;
  status.bytes = source.bytes;
  const Row row = rows_.row_of(name);
  if (row == kNoRow) return status;
  status.on_device = ready_.contains(row);
  status.on_host = tiers_.tier(kHostLevel).contains(row);
  status.loading = loading_.contains(row) || staged_.contains(row);
  status.pinned = tiers_.tier(kHostLevel).pinned(row);
  status.leases = leases_[index_of(row)];
  status.slot = tiers_.tier(kDeviceLevel).slot_of(row);
  status.uses = rows_.uses(row);
  return status;
}

std::vector<AdapterStatus> EngineCore::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<AdapterStatus> all;
  all.reserve(rows_.known().size());
  for (const auto& [name, source] : rows_.known()) all.push_back(status_of(name, source));
  return all;
}

std::uint64_t EngineCore::changes() const {
  const std::lock_guard lock(mutex_);
  return rows_.changes();
}

Result<AdapterStatus> EngineCore::status(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const AdapterSource* const source = rows_.find(name);
  if (source == nullptr) return fail(not_found(name));
  return status_of(std::string(name), *source);
}

EngineStats EngineCore::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.counts = tiers_.counts();
  stats.decisions = log_.count();
  stats.decision_log_hash = log_.hash();
  stats.adapters_known = rows_.known().size();
  stats.requests_waiting = waiting_;
  stats.leases = leases_total_;
  stats.loads_in_flight = in_flight_.size();
  stats.arena_bytes = arena_.size();
  stats.arena_moved_bytes = arena_.moved_bytes();
  for (const std::size_t level : {kDeviceLevel, kHostLevel}) {
    const Tier<AnyPolicy>& tier = tiers_.tier(level);
    TierStats& told = level == kDeviceLevel ? stats.device : stats.host;
    told.entries = tier.used().entries;
    told.entries_max = tier.capacity().entries;
    told.bytes = tier.used().bytes.value;
    told.bytes_max = tier.capacity().bytes.value;
    told.policy = policy_names_[level];
    for (const Row row : tier.row_in())
      if (row != kNoRow && tier.pinned(row)) ++told.pinned;
  }
  return stats;
}

std::vector<std::string> EngineCore::residents(std::size_t level) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  std::vector<Row> rows = tiers_.tier(level).by_last_use();
  std::reverse(rows.begin(), rows.end());
  for (const Row row : rows)
    if (!doomed_.contains(row)) names.push_back(rows_.name(row));
  return names;
}

std::map<std::string, std::uint64_t, std::less<>> EngineCore::take_uses() {
  const std::lock_guard lock(mutex_);
  return rows_.take_uses();
}

void EngineCore::put_back_uses(const std::map<std::string, std::uint64_t, std::less<>>& uses) {
  const std::lock_guard lock(mutex_);
  rows_.put_back_uses(uses);
}

void EngineCore::shutdown() {
  Lock lock(mutex_);
  stopping_ = true;
  for (std::deque<Row>* const queue : {&urgent_, &background_}) {
    while (!queue->empty()) {
      const Row row = queue->front();
      queue->pop_front();
      loading_.erase(row);
      fail_waiters(row, {Errc::kCancelled, "the engine is shutting down", 0});
    }
  }
  while (!room_.empty()) {
    const PendingPtr request = room_.front();
    cancel(request, {Errc::kCancelled, "the engine is shutting down", 0});
  }
  flush(lock);
  env_.workers->wait(lock, idle_, kNoDeadline, [this] {
    return in_flight_.empty() && copying_.empty() && leases_total_ == 0 && waiting_ == 0 && telling_ == 0;
  });
}

}  // namespace loracle
