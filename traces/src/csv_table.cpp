#include "csv_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "near_name.hpp"
#include "parse_values.hpp"

namespace loracle {
namespace {

char likeliest_delimiter(std::string_view line) {
  constexpr std::array<char, 3> kDelimiters = {',', ';', '\t'};
  std::array<std::size_t, 3> count = {};
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    for (std::size_t i = 0; i < kDelimiters.size(); ++i)
      if (!quoted && c == kDelimiters[i]) ++count[i];
  }
  return kDelimiters[static_cast<std::size_t>(std::max_element(count.begin(), count.end()) - count.begin())];
}

}  // namespace

LineCheck CsvTable::split(std::string_view line) {
  fields_.clear();
  scratch_.clear();
  scratch_.reserve(line.size());  // decoding only shortens, so views into it stay
  std::size_t at = 0;
  for (;;) {
    // Blanks before a quote belong to the delimiter; a tab may be the delimiter itself.
    while (at < line.size() && line[at] != delimiter_ && (line[at] == ' ' || line[at] == '\t')) ++at;
    if (at < line.size() && line[at] == '"') {
      const std::size_t open = at++;
      const std::size_t scratch_begin = scratch_.size();
      for (;; ++at) {
        if (at == line.size())
          return LineFault{open, "the quote is not closed on its line",
                           "close it; a field cannot hold a line break"};
        if (line[at] == '"') {
          if (at + 1 == line.size() || line[at + 1] != '"') break;
          ++at;
        }
        scratch_.push_back(line[at]);
      }
      ++at;
      while (at < line.size() && line[at] != delimiter_ && (line[at] == ' ' || line[at] == '\t')) ++at;
      if (at < line.size() && line[at] != delimiter_)
        return LineFault{at, "something follows a closing quote", "double the quotes inside a field"};
      fields_.push_back({std::string_view(scratch_).substr(scratch_begin), open});
    } else {
      const std::size_t begin = at;
      at = std::min(line.find(delimiter_, at), line.size());
      fields_.push_back({trim(line.substr(begin, at - begin)), begin});
    }
    if (at == line.size()) return std::nullopt;
    ++at;
  }
}

Result<Unit> CsvTable::read_first_line() {
  const Result<bool> more = reader_->next();
  if (!more) return fail(more.error());
  if (!*more) {
    const Result<Trace> none = reader_->finish();  // says what is wrong with a file without lines
    return fail(none.error());
  }
  delimiter_ = likeliest_delimiter(reader_->line());
  const LineCheck check = split(reader_->line());
  if (check) return reader_->refuse(*check);
  names_.clear();
  for (const CsvField& field : fields_) names_.emplace_back(field.text);
  return Unit{};
}

int CsvTable::find(std::string_view name) const noexcept {
  for (std::size_t i = 0; i < names_.size(); ++i)
    if (equal_ignoring_case(names_[i], name)) return static_cast<int>(i);
  return -1;
}

Result<int> CsvTable::require(std::string_view name, std::string_view format) const {
  const int column = find(name);
  if (column >= 0) return column;
  return reader_->refuse({0, fmt::format("no column '{}' in the header ({})", name, excerpt(reader_->line())),
                          fmt::format("is this a file of format {}?{}", format, did_you_mean(name, names_))});
}

Result<bool> CsvTable::next() {
  for (;;) {
    Result<bool> more = reader_->next();
    if (!more || !*more) return more;
    LineCheck check = split(reader_->line());
    if (!check && fields_.size() != names_.size())
      check =
          LineFault{0, fmt::format("{} fields, where the first line has {}", fields_.size(), names_.size()),
                    "complete the line; a delimiter inside a field needs quotes"};
    if (!check) return true;
    const Result<Unit> settled = reader_->settle(check);
    if (!settled) return fail(settled.error());
  }
}

}  // namespace loracle
