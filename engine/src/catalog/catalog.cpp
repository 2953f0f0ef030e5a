#include "loracle/engine/catalog.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "catalog/catalog_state.hpp"
#include "catalog/schema.hpp"
#include "catalog/sqlite.hpp"

namespace loracle {
namespace {

using catalog::id_at;
using catalog::loaded;
using catalog::read_stamp;
using catalog::u32_at;

/// Two processes that make one catalog at the same time: SQLite does not wait here by itself.
Result<Unit> use_write_ahead_log(sqlite::Database& database, std::uint32_t timeout_ms) {
  constexpr int kStepMs = 5;
  for (std::uint32_t waited_ms = 0;; waited_ms += kStepMs) {
    Result<Unit> done = database.execute("PRAGMA journal_mode = WAL");
    if (done || done.error().code != Errc::kBusy || waited_ms >= timeout_ms) return done;
    sqlite::sleep_ms(kStepMs);
  }
}

Result<Unit> prepare_for_writing(sqlite::Database& database, const CatalogOptions& options) {
  if (database.is_read_only()) {
    return fail(Errc::kIo,
                fmt::format("{}: the file may only be read: give write permission to it, or open it "
                            "for reading",
                            options.path));
  }
  // Whose it is comes first: nothing of a database that is not ours is changed, not even its journal.
  if (Result<Unit> known = check_catalog_version(database); !known && known.error().code == Errc::kInvalid)
    return known;
  if (Result<Unit> set = use_write_ahead_log(database, options.busy_timeout_ms); !set) return set;
  if (Result<Unit> set = database.execute("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; "
                                          "PRAGMA journal_size_limit = 67108864");
      !set)
    return set;
  return migrate_catalog(database);
}

std::string_view stored_kind_of(CatalogKind kind) noexcept { return name_of(kind); }

Result<std::optional<CatalogKind>> stored_kind(sqlite::Database& database) {
  sqlite::Query found = database.query("SELECT value FROM meta WHERE key = 'kind'");
  Result<bool> row = found.next();
  if (!row) return fail(std::move(row.error()));
  if (!*row) return std::optional<CatalogKind>();
  for (const CatalogKind kind : {CatalogKind::kMemory, CatalogKind::kStorage})
    if (found.text(0) == stored_kind_of(kind)) return std::optional(kind);
  return fail(Errc::kCorrupt,
              fmt::format("{}: a catalog of unknown kind '{}'", database.path(), found.text(0)));
}

/// Checks the kind against what is asked for; writes it into a catalog that has none yet.
Result<CatalogKind> settle_kind(sqlite::Database& database, const CatalogOptions& options) {
  Result<std::optional<CatalogKind>> kind = stored_kind(database);
  if (!kind) return fail(std::move(kind.error()));
  if (!*kind && options.kind && !options.read_only) {
    Result<sqlite::Transaction> transaction = sqlite::Transaction::begin(database);
    if (!transaction) return fail(std::move(transaction.error()));
    if (Result<Unit> set = database.query("INSERT OR IGNORE INTO meta (key, value) VALUES ('kind', ?)")
                               .bind(stored_kind_of(*options.kind))
                               .run();
        !set)
      return fail(std::move(set.error()));
    if (Result<Unit> committed = transaction->commit(); !committed) return fail(std::move(committed.error()));
    kind = stored_kind(database);  // another process may have been first
    if (!kind) return fail(std::move(kind.error()));
  }
  if (!*kind) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: the catalog is not finished: open it for writing, with a kind", options.path));
  }
  if (options.kind && **kind != *options.kind) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: a catalog of kind {}, asked for as {}: the two exclude each other; give another "
                    "path",
                    options.path, name_of(**kind), name_of(*options.kind)));
  }
  return **kind;
}

}  // namespace

std::string_view name_of(CatalogKind kind) noexcept {
  switch (kind) {
    case CatalogKind::kMemory:
      return "memory";
    case CatalogKind::kStorage:
      return "storage";
  }
  return "unknown";
}

std::string_view name_of(AdapterState state) noexcept {
  switch (state) {
    case AdapterState::kAvailable:
      return "available";
    case AdapterState::kVanished:
      return "vanished";
    case AdapterState::kRemoved:
      return "removed";
  }
  return "unknown";
}

Catalog::Catalog(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Catalog::Catalog(Catalog&&) noexcept = default;
Catalog& Catalog::operator=(Catalog&&) noexcept = default;
Catalog::~Catalog() = default;

CatalogKind Catalog::kind() const noexcept { return state_->kind; }

const std::string& Catalog::path() const noexcept { return state_->database.path(); }

Result<Catalog> Catalog::open(const CatalogOptions& options) {
  if (options.path.empty()) return fail(Errc::kInvalid, "the path of the catalog is empty");
  const sqlite::Access access = options.read_only ? sqlite::Access::kReadOnly
                                : options.kind    ? sqlite::Access::kCreate
                                                  : sqlite::Access::kWrite;
  Result<sqlite::Database> database = sqlite::Database::open(options.path, access, options.busy_timeout_ms);
  if (!database) return fail(std::move(database.error()));
  if (Result<Unit> ready =
          options.read_only ? check_catalog_version(*database) : prepare_for_writing(*database, options);
      !ready)
    return fail(std::move(ready.error()));
  Result<CatalogKind> kind = settle_kind(*database, options);
  if (!kind) return fail(std::move(kind.error()));
  return Catalog(std::make_unique<State>(std::move(*database), *kind, options.read_only));
}

Result<std::vector<CatalogEntry>> Catalog::list(bool with_removed) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row = state_->database.query(
      "SELECT a.id, a.name, a.state, a.version, v.format, v.dtype, v.rank, v.shape, v.element_count, "
      "v.weights_size FROM adapters a JOIN versions v INDEXED BY versions_listed "
      "ON v.adapter = a.id AND v.number = a.version WHERE a.state < ? ORDER BY a.id");
  row.bind(static_cast<std::int64_t>(AdapterState::kRemoved) + (with_removed ? 1 : 0));
  std::vector<CatalogEntry> entries;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return entries;
    CatalogEntry& entry = entries.emplace_back();
    entry.id = id_at(row, 0);
    entry.name = row.text(1);
    entry.state = static_cast<AdapterState>(row.integer(2));
    entry.version = u32_at(row, 3);
    entry.format = static_cast<WeightFormat>(row.integer(4));
    entry.dtype = static_cast<Dtype>(row.integer(5));
    entry.rank = u32_at(row, 6);
    entry.shape_id = u32_at(row, 7);
    entry.element_count = loaded(row.integer(8));
    entry.weights_bytes = loaded(row.integer(9));
  }
}

Result<CatalogRecord> Catalog::find(std::string_view name) {
  const std::lock_guard lock(state_->mutex);
  static const std::string kSql = fmt::format(
      "SELECT a.id, a.state, a.created, a.changed, a.version, s.root, v.directory, v.weights_path, v.format, "
      "v.dtype, v.rank, v.alpha, v.base_model, v.target_modules, v.element_count, v.shape, v.config_digest, "
      "v.weights_digest, {} FROM adapters a JOIN versions v ON v.adapter = a.id AND v.number = a.version "
      "JOIN sources s ON s.id = v.source WHERE a.name = ?",
      catalog::kStampColumns);
  sqlite::Query row = state_->database.query(kSql);
  Result<bool> found = row.bind(name).next();
  if (!found) return fail(std::move(found.error()));
  if (!*found) return fail(catalog::unknown_name(state_->database, name));
  CatalogRecord record;
  record.id = id_at(row, 0);
  record.name = name;
  record.state = static_cast<AdapterState>(row.integer(1));
  record.created_unix_s = row.integer(2);
  record.changed_unix_s = row.integer(3);
  record.version = u32_at(row, 4);
  record.source = row.text(5);
  record.facts.directory = row.text(6);
  record.facts.weights_path = row.text(7);
  record.facts.format = static_cast<WeightFormat>(row.integer(8));
  record.facts.dtype = static_cast<Dtype>(row.integer(9));
  record.facts.rank = u32_at(row, 10);
  record.facts.alpha = row.real(11);
  record.facts.base_model = row.text(12);
  Result<std::vector<std::string>> modules =
      catalog::parse_texts(row.text(13), fmt::format("{}: adapter '{}'", path(), name));
  if (!modules) return fail(std::move(modules.error()));
  record.facts.target_modules = std::move(*modules);
  record.facts.element_count = loaded(row.integer(14));
  record.shape_id = u32_at(row, 15);
  record.digest.config = row.text(16);
  record.digest.weights = row.text(17);
  record.facts.stamp = read_stamp(row, 18);
  return record;
}

Result<std::string> Catalog::name_of(LoraId id) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row = state_->database.query("SELECT name FROM adapters WHERE id = ?");
  Result<bool> found = row.bind(std::int64_t{id.value}).next();
  if (!found) return fail(std::move(found.error()));
  if (!*found) return fail(catalog::unknown_id(state_->database, id));
  return std::string(row.text(0));
}

Result<LoraId> Catalog::id_of(std::string_view name) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row = state_->database.query("SELECT id FROM adapters WHERE name = ?");
  Result<bool> found = row.bind(name).next();
  if (!found) return fail(std::move(found.error()));
  if (!*found) return fail(catalog::unknown_name(state_->database, name));
  return id_at(row, 0);
}

Result<std::vector<CatalogShape>> Catalog::shapes() {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row = state_->database.query("SELECT id, digest, modules FROM shapes ORDER BY id");
  std::vector<CatalogShape> shapes;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return shapes;
    const std::uint32_t id = u32_at(row, 0);
    Result<std::vector<ShapeModule>> modules =
        catalog::parse_modules(row.text(2), fmt::format("{}: shape {}", path(), id));
    if (!modules) return fail(std::move(modules.error()));
    shapes.push_back({id, {std::string(row.text(1)), std::move(*modules)}});
  }
}

Result<std::vector<CatalogSource>> Catalog::sources() {
  const std::lock_guard lock(state_->mutex);
  sqlite::Query row =
      state_->database.query("SELECT root, rules, scanned FROM sources WHERE rules <> '' ORDER BY root");
  std::vector<CatalogSource> sources;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return sources;
    Result<AdapterRules> rules =
        catalog::parse_rules(row.text(1), fmt::format("{}: source {}", path(), row.text(0)));
    if (!rules) return fail(std::move(rules.error()));
    sources.push_back({std::string(row.text(0)), std::move(*rules), row.integer(2)});
  }
}

Result<std::vector<Rejection>> Catalog::rejections() {
  const std::lock_guard lock(state_->mutex);
  static const std::string kSql = fmt::format(
      "SELECT name, directory, code, reason, {} FROM rejections ORDER BY directory", catalog::kStampColumns);
  sqlite::Query row = state_->database.query(kSql);
  std::vector<Rejection> rejections;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return rejections;
    rejections.push_back({std::string(row.text(0)), std::string(row.text(1)),
                          static_cast<Errc>(row.integer(2)), std::string(row.text(3)), read_stamp(row, 4)});
  }
}

Result<KnownAdapters> Catalog::known(std::string_view root, const AdapterRules& rules) {
  const std::lock_guard lock(state_->mutex);
  sqlite::Database& database = state_->database;
  Result<sqlite::Transaction> snapshot = sqlite::Transaction::snapshot(database);
  if (!snapshot) return fail(std::move(snapshot.error()));
  KnownAdapters known;
  std::int64_t source = 0;
  {
    sqlite::Query row = database.query("SELECT id FROM sources WHERE root = ? AND rules = ?");
    Result<bool> found = row.bind(catalog::root_of(root)).bind(catalog::rules_json(rules)).next();
    if (!found) return fail(std::move(found.error()));
    if (!*found) return known;
    source = row.integer(0);
  }
  static const std::string kAdapters = fmt::format(
      "SELECT a.name, v.weights_path, v.format, {} FROM adapters a JOIN versions v "
      "ON v.adapter = a.id AND v.number = a.version WHERE v.source = ?",
      catalog::kStampColumns);
  sqlite::Query row = database.query(kAdapters);
  row.bind(source);
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) break;
    known.adapters.push_back({std::string(row.text(0)), std::string(row.text(1)),
                              static_cast<WeightFormat>(row.integer(2)), read_stamp(row, 3)});
  }
  std::sort(known.adapters.begin(), known.adapters.end(),
            [](const KnownAdapter& a, const KnownAdapter& b) { return a.name < b.name; });
  static const std::string kRejections =
      fmt::format("SELECT name, directory, code, reason, {} FROM rejections WHERE source = ? ORDER BY name",
                  catalog::kStampColumns);
  sqlite::Query bad = database.query(kRejections);
  bad.bind(source);
  for (;;) {
    Result<bool> more = bad.next();
    if (!more) return fail(std::move(more.error()));
    if (!*more) return known;
    known.rejected.push_back({std::string(bad.text(0)), std::string(bad.text(1)),
                              static_cast<Errc>(bad.integer(2)), std::string(bad.text(3)),
                              read_stamp(bad, 4)});
  }
}

Result<Unit> Catalog::check() {
  const std::lock_guard lock(state_->mutex);
  {
    sqlite::Query row = state_->database.query("PRAGMA integrity_check(1)");
    Result<bool> found = row.next();
    if (!found) return fail(std::move(found.error()));
    if (*found && row.text(0) != "ok")
      return fail(Errc::kCorrupt, fmt::format("{}: damaged: {}: restore a copy", path(), row.text(0)));
  }
  sqlite::Query row = state_->database.query("PRAGMA foreign_key_check");
  Result<bool> found = row.next();
  if (!found) return fail(std::move(found.error()));
  if (*found) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: damaged: a row of {} refers to a missing row of {}: restore a copy", path(),
                            row.text(0), row.text(2)));
  }
  return Unit{};
}

}  // namespace loracle
