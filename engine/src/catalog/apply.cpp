/// The part of the catalog that changes which adapters there are.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "catalog/catalog_state.hpp"
#include "catalog/sqlite.hpp"
#include "loracle/core/check.hpp"
#include "loracle/engine/catalog.hpp"

namespace loracle {
namespace {

using catalog::u32_at;

/// An adapter as the catalog has it before a scan is applied.
struct KnownRow {
  LoraId id;
  AdapterState state = AdapterState::kAvailable;
  std::uint32_t version = 0;
  std::int64_t source = 0;
  AdapterStamp stamp;
  bool is_mentioned = false;  // by the scan
};

constexpr std::string_view kKnownSql =
    "SELECT a.name, a.id, a.state, a.version, v.source, {} FROM adapters a JOIN versions v "
    "ON v.adapter = a.id AND v.number = a.version";

KnownRow known_row(const sqlite::Query& row) {
  return {catalog::id_at(row, 1), static_cast<AdapterState>(row.integer(2)), u32_at(row, 3), row.integer(4),
          catalog::read_stamp(row, 5)};
}

/// Writes within one transaction. What fails is remembered: everything after it does nothing, and `apply`
/// looks once, at the end.
class Writer {
 public:
  Writer(sqlite::Database& database, std::int64_t now_unix_s) : database_(database), now_(now_unix_s) {}

  [[nodiscard]] bool failed() const noexcept { return error_.has_value(); }
  [[nodiscard]] Error& error() noexcept { return *error_; }
  void fail_with(Error error) {
    if (!error_) error_ = std::move(error);
  }

  std::int64_t source(const std::string& root, const std::string& rules) {
    run(query("INSERT INTO sources (root, rules, scanned) VALUES (?1, ?2, ?3) "
              "ON CONFLICT (root) DO UPDATE SET rules = ?2, scanned = ?3")
            .bind(root)
            .bind(rules)
            .bind(now_));
    return integer(query("SELECT id FROM sources WHERE root = ?").bind(root));
  }

  /// Of adapters that are registered: no rules, because no scan has been there.
  std::int64_t source_without_scan(const std::string& root) {
    run(query("INSERT OR IGNORE INTO sources (root, rules, scanned) VALUES (?, '', 0)").bind(root));
    return integer(query("SELECT id FROM sources WHERE root = ?").bind(root));
  }

  /// A root all of whose adapters have moved is not scanned again unless somebody asks for it.
  void forget_if_empty(std::int64_t source) {
    run(query("UPDATE sources SET rules = '' WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM adapters a JOIN "
              "versions v ON v.adapter = a.id AND v.number = a.version WHERE v.source = ?1 AND a.state = 1)")
            .bind(source));
  }

  std::int64_t shape(const AdapterShape& shape) {
    run(query("INSERT OR IGNORE INTO shapes (digest, modules) VALUES (?, ?)")
            .bind(shape.digest)
            .bind(catalog::modules_json(shape.modules)));
    return integer(query("SELECT id FROM shapes WHERE digest = ?").bind(shape.digest));
  }

  CatalogChange add(const ScannedAdapter& adapter, std::int64_t shape, std::int64_t source) {
    run(query("INSERT INTO adapters (name, state, version, created, changed) VALUES (?1, 1, 1, ?2, ?2)")
            .bind(adapter.name)
            .bind(now_));
    const LoraId id{failed() ? 0 : static_cast<std::uint32_t>(database_.last_insert_id())};
    write_version(id, 1, adapter.facts, shape, source);
    return {id, adapter.name, 1};
  }

  /// Other content than before: a further version, which is the current one from now on.
  CatalogChange add_version(const KnownRow& known, const ScannedAdapter& adapter, std::int64_t shape,
                            std::int64_t source) {
    const std::uint32_t number = known.version + 1;
    write_version(known.id, number, adapter.facts, shape, source);
    run(query("UPDATE adapters SET version = ?, state = 1, changed = ? WHERE id = ?")
            .bind(std::int64_t{number})
            .bind(now_)
            .bind(std::int64_t{known.id.value}));
    run(query("DELETE FROM versions WHERE adapter = ? AND number <= ?")
            .bind(std::int64_t{known.id.value})
            .bind(std::int64_t{number} - kVersionsMax));
    return {known.id, adapter.name, number};
  }

  /// The same content, described anew: a newer stamp, another mount, what an updated inspection finds.
  void update_version(const KnownRow& known, const HeaderFacts& facts, std::int64_t shape,
                      std::int64_t source) {
    write_version(known.id, known.version, facts, shape, source);
  }

  /// Files of this stamp will be inspected before they are believed to be unchanged.
  void distrust_stamp(const KnownRow& known) {
    if (known.stamp.taken_unix_s == 0) return;
    run(query("UPDATE versions SET stamped = 0 WHERE adapter = ? AND number = ?")
            .bind(std::int64_t{known.id.value})
            .bind(std::int64_t{known.version}));
  }

  void set_state(const KnownRow& known, AdapterState state) {
    run(query("UPDATE adapters SET state = ?, changed = ? WHERE id = ?")
            .bind(static_cast<std::int64_t>(state))
            .bind(now_)
            .bind(std::int64_t{known.id.value}));
  }

  void forget_places(LoraId id) {
    run(query("DELETE FROM pins WHERE adapter = ?").bind(std::int64_t{id.value}));
    run(query("DELETE FROM residency WHERE adapter = ?").bind(std::int64_t{id.value}));
  }

  void write_rejection(std::int64_t source, const Rejection& rejection, std::int64_t since) {
    static const std::string kSql = fmt::format(
        "INSERT OR REPLACE INTO rejections (source, name, directory, code, reason, {}, since) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        catalog::kStampColumns);
    sqlite::Query row = query(kSql);
    row.bind(source).bind(rejection.name).bind(rejection.directory);
    row.bind(static_cast<std::int64_t>(rejection.code)).bind(rejection.reason);
    catalog::bind_stamp(row, rejection.stamp);
    run(row.bind(since));
  }

  void drop_rejection(std::int64_t source, const std::string& name) {
    run(query("DELETE FROM rejections WHERE source = ? AND name = ?").bind(source).bind(name));
  }

 private:
  [[nodiscard]] sqlite::Query query(std::string_view sql) { return database_.query(sql); }

  void run(sqlite::Query& query) {
    if (failed()) return;
    if (Result<Unit> done = query.run(); !done) error_ = std::move(done.error());
  }

  std::int64_t integer(sqlite::Query& query) {
    if (failed()) return 0;
    Result<bool> row = query.next();
    if (!row) error_ = std::move(row.error());
    return row && *row ? query.integer(0) : 0;
  }

  void write_version(LoraId id, std::uint32_t number, const HeaderFacts& facts, std::int64_t shape,
                     std::int64_t source) {
    // The digest stays: it is of the content, and the same number is the same content.
    static const std::string kSql = fmt::format(
        "INSERT INTO versions (adapter, number, source, directory, weights_path, format, dtype, rank, alpha, "
        "base_model, target_modules, element_count, shape, {}, found) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (adapter, number) DO UPDATE SET source = excluded.source, directory = "
        "excluded.directory, "
        "weights_path = excluded.weights_path, format = excluded.format, dtype = excluded.dtype, "
        "rank = excluded.rank, alpha = excluded.alpha, base_model = excluded.base_model, "
        "target_modules = excluded.target_modules, element_count = excluded.element_count, "
        "shape = excluded.shape, weights_device = excluded.weights_device, "
        "config_device = excluded.config_device, stamped = excluded.stamped",
        catalog::kStampColumns);
    sqlite::Query row = query(kSql);
    row.bind(std::int64_t{id.value}).bind(std::int64_t{number}).bind(source);
    row.bind(facts.directory).bind(facts.weights_path).bind(static_cast<std::int64_t>(facts.format));
    row.bind(static_cast<std::int64_t>(facts.dtype)).bind(std::int64_t{facts.rank}).bind(facts.alpha);
    row.bind(facts.base_model).bind(catalog::texts_json(facts.target_modules));
    row.bind(catalog::stored(facts.element_count)).bind(shape);
    catalog::bind_stamp(row, facts.stamp);
    run(row.bind(now_));
  }

  sqlite::Database& database_;
  std::int64_t now_;
  std::optional<Error> error_;
};

/// Applies one scan.
class Application {
 public:
  Application(sqlite::Database& database, const ScanResult& scan, const Catalog::IsGone& is_gone)
      : database_(database), scan_(scan), is_gone_(is_gone), writer_(database, scan.now_unix_s) {}

  Result<ApplyOutcome> run() {
    source_ = writer_.source(catalog::root_of(scan_.root), catalog::rules_json(scan_.rules));
    if (Result<Unit> read = read_known(); !read) return fail(std::move(read.error()));
    shape_ids_.assign(scan_.shapes.size(), 0);
    outcome_.rejected = scan_.rejected;
    for (const ScannedAdapter& adapter : scan_.found) take_found(adapter);
    for (const std::string& name : scan_.unchanged) take_unchanged(name);
    for (const Rejection& rejection : scan_.rejected) take_rejected(rejection);
    for (const std::string* const name : absent()) vanish(*name, known_.at(*name));
    for (const std::int64_t source : left_) writer_.forget_if_empty(source);
    if (Result<Unit> written = write_rejections(); !written) return fail(std::move(written.error()));
    if (writer_.failed()) return fail(std::move(writer_.error()));
    const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
    for (auto* const list : {&outcome_.added, &outcome_.changed, &outcome_.returned, &outcome_.vanished})
      std::sort(list->begin(), list->end(), by_name);
    std::sort(outcome_.rejected.begin(), outcome_.rejected.end(), by_name);
    return std::move(outcome_);
  }

 private:
  Result<Unit> read_known() {
    static const std::string kSql = fmt::format(kKnownSql, catalog::kStampColumns);
    sqlite::Query row = database_.query(kSql);
    for (;;) {
      Result<bool> more = row.next();
      if (!more) return fail(std::move(more.error()));
      if (!*more) return Unit{};
      known_.emplace(row.text(0), known_row(row));
    }
  }

  /// Where the catalog has the adapter.
  std::string directory_of(const KnownRow& known) {
    sqlite::Query row = database_.query("SELECT directory FROM versions WHERE adapter = ? AND number = ?");
    Result<bool> found = row.bind(std::int64_t{known.id.value}).bind(std::int64_t{known.version}).next();
    if (!found) writer_.fail_with(std::move(found.error()));
    return found && *found ? std::string(row.text(0)) : std::string();
  }

  std::int64_t shape_id(std::uint32_t index) {
    LORACLE_CHECK(index < scan_.shapes.size());
    std::int64_t& id = shape_ids_[index];
    if (id == 0) id = writer_.shape(scan_.shapes[index]);
    return id;
  }

  void take_found(const ScannedAdapter& adapter) {
    if (Result<Unit> good = check_adapter_name(adapter.name); !good) {
      writer_.fail_with(std::move(good.error()));
      return;
    }
    const auto found = known_.find(adapter.name);
    if (found == known_.end()) {
      outcome_.added.push_back(writer_.add(adapter, shape_id(adapter.shape), source_));
      return;
    }
    KnownRow& known = found->second;
    bool is_ours = known.source == source_;
    if (!is_ours && known.state == AdapterState::kAvailable) {
      const std::string old = directory_of(known);
      is_ours = old == adapter.facts.directory || (is_gone_ && is_gone_(old));
      if (!is_ours) return clash(adapter, old);
      left_.insert(known.source);
    }
    known.is_mentioned = true;
    const CatalogChange same{known.id, adapter.name, known.version};
    if (is_ours && known.stamp.same_files_remounted(adapter.facts.stamp)) {
      writer_.update_version(known, adapter.facts, shape_id(adapter.shape), source_);
      take_same(known, same);
      return;
    }
    CatalogChange change = writer_.add_version(known, adapter, shape_id(adapter.shape), source_);
    auto& list = known.state == AdapterState::kAvailable ? outcome_.changed : outcome_.returned;
    list.push_back(std::move(change));
  }

  void clash(const ScannedAdapter& adapter, const std::string& other) {
    outcome_.rejected.push_back(
        {adapter.name,
         adapter.facts.directory,
         Errc::kInvalid,
         fmt::format("{}: {}, of the same catalog, is an adapter of this name: rename "
                     "one, or give each directory a catalog of its own",
                     adapter.facts.directory, other),
         {}});  // no stamp: free as soon as the other is gone
  }

  void take_unchanged(const std::string& name) {
    const auto found = known_.find(name);
    // Otherwise another process has changed the catalog since it was read: its word is the later one.
    if (found == known_.end() || found->second.source != source_) return;
    found->second.is_mentioned = true;
    take_same(found->second, {found->second.id, name, found->second.version});
  }

  void take_same(const KnownRow& known, const CatalogChange& same) {
    if (known.state == AdapterState::kVanished) {
      writer_.set_state(known, AdapterState::kAvailable);
      outcome_.returned.push_back(same);
    } else {
      ++outcome_.unchanged;  // what was removed stays removed as long as its files are those of then
    }
  }

  void take_rejected(const Rejection& rejection) {
    const auto found = known_.find(rejection.name);
    if (found == known_.end() || found->second.source != source_) return;
    found->second.is_mentioned = true;
    if (rejection.code == Errc::kIo) return;
    // Its files may be those of the known version, refused by other rules: their stamp proves nothing.
    writer_.distrust_stamp(found->second);
    vanish(rejection.name, found->second);
  }

  void vanish(const std::string& name, const KnownRow& known) {
    if (known.state != AdapterState::kAvailable) return;
    writer_.set_state(known, AdapterState::kVanished);
    outcome_.vanished.push_back({known.id, name, known.version});
  }

  [[nodiscard]] std::vector<const std::string*> absent() const {
    std::vector<const std::string*> names;
    for (const auto& [name, known] : known_)
      if (known.source == source_ && !known.is_mentioned) names.push_back(&name);
    return names;
  }

  /// The table holds this scan's rejections; those that are as before are not written again.
  Result<Unit> write_rejections() {
    struct Before {
      Errc code;
      std::string reason;
      AdapterStamp stamp;
      std::int64_t since;
    };
    std::map<std::string, Before, std::less<>> before;
    {
      static const std::string kSql = fmt::format(
          "SELECT name, code, reason, since, {} FROM rejections WHERE source = ?", catalog::kStampColumns);
      sqlite::Query row = database_.query(kSql);
      row.bind(source_);
      for (;;) {
        Result<bool> more = row.next();
        if (!more) return fail(std::move(more.error()));
        if (!*more) break;
        before.emplace(row.text(0), Before{static_cast<Errc>(row.integer(1)), std::string(row.text(2)),
                                           catalog::read_stamp(row, 4), row.integer(3)});
      }
    }
    for (const Rejection& rejection : outcome_.rejected) {
      const auto known = before.find(rejection.name);
      std::int64_t since = scan_.now_unix_s;
      if (known != before.end()) {
        const Before& old = known->second;
        const bool same_reason = old.code == rejection.code && old.reason == rejection.reason;
        if (same_reason) since = old.since;
        const bool same = same_reason && old.stamp.same_files(rejection.stamp) &&
                          old.stamp.taken_unix_s == rejection.stamp.taken_unix_s;
        before.erase(known);
        if (same) continue;
      }
      writer_.write_rejection(source_, rejection, since);
    }
    for (const auto& [name, old] : before) writer_.drop_rejection(source_, name);
    return Unit{};
  }

  sqlite::Database& database_;
  const ScanResult& scan_;
  const Catalog::IsGone& is_gone_;
  Writer writer_;
  std::int64_t source_ = 0;
  std::set<std::int64_t> left_;  // sources that adapters have moved away from
  std::unordered_map<std::string, KnownRow> known_;
  std::vector<std::int64_t> shape_ids_;  // [scan_.shapes]; 0: not looked up yet
  ApplyOutcome outcome_;
};

Result<KnownRow> find_known(sqlite::Database& database, std::string_view name) {
  static const std::string kSql = fmt::format(kKnownSql, catalog::kStampColumns) + " WHERE a.name = ?";
  sqlite::Query row = database.query(kSql);
  Result<bool> found = row.bind(name).next();
  if (!found) return fail(std::move(found.error()));
  if (!*found) return fail(catalog::unknown_name(database, name));
  return known_row(row);
}

bool is_digest(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

Result<ApplyOutcome> Catalog::apply(const ScanResult& scan, const IsGone& is_gone) {
  if (kind() != CatalogKind::kStorage) {
    return fail(Errc::kInvalid,
                fmt::format("{}: scans fill catalogs of kind storage, this one's kind is {}: add "
                            "adapters one by one",
                            path(), loracle::name_of(kind())));
  }
  const std::lock_guard lock(state_->mutex);
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  Result<ApplyOutcome> outcome = Application(state_->database, scan, is_gone).run();
  if (!outcome) return outcome;
  if (Result<Unit> committed = transaction->commit(); !committed) return fail(std::move(committed.error()));
  return outcome;
}

Result<CatalogChange> Catalog::add(const ScannedAdapter& adapter, const AdapterShape& shape,
                                   std::string_view source, std::int64_t now_unix_s) {
  if (Result<Unit> good = check_adapter_name(adapter.name); !good) return fail(std::move(good.error()));
  const std::lock_guard lock(state_->mutex);
  sqlite::Database& database = state_->database;
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  Writer writer(database, now_unix_s);
  const std::int64_t source_id = writer.source_without_scan(catalog::root_of(source));
  const std::int64_t shape_id = writer.shape(shape);
  CatalogChange change;
  Result<KnownRow> known = find_known(database, adapter.name);
  if (!known && known.error().code != Errc::kNotFound) return fail(std::move(known.error()));
  if (!known) {
    change = writer.add(adapter, shape_id, source_id);
  } else if (known->source == source_id && known->stamp.same_files_remounted(adapter.facts.stamp)) {
    writer.update_version(*known, adapter.facts, shape_id, source_id);
    if (known->state != AdapterState::kAvailable) writer.set_state(*known, AdapterState::kAvailable);
    change = {known->id, adapter.name, known->version};
  } else {
    change = writer.add_version(*known, adapter, shape_id, source_id);
  }
  if (writer.failed()) return fail(std::move(writer.error()));
  if (Result<Unit> committed = transaction->commit(); !committed) return fail(std::move(committed.error()));
  return change;
}

Result<Unit> Catalog::remove(std::string_view name, std::int64_t now_unix_s) {
  const std::lock_guard lock(state_->mutex);
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  Result<KnownRow> known = find_known(state_->database, name);
  if (!known) return fail(std::move(known.error()));
  if (known->state == AdapterState::kRemoved) return Unit{};
  Writer writer(state_->database, now_unix_s);
  writer.set_state(*known, AdapterState::kRemoved);
  writer.forget_places(known->id);
  if (writer.failed()) return fail(std::move(writer.error()));
  return transaction->commit();
}

Result<Unit> Catalog::restore(std::string_view name, std::int64_t now_unix_s) {
  const std::lock_guard lock(state_->mutex);
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  Result<KnownRow> known = find_known(state_->database, name);
  if (!known) return fail(std::move(known.error()));
  if (known->state == AdapterState::kVanished)
    return fail(Errc::kInvalid,
                fmt::format("'{}' was not removed, its files vanished: put them back and refresh", name));
  if (known->state != AdapterState::kRemoved) return Unit{};
  Writer writer(state_->database, now_unix_s);
  writer.set_state(*known, AdapterState::kAvailable);
  if (writer.failed()) return fail(std::move(writer.error()));
  return transaction->commit();
}

Result<Unit> Catalog::set_digest(LoraId id, std::uint32_t version, const ContentDigest& digest) {
  if (!is_digest(digest.config) || !is_digest(digest.weights))
    return fail(Errc::kInvalid, fmt::format("{}: a digest is 64 lower-case hex digits, not '{}' and '{}'",
                                            path(), digest.config, digest.weights));
  const std::lock_guard lock(state_->mutex);
  Result<sqlite::Transaction> transaction = state_->begin_change();
  if (!transaction) return fail(std::move(transaction.error()));
  if (Result<Unit> set = state_->database
                             .query("UPDATE versions SET config_digest = ?, weights_digest = ? "
                                    "WHERE adapter = ? AND number = ?")
                             .bind(digest.config)
                             .bind(digest.weights)
                             .bind(std::int64_t{id.value})
                             .bind(std::int64_t{version})
                             .run();
      !set)
    return set;
  if (state_->database.changes() == 0) {
    return fail(Errc::kNotFound, fmt::format("{}: adapter {} has no version {}", path(), id.value, version));
  }
  return transaction->commit();
}

}  // namespace loracle
