#pragma once
/// Names, persistent ids and rows: an adapter has a row from its first use on, in the order of first uses, as
/// in a trace. Facts are columns over rows.
///
/// A name whose content was replaced gets another row; the old one lives on, nameless, until nobody uses it.
/// A row comes back into use only when all others are taken. Threads: one owner.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"
#include "serving/adapter_source.hpp"

namespace loracle {

class AdapterRows {
 public:
  explicit AdapterRows(std::uint32_t rows_max)
      : source_(rows_max), name_(rows_max), live_(rows_max, 0), uses_(rows_max, 0), told_(rows_max, 0) {
    table_.size.assign(rows_max, Bytes{1});
    by_name_.max_load_factor(0.25F);  // found on every request: short chains
    by_name_.reserve(rows_max);
  }

  [[nodiscard]] std::uint32_t rows_max() const noexcept { return static_cast<std::uint32_t>(name_.size()); }
  [[nodiscard]] const AdapterTable& table() const noexcept { return table_; }

  /// Makes a name known, or gives it new content: its row, if it had one, is answered and has no name then.
  std::optional<Row> know(std::string_view name, AdapterSource source);
  /// The row that has lost its name, if it had one; nullopt also if the name was not known: ask `find` first.
  std::optional<Row> forget(std::string_view name);

  [[nodiscard]] const AdapterSource* find(std::string_view name) const;
  /// The row of a name that has one; kNoRow otherwise.
  [[nodiscard]] Row row_of(std::string_view name) const noexcept {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? kNoRow : found->second;
  }
  /// Gives a known name a row. `idle(row)` tells which rows may be taken from their names when all are taken;
  /// kNoRow if none. REQUIRES: known, without a row.
  [[nodiscard]] Row assign(std::string_view name, const std::function<bool(Row)>& idle);
  /// Uses up a row without giving it to anybody. REQUIRES: fewer than rows_max were given out.
  void skip_row() noexcept { ++next_; }
  /// The row may be given out again. REQUIRES: nameless, used by nobody.
  void recycle(Row row);

  [[nodiscard]] const AdapterSource& source(Row row) const noexcept { return source_[index_of(row)]; }
  [[nodiscard]] const std::string& name(Row row) const noexcept { return name_[index_of(row)]; }
  [[nodiscard]] std::uint64_t& uses(Row row) noexcept { return uses_[index_of(row)]; }
  [[nodiscard]] std::uint64_t uses(Row row) const noexcept { return uses_[index_of(row)]; }

  /// New facts of the same content, where it lies for one: its row stays. REQUIRES: known.
  void describe(std::string_view name, const AdapterSource& source);
  /// Uses since the last call, by the name they were of; also of names that have lost their row since.
  [[nodiscard]] std::map<std::string, std::uint64_t, std::less<>> take_uses();
  /// They could not be told: the next call tells them.
  void put_back_uses(const std::map<std::string, std::uint64_t, std::less<>>& uses);

  /// Grows whenever a name, or what is said of one, has changed.
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }
  /// All names, sorted.
  [[nodiscard]] const std::map<std::string, AdapterSource, std::less<>>& known() const noexcept {
    return known_;
  }

 private:
  struct Hash {
    using is_transparent = void;  // NOLINT(readability-identifier-naming): the standard's name
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };
  void detach(Row row);
  void set_untold_aside(Row row);

  AdapterTable table_;
  std::uint64_t changes_ = 0;
  std::map<std::string, AdapterSource, std::less<>> known_;
  std::unordered_map<std::string, Row, Hash, std::equal_to<>> by_name_;
  std::vector<AdapterSource> source_;                         // [rows]
  std::vector<std::string> name_;                             // [rows]
  std::vector<std::uint8_t> live_;                            // [rows] has a name
  std::vector<std::uint64_t> uses_;                           // [rows] since the row was given its name
  std::vector<std::uint64_t> told_;                           // [rows] of uses_: taken
  std::map<std::string, std::uint64_t, std::less<>> untold_;  // of rows that have other names now
  std::vector<Row> free_;                                     // a stack
  std::uint32_t next_ = 0;                                    // no row from here on was ever given out
  std::uint32_t hand_ = 0;                                    // where the search for an idle row goes on
};

}  // namespace loracle
