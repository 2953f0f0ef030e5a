#pragma once
/// SQLite's handles owned, its errors as Results. Nothing else in the engine calls SQLite.
///
/// Threads: one at a time; the connection has no lock of its own.
/// Errors: kBusy, kIo, kCorrupt, kTooLarge, kNotFound, kInvalid by SQLite's code, which is `detail`; the
/// message names the file and says what to do.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace loracle::sqlite {

/// A statement borrowed from its database's cache: reset when this is gone. One of a text at a time.
class Query {
 public:
  /// Parameters are bound in order, and all again after `run`. Text is copied.
  Query& bind(std::int64_t value);
  Query& bind(double value);
  Query& bind(std::string_view value);
  Query& bind_null();
  /// True: a row is there.
  [[nodiscard]] Result<bool> next();
  /// To the end, dropping rows; ready to be bound again.
  [[nodiscard]] Result<Unit> run();

  // REQUIRES: next() answered true. Columns count from 0.
  [[nodiscard]] std::int64_t integer(int column) const noexcept;
  [[nodiscard]] double real(int column) const noexcept;
  /// Until the next call of next or run. Empty for NULL.
  [[nodiscard]] std::string_view text(int column) const noexcept;

  Query(Query&& other) noexcept;
  Query& operator=(Query&&) = delete;
  ~Query();

 private:
  friend class Database;
  Query(class Database& database, sqlite3_stmt* statement, Error error) noexcept;
  void keep(int code) noexcept;
  void reset() noexcept;

  class Database* database_;
  sqlite3_stmt* statement_;  // null where preparing failed; `error_` says why
  Error error_;
  int bind_code_ = 0;
  int bound_ = 0;
};

enum class Access : std::uint8_t { kReadOnly, kWrite, kCreate };

class Database {
 public:
  [[nodiscard]] static Result<Database> open(const std::string& path, Access access,
                                             std::uint32_t busy_timeout_ms);
  /// Statements without parameters or rows; several at once.
  [[nodiscard]] Result<Unit> execute(const char* sql);
  /// Compiled once a text. What is wrong with it is told by next and run.
  [[nodiscard]] Query query(std::string_view sql);
  /// The first column of the first row. kNotFound if there is none.
  [[nodiscard]] Result<std::int64_t> integer(std::string_view sql);
  [[nodiscard]] std::int64_t last_insert_id() const noexcept;
  [[nodiscard]] std::int64_t changes() const noexcept;
  [[nodiscard]] bool in_transaction() const noexcept;
  [[nodiscard]] bool is_read_only() const noexcept;
  /// The error SQLite reported last, as ours.
  [[nodiscard]] Error error(int code) const;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* handle) const noexcept;
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept;
  };
  Database(std::unique_ptr<sqlite3, Close> handle, std::string path, std::uint32_t busy_timeout_ms) noexcept;

  std::string path_;
  std::uint32_t busy_timeout_ms_ = 0;
  std::unique_ptr<sqlite3, Close> handle_;
  std::map<std::string, std::unique_ptr<sqlite3_stmt, Finalize>, std::less<>> statements_;  // go first
};

/// Everything from here to `commit` is one change, or none of it is made.
class Transaction {
 public:
  /// Takes the write lock, waiting for it.
  [[nodiscard]] static Result<Transaction> begin(Database& database);
  /// For several reads of one state; takes no lock that others wait for.
  [[nodiscard]] static Result<Transaction> snapshot(Database& database);
  [[nodiscard]] Result<Unit> commit();
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

 private:
  explicit Transaction(Database& database) noexcept;
  Database* database_;
};

/// Waits; for retries where SQLite does not wait by itself.
void sleep_ms(int milliseconds) noexcept;

}  // namespace loracle::sqlite
