/// The part of the catalog that serving fills: pins, uses, residency.

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "catalog/catalog_state.hpp"
#include "catalog/sqlite.hpp"
#include "loracle/engine/catalog.hpp"

namespace loracle {
namespace {

using catalog::id_at;

constexpr std::int64_t kSecondsAnHour = 3600;

Result<Unit> require_id(sqlite::Database& database, LoraId id) {
  sqlite::Query row = database.query("SELECT 1 FROM adapters WHERE id = ?");
  Result<bool> found = row.bind(std::int64_t{id.value}).next();
  if (!found) return fail(std::move(found.error()));
  if (!*found) return fail(catalog::unknown_id(database, id));
  return Unit{};
}

Result<Unit> require_tier(const sqlite::Database& database, Place tier) {
  if (tier == Place::kDisk || tier == Place::kHost || tier == Place::kDevice) return Unit{};
  return fail(Errc::kInvalid, fmt::format("{}: an adapter is kept on disk, host or device, not in place {}",
                                          database.path(), static_cast<int>(tier)));
}

/// Division that rounds down for times before 1970 too.
std::int64_t hour_of(std::int64_t unix_s) noexcept {
  return unix_s / kSecondsAnHour - (unix_s % kSecondsAnHour < 0 ? 1 : 0);
}

Result<Unit> add_uses(sqlite::Database& database, const UseCount& count) {
  // Sums stop at the largest number there is; they never wrap around.
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto uses = static_cast<std::int64_t>(count.uses < kMost ? count.uses : kMost);
  const std::int64_t id = count.id.value;
  if (Result<Unit> added = database
                               .query("INSERT INTO uses (adapter, uses, last) VALUES (?1, ?2, ?3) "
                                      "ON CONFLICT (adapter) DO UPDATE SET "
                                      "uses = min(uses, 9223372036854775807 - ?2) + ?2, last = max(last, ?3)")
                               .bind(id)
                               .bind(uses)
                               .bind(count.last_unix_s)
                               .run();
      !added)
    return added;
  if (Result<Unit> added = database
                               .query("INSERT INTO use_hours (adapter, hour, uses) VALUES (?1, ?2, ?3) "
                                      "ON CONFLICT (adapter, hour) DO UPDATE SET "
                                      "uses = min(uses, 9223372036854775807 - ?3) + ?3")
                               .bind(id)
                               .bind(hour_of(count.last_unix_s))
                               .bind(uses)
                               .run();
      !added)
    return added;
  // By count and not by age: one hour written under a wrong clock costs one place, not all others.
  return database
      .query(
          "DELETE FROM use_hours WHERE adapter = ?1 AND hour < (SELECT hour FROM use_hours "
          "WHERE adapter = ?1 ORDER BY hour DESC LIMIT 1 OFFSET ?2)")
      .bind(id)
      .bind(std::int64_t{kUseHoursMax} - 1)
      .run();
}

}  // namespace

Result<Unit> Catalog::set_pin(const Pin& pin, bool pinned) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Database& database = state_->database;
  if (Result<Unit> good = require_tier(database, pin.tier); !good) return good;
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  if (Result<Unit> good = require_id(database, pin.id); !good) return good;
  if (Result<Unit> set = database
                             .query(pinned ? "INSERT OR IGNORE INTO pins (adapter, tier) VALUES (?, ?)"
                                           : "DELETE FROM pins WHERE adapter = ? AND tier = ?")
                             .bind(std::int64_t{pin.id.value})
                             .bind(static_cast<std::int64_t>(pin.tier))
                             .run();
      !set)
    return set;
  return transaction->commit();
}

Result<std::vector<Pin>> Catalog::pins() {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row = state_->database.query("SELECT adapter, tier FROM pins ORDER BY tier, adapter");
  std::vector<Pin> pins;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return pins;
    pins.push_back({id_at(row, 0), static_cast<Place>(row.integer(1))});
  }
}

Result<Unit> Catalog::record_uses(std::span<const UseCount> uses) {
  if (uses.empty()) return Unit{};
  const std::lock_guard lock(state_->mutex);
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  for (const UseCount& count : uses) {
    if (Result<Unit> good = require_id(state_->database, count.id); !good) return good;
    if (Result<Unit> added = add_uses(state_->database, count); !added) return added;
  }
  return transaction->commit();
}

Result<UseHistory> Catalog::history(LoraId id) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Database& database = state_->database;
  Result<sqlite::Transaction> snapshot = sqlite::Transaction::snapshot(database);
  if (!snapshot) return fail(std::move(snapshot.error()));
  if (Result<Unit> good = require_id(database, id); !good) return fail(std::move(good.error()));
  UseHistory history;
  sqlite::Query total = database.query("SELECT uses, last FROM uses WHERE adapter = ?");
  Result<bool> used = total.bind(std::int64_t{id.value}).next();
  if (!used) return fail(std::move(used.error()));
  if (!*used) return history;
  history.uses = catalog::loaded(total.integer(0));
  history.last_unix_s = total.integer(1);
  sqlite::Query row = database.query("SELECT hour, uses FROM use_hours WHERE adapter = ? ORDER BY hour");
  row.bind(std::int64_t{id.value});
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return history;
    history.hours.push_back({row.integer(0), catalog::loaded(row.integer(1))});
  }
}

Result<std::vector<UseCount>> Catalog::uses() {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row = state_->database.query("SELECT adapter, uses, last FROM uses ORDER BY adapter");
  std::vector<UseCount> uses;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return uses;
    uses.push_back({id_at(row, 0), catalog::loaded(row.integer(1)), row.integer(2)});
  }
}

Result<Unit> Catalog::save_residency(std::span<const ResidentAdapter> residents) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Database& database = state_->database;
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  if (Result<Unit> cleared = database.query("DELETE FROM residency").run(); !cleared) return cleared;
  for (const ResidentAdapter& resident : residents) {
    if (Result<Unit> good = require_tier(database, resident.tier); !good) return good;
    if (Result<Unit> good = require_id(database, resident.id); !good) return good;
    sqlite::Query row =
        database.query("INSERT OR IGNORE INTO residency (adapter, tier, place) VALUES (?, ?, ?)");
    row.bind(std::int64_t{resident.id.value}).bind(static_cast<std::int64_t>(resident.tier));
    if (Result<Unit> added = row.bind(std::int64_t{resident.order}).run(); !added) return added;
    if (database.changes() == 0) {
      return fail(Errc::kInvalid, fmt::format("{}: adapter {} is named twice in tier {}", database.path(),
                                              resident.id.value, loracle::name_of(resident.tier)));
    }
  }
  return transaction->commit();
}

Result<std::vector<ResidentAdapter>> Catalog::residency() {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row =
      state_->database.query("SELECT adapter, tier, place FROM residency ORDER BY tier, place, adapter");
  std::vector<ResidentAdapter> residents;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return residents;
    residents.push_back({id_at(row, 0), static_cast<Place>(row.integer(1)), catalog::u32_at(row, 2)});
  }
}

}  // namespace loracle
