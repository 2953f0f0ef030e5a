#pragma once
/// What the parts of the catalog share: its connection, and how facts become columns.

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "catalog/sqlite.hpp"
#include "loracle/core/result.hpp"
#include "loracle/engine/catalog.hpp"

namespace loracle {

struct Catalog::State {
  sqlite::Database database;
  CatalogKind kind;
  bool read_only;
  std::mutex mutex;  // taken by every member of Catalog

  State(sqlite::Database opened, CatalogKind of, bool only_read)
      : database(std::move(opened)), kind(of), read_only(only_read) {}
  /// kInvalid if this catalog was opened for reading. With the transaction that every change needs.
  [[nodiscard]] Result<sqlite::Transaction> begin_change();
};

namespace catalog {

/// A root as it is stored and compared: without trailing slashes.
[[nodiscard]] std::string root_of(std::string_view root);
[[nodiscard]] std::string rules_json(const AdapterRules& rules);
[[nodiscard]] std::string texts_json(const std::vector<std::string>& texts);
[[nodiscard]] std::string modules_json(const std::vector<ShapeModule>& modules);
// Errors: kCorrupt; `where` begins the message.
[[nodiscard]] Result<AdapterRules> parse_rules(std::string_view text, const std::string& where);
[[nodiscard]] Result<std::vector<std::string>> parse_texts(std::string_view text, const std::string& where);
[[nodiscard]] Result<std::vector<ShapeModule>> parse_modules(std::string_view text, const std::string& where);

/// The eleven columns of a stamp, in the order of the schema: weights, config, when.
inline constexpr std::string_view kStampColumns =
    "weights_size, weights_mtime, weights_ctime, weights_inode, weights_device, "
    "config_size, config_mtime, config_ctime, config_inode, config_device, stamped";
void bind_stamp(sqlite::Query& query, const AdapterStamp& stamp);
[[nodiscard]] AdapterStamp read_stamp(const sqlite::Query& query, int first_column) noexcept;

[[nodiscard]] inline std::int64_t stored(std::uint64_t value) noexcept {
  return static_cast<std::int64_t>(value);
}
[[nodiscard]] inline std::uint64_t loaded(std::int64_t value) noexcept {
  return static_cast<std::uint64_t>(value);
}
[[nodiscard]] inline LoraId id_at(const sqlite::Query& query, int column) noexcept {
  return {static_cast<std::uint32_t>(query.integer(column))};
}
[[nodiscard]] inline std::uint32_t u32_at(const sqlite::Query& query, int column) noexcept {
  return static_cast<std::uint32_t>(query.integer(column));
}

/// kNotFound, naming the catalog and the id.
[[nodiscard]] Error unknown_id(const sqlite::Database& database, LoraId id);
[[nodiscard]] Error unknown_name(const sqlite::Database& database, std::string_view name);

}  // namespace catalog
}  // namespace loracle
