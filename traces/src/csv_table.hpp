#pragma once
/// A delimited text table (RFC 4180, but for line breaks inside quotes, which are refused), a row at a time.
/// The delimiter is the one of `,` `;` and tab that the first line has most of (a tie goes to the first).
/// Every row has as many fields as the first line. Fields are trimmed of blanks unless quoted.
/// Memory: one line's fields. Errors: as text_reader.hpp says. Threads: one owner.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "text_reader.hpp"

namespace loracle {

struct CsvField {
  std::string_view text;
  std::size_t at = 0;  // where it begins in its line
};

class CsvTable {
 public:
  explicit CsvTable(TextReader& reader) : reader_(&reader) {}

  /// Reads the first line, sets delimiter and width, and keeps its fields as names.
  [[nodiscard]] Result<Unit> read_first_line();
  /// The column of this name (ASCII case ignored), or -1.
  [[nodiscard]] int find(std::string_view name) const noexcept;
  /// Like `find`; an error naming format and header when there is none.
  [[nodiscard]] Result<int> require(std::string_view name, std::string_view format) const;
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  /// Steps to the next row; bad lines are settled here. False at the end.
  [[nodiscard]] Result<bool> next();
  /// Field of the present row; empty for column -1.
  [[nodiscard]] CsvField operator[](int column) const noexcept {
    return column < 0 ? CsvField{} : fields_[static_cast<std::size_t>(column)];
  }

 private:
  [[nodiscard]] LineCheck split(std::string_view line);

  TextReader* reader_;
  char delimiter_ = ',';
  std::vector<std::string> names_;
  std::vector<CsvField> fields_;
  std::string scratch_;  // quoted fields that held doubled quotes
};

}  // namespace loracle
