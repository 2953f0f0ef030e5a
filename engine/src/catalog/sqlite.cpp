#include "catalog/sqlite.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

namespace loracle::sqlite {
namespace {

/// What a person should do about it, and what a caller can.
std::pair<Errc, std::string_view> meaning_of(int extended) noexcept {
  switch (extended & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {Errc::kBusy, "another process is writing to it: try again, or wait longer"};
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return {Errc::kIo,
              "it may only be read: give write permission to it and its directory, or open it for "
              "reading"};
    case SQLITE_FULL:
      return {Errc::kIo, "the disk is full: make room; nothing was changed"};
    case SQLITE_IOERR:
      return {Errc::kIo, "the disk refused: look at its health and free space; nothing was changed"};
    case SQLITE_CANTOPEN:
      return {Errc::kIo, "look at the path and its permissions; the directory must be writable too"};
    case SQLITE_CORRUPT:
      return {Errc::kCorrupt,
              "the file is damaged: restore a copy, or move it away and scan anew (ids are then "
              "dealt out anew)"};
    case SQLITE_NOTADB:
      return {Errc::kCorrupt, "it is no SQLite database: give the path of a catalog"};
    case SQLITE_TOOBIG:
      return {Errc::kTooLarge, "a value is too long to be stored"};
    case SQLITE_CONSTRAINT:
      return {Errc::kCorrupt, "the change contradicts what is stored: run `loracle catalog verify`"};
    default:
      return {Errc::kIo, "nothing was changed"};
  }
}

}  // namespace

// Query

Query::Query(Database& database, sqlite3_stmt* statement, Error error) noexcept
    : database_(&database), statement_(statement), error_(std::move(error)) {}

Query::Query(Query&& other) noexcept
    : database_(other.database_),
      statement_(std::exchange(other.statement_, nullptr)),
      error_(std::move(other.error_)),
      bind_code_(other.bind_code_),
      bound_(other.bound_) {}

Query::~Query() { reset(); }

void Query::reset() noexcept {
  if (statement_ == nullptr) return;
  ::sqlite3_reset(statement_);  // repeats the code of the step before; that was told then
  ::sqlite3_clear_bindings(statement_);
  bound_ = 0;
  bind_code_ = SQLITE_OK;
}

void Query::keep(int code) noexcept {
  if (bind_code_ == SQLITE_OK) bind_code_ = code;
}

Query& Query::bind(std::int64_t value) {
  if (statement_ != nullptr) keep(::sqlite3_bind_int64(statement_, ++bound_, value));
  return *this;
}

Query& Query::bind(double value) {
  if (statement_ != nullptr) keep(::sqlite3_bind_double(statement_, ++bound_, value));
  return *this;
}

Query& Query::bind(std::string_view value) {
  if (statement_ != nullptr) {
    // An empty view may have no address, and that would bind NULL.
    const char* const text = value.empty() ? "" : value.data();
    keep(::sqlite3_bind_text64(statement_, ++bound_, text, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  }
  return *this;
}

Query& Query::bind_null() {
  if (statement_ != nullptr) keep(::sqlite3_bind_null(statement_, ++bound_));
  return *this;
}

Result<bool> Query::next() {
  if (statement_ == nullptr) return fail(error_);
  if (bind_code_ != SQLITE_OK) return fail(database_->error(bind_code_));
  switch (const int code = ::sqlite3_step(statement_); code) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      return false;
    default:
      return fail(database_->error(code));
  }
}

Result<Unit> Query::run() {
  for (;;) {
    Result<bool> row = next();
    if (!row || !*row) reset();
    if (!row) return fail(std::move(row.error()));
    if (!*row) return Unit{};
  }
}

std::int64_t Query::integer(int column) const noexcept { return ::sqlite3_column_int64(statement_, column); }

double Query::real(int column) const noexcept { return ::sqlite3_column_double(statement_, column); }

std::string_view Query::text(int column) const noexcept {
  const unsigned char* const bytes = ::sqlite3_column_text(statement_, column);
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes),
          static_cast<std::size_t>(::sqlite3_column_bytes(statement_, column))};
}

// Database

void Database::Close::operator()(sqlite3* handle) const noexcept { ::sqlite3_close_v2(handle); }

void Database::Finalize::operator()(sqlite3_stmt* statement) const noexcept { ::sqlite3_finalize(statement); }

Database::Database(std::unique_ptr<sqlite3, Close> handle, std::string path,
                   std::uint32_t busy_timeout_ms) noexcept
    : path_(std::move(path)), busy_timeout_ms_(busy_timeout_ms), handle_(std::move(handle)) {}

Result<Database> Database::open(const std::string& path, Access access, std::uint32_t busy_timeout_ms) {
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  flags |= access == Access::kReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (access == Access::kCreate) flags |= SQLITE_OPEN_CREATE;
  // A file of this name is a file; some builds of SQLite would read a URI with options in it.
  const std::string name = path.starts_with("file:") ? "./" + path : path;
  sqlite3* raw = nullptr;
  const int code = ::sqlite3_open_v2(name.c_str(), &raw, flags, nullptr);
  Database database(std::unique_ptr<sqlite3, Close>(raw), path, busy_timeout_ms);
  if (code != SQLITE_OK) {
    Error error = database.error(code);
    if (error.code == Errc::kNotFound && access == Access::kCreate)
      error.message = fmt::format("{}: its directory does not exist: make it, or give another path", path);
    return fail(std::move(error));
  }
  constexpr auto kLongest = static_cast<std::uint32_t>(std::numeric_limits<int>::max());
  ::sqlite3_busy_timeout(raw, static_cast<int>(busy_timeout_ms < kLongest ? busy_timeout_ms : kLongest));
  // A table that some database brings along must not run code of its own choosing.
  ::sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  ::sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  return database;
}

Error Database::error(int code) const {
  if (handle_ == nullptr) return {Errc::kIo, fmt::format("{}: out of memory", path_), code};
  const int system = ::sqlite3_system_errno(handle_.get());
  auto [errc, advice] = meaning_of(code);
  const int primary = code & 0xFF;
  if (primary == SQLITE_CANTOPEN && (system == ENOENT || system == ENOTDIR)) {
    return {Errc::kNotFound, fmt::format("{}: there is no such catalog: scan a directory to make one", path_),
            code};
  }
  std::string what = ::sqlite3_errmsg(handle_.get());
  if ((primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN) && system != 0)
    what += fmt::format(" ({})", std::generic_category().message(system));
  if (primary == SQLITE_BUSY) what += fmt::format(" for {} ms", busy_timeout_ms_);
  return {errc, fmt::format("{}: {}: {}", path_, what, advice), code};
}

Result<Unit> Database::execute(const char* sql) {
  const int code = ::sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error(code));
  return Unit{};
}

Query Database::query(std::string_view sql) {
  auto known = statements_.find(sql);
  if (known == statements_.end()) {
    sqlite3_stmt* raw = nullptr;
    const int code = ::sqlite3_prepare_v3(handle_.get(), sql.data(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (code != SQLITE_OK) return {*this, nullptr, error(code)};
    known = statements_.emplace(sql, std::unique_ptr<sqlite3_stmt, Finalize>(raw)).first;
  }
  return {*this, known->second.get(), {}};
}

Result<std::int64_t> Database::integer(std::string_view sql) {
  Query found = query(sql);
  Result<bool> row = found.next();
  if (!row) return fail(std::move(row.error()));
  if (!*row) return fail(Errc::kNotFound, fmt::format("{}: no row answers `{}`", path_, sql));
  return found.integer(0);
}

std::int64_t Database::last_insert_id() const noexcept { return ::sqlite3_last_insert_rowid(handle_.get()); }

std::int64_t Database::changes() const noexcept { return ::sqlite3_changes64(handle_.get()); }

bool Database::in_transaction() const noexcept { return ::sqlite3_get_autocommit(handle_.get()) == 0; }

bool Database::is_read_only() const noexcept { return ::sqlite3_db_readonly(handle_.get(), "main") == 1; }

// Transaction

Transaction::Transaction(Database& database) noexcept : database_(&database) {}

Transaction::Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}

Result<Transaction> Transaction::begin(Database& database) {
  // IMMEDIATE: waits for the lock here, where waiting is safe, and not in the middle.
  if (Result<Unit> begun = database.execute("BEGIN IMMEDIATE"); !begun) return fail(std::move(begun.error()));
  return Transaction(database);
}

Result<Transaction> Transaction::snapshot(Database& database) {
  if (Result<Unit> begun = database.execute("BEGIN"); !begun) return fail(std::move(begun.error()));
  return Transaction(database);
}

Result<Unit> Transaction::commit() {
  Result<Unit> done = database_->execute("COMMIT");
  if (done) database_ = nullptr;
  return done;
}

Transaction::~Transaction() {
  // Some failures have rolled back already; then there is nothing to undo.
  if (database_ != nullptr && database_->in_transaction()) {
    const Result<Unit> undone = database_->execute("ROLLBACK");
    static_cast<void>(undone);  // it can only fail by having been done
  }
}

void sleep_ms(int milliseconds) noexcept { ::sqlite3_sleep(milliseconds); }

}  // namespace loracle::sqlite
