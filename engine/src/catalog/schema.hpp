#pragma once
/// The catalog's tables, as the steps that lead from each version of them to the next.

#include <cstdint>
#include <span>

#include "catalog/sqlite.hpp"
#include "loracle/core/result.hpp"

namespace loracle {

/// Marks the file as a catalog of ours (PRAGMA application_id): "LrCt".
inline constexpr std::int64_t kCatalogApplicationId = 0x4C724374;

/// Step i leads from user_version i to i + 1. A step that was ever released is never edited.
[[nodiscard]] std::span<const char* const> catalog_migrations() noexcept;

/// Brings the tables up to date, each step in a transaction of its own. Errors: kInvalid (a database of
/// something else), kUnsupported (from a later loracle).
[[nodiscard]] Result<Unit> migrate_catalog(sqlite::Database& database);
/// The same questions where nothing may be written: an older catalog is kUnsupported, an empty file kCorrupt.
[[nodiscard]] Result<Unit> check_catalog_version(sqlite::Database& database);

}  // namespace loracle
