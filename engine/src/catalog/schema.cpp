#include "catalog/schema.hpp"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <string>
#include <utility>

namespace loracle {
namespace {

// What an adapter is. Unsigned 64-bit numbers (inodes, devices) are stored as the same 64 bits.
// adapters: AUTOINCREMENT remembers the highest id even if somebody deletes rows by hand.
constexpr const char* kAdapters = R"sql(
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sources (
  id INTEGER PRIMARY KEY,
  root TEXT NOT NULL UNIQUE,
  rules TEXT NOT NULL,       -- JSON; what was known under other rules is not believed
  scanned INTEGER NOT NULL   -- seconds since 1970, as all times here
) STRICT;

CREATE TABLE shapes (
  id INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  modules TEXT NOT NULL      -- JSON: [[name, in, out, rank], ...]
) STRICT;

CREATE TABLE adapters (
  id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 2147483647),
  name TEXT NOT NULL UNIQUE,
  state INTEGER NOT NULL CHECK (state IN (1, 2, 3)),  -- available, vanished, removed
  version INTEGER NOT NULL CHECK (version >= 1),      -- the current one
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;

CREATE TABLE versions (
  adapter INTEGER NOT NULL REFERENCES adapters (id),
  number INTEGER NOT NULL CHECK (number >= 1),
  format INTEGER NOT NULL,
  dtype INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  shape INTEGER NOT NULL REFERENCES shapes (id),
  element_count INTEGER NOT NULL,
  weights_size INTEGER NOT NULL,
  weights_mtime INTEGER NOT NULL,
  weights_ctime INTEGER NOT NULL,
  weights_inode INTEGER NOT NULL,
  weights_device INTEGER NOT NULL,
  config_size INTEGER NOT NULL,
  config_mtime INTEGER NOT NULL,
  config_ctime INTEGER NOT NULL,
  config_inode INTEGER NOT NULL,
  config_device INTEGER NOT NULL,
  stamped INTEGER NOT NULL,
  source INTEGER NOT NULL REFERENCES sources (id),
  directory TEXT NOT NULL,
  weights_path TEXT NOT NULL,
  alpha REAL NOT NULL,
  base_model TEXT NOT NULL,
  target_modules TEXT NOT NULL,  -- JSON
  config_digest TEXT CHECK (length (config_digest) = 64),
  weights_digest TEXT CHECK (length (weights_digest) = 64),
  found INTEGER NOT NULL,
  PRIMARY KEY (adapter, number)
) STRICT, WITHOUT ROWID;

-- All that listing reads: a tenth of the bytes of whole versions.
CREATE INDEX versions_listed ON versions
  (adapter, number, format, dtype, rank, shape, element_count, weights_size);

CREATE TABLE rejections (
  source INTEGER NOT NULL REFERENCES sources (id),
  name TEXT NOT NULL,
  directory TEXT NOT NULL,
  code INTEGER NOT NULL,
  reason TEXT NOT NULL,
  weights_size INTEGER NOT NULL,
  weights_mtime INTEGER NOT NULL,
  weights_ctime INTEGER NOT NULL,
  weights_inode INTEGER NOT NULL,
  weights_device INTEGER NOT NULL,
  config_size INTEGER NOT NULL,
  config_mtime INTEGER NOT NULL,
  config_ctime INTEGER NOT NULL,
  config_inode INTEGER NOT NULL,
  config_device INTEGER NOT NULL,
  stamped INTEGER NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;
)sql";

// What serving leaves behind. A tier is a Place: 2 disk, 3 host, 4 device.
constexpr const char* kServing = R"sql(
CREATE TABLE pins (
  adapter INTEGER NOT NULL REFERENCES adapters (id),
  tier INTEGER NOT NULL CHECK (tier IN (2, 3, 4)),
  PRIMARY KEY (adapter, tier)
) STRICT, WITHOUT ROWID;

CREATE TABLE uses (
  adapter INTEGER PRIMARY KEY REFERENCES adapters (id),
  uses INTEGER NOT NULL,
  last INTEGER NOT NULL
) STRICT;

CREATE TABLE use_hours (
  adapter INTEGER NOT NULL REFERENCES adapters (id),
  hour INTEGER NOT NULL,
  uses INTEGER NOT NULL,
  PRIMARY KEY (adapter, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE residency (
  adapter INTEGER NOT NULL REFERENCES adapters (id),
  tier INTEGER NOT NULL CHECK (tier IN (2, 3, 4)),
  place INTEGER NOT NULL,  -- 0 is the most valuable
  PRIMARY KEY (adapter, tier)
) STRICT, WITHOUT ROWID;
)sql";

constexpr std::array<const char*, 2> kMigrations = {kAdapters, kServing};

struct Found {
  std::int64_t version = 0;
  bool empty = false;  // no tables at all
};

/// Whose database it is, and how old. Refuses what is not ours or not yet ours to read. In a transaction:
/// another process may be making the catalog between one question and the next.
Result<Found> examine(sqlite::Database& database) {
  Result<std::int64_t> version = database.integer("PRAGMA user_version");
  if (!version) return fail(std::move(version.error()));
  Result<std::int64_t> tables = database.integer("SELECT count(*) FROM sqlite_schema");
  if (!tables) return fail(std::move(tables.error()));
  Result<std::int64_t> application = database.integer("PRAGMA application_id");
  if (!application) return fail(std::move(application.error()));
  if (*tables == 0 && *version == 0) return Found{0, true};
  if (*application != kCatalogApplicationId) {
    return fail(Errc::kInvalid,
                fmt::format("{}: a SQLite database, but not a catalog of loracle: give another path",
                            database.path()));
  }
  if (*version > std::ssize(kMigrations) || *version < 1) {
    return fail(
        Errc::kUnsupported,
        fmt::format("{}: a catalog of version {}, this loracle knows versions up to {}: update loracle",
                    database.path(), *version, kMigrations.size()));
  }
  return Found{*version, false};
}

Result<Found> examine_once(sqlite::Database& database) {
  const Result<sqlite::Transaction> snapshot = sqlite::Transaction::snapshot(database);
  if (!snapshot) return fail(snapshot.error());
  return examine(database);
}

}  // namespace

std::span<const char* const> catalog_migrations() noexcept { return kMigrations; }

Result<Unit> migrate_catalog(sqlite::Database& database) {
  for (;;) {
    // Looked at without a lock first: an up-to-date catalog opens while another process writes to it.
    const Result<Found> before = examine_once(database);
    if (!before) return fail(before.error());
    if (before->version == std::ssize(kMigrations)) return Unit{};
    Result<sqlite::Transaction> transaction = sqlite::Transaction::begin(database);
    if (!transaction) return fail(std::move(transaction.error()));
    const Result<Found> found = examine(database);  // another process may have been here first
    if (!found) return fail(found.error());
    if (found->version == std::ssize(kMigrations)) return Unit{};
    if (Result<Unit> step = database.execute(kMigrations[static_cast<std::size_t>(found->version)]); !step)
      return step;
    const std::string mark = fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}",
                                         kCatalogApplicationId, found->version + 1);
    if (Result<Unit> marked = database.execute(mark.c_str()); !marked) return marked;
    if (Result<Unit> committed = transaction->commit(); !committed) return committed;
  }
}

Result<Unit> check_catalog_version(sqlite::Database& database) {
  const Result<Found> found = examine_once(database);
  if (!found) return fail(found.error());
  if (found->empty) {
    return fail(Errc::kCorrupt, fmt::format("{}: an empty file, not a catalog: scan a directory to fill it",
                                            database.path()));
  }
  if (found->version < std::ssize(kMigrations)) {
    return fail(Errc::kUnsupported,
                fmt::format("{}: a catalog of version {}, from an earlier loracle: open it once for writing, "
                            "which brings it up to date",
                            database.path(), found->version));
  }
  return Unit{};
}

}  // namespace loracle
