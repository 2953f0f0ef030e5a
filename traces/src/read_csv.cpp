/// Any delimited table with a column map (ReadOptions::columns): `our field=column`, by 0-based number or
/// header name, separated by commas. Fields: adapter (several in a cell, separated by `|`), arrival_s
/// (seconds, an epoch number or a date), input_tokens, output_tokens, tenant, duration_s or duration_ms,
/// session, client, bytes and rank (facts of the row's adapter); and `header=yes` or `header=no`. Without a
/// map, columns named like our fields are taken. Whether there is a header, when not said: yes if the map
/// uses names; else yes if the first line has no number where the map wants one, or a cell of the map reads
/// like a column's name.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "csv_table.hpp"
#include "near_name.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

enum Field : std::size_t {
  kAdapter,
  kArrival,
  kInput,
  kOutput,
  kTenant,
  kDuration,
  kSession,
  kClient,
  kBytes,
  kRank,
  kDurationMs,
  kFields
};

const std::vector<std::string>& field_names() {
  static const std::vector<std::string> names = {"adapter", "arrival_s",  "input_tokens", "output_tokens",
                                                 "tenant",  "duration_s", "session",      "client",
                                                 "bytes",   "rank",       "duration_ms"};
  return names;
}

constexpr bool is_numeric(std::size_t field) noexcept {
  return field == kArrival || field == kInput || field == kOutput || field == kDuration || field == kBytes ||
         field == kRank || field == kDurationMs;
}

bool reads_like_a_column_name(std::string_view cell) {
  constexpr std::array<std::string_view, 12> kWords = {"lora",         "lora_id", "lora_name", "adapter_id",
                                                       "adapter_name", "model",   "key",       "id",
                                                       "name",         "obj_id",  "tenant_id", "user"};
  const auto is_cell = [cell](std::string_view word) { return equal_ignoring_case(cell, word); };
  return std::any_of(kWords.begin(), kWords.end(), is_cell) ||
         std::any_of(field_names().begin(), field_names().end(), is_cell);
}

/// The column map as it is written, before the first line of the file is known.
struct ColumnMap {
  std::array<std::string, kFields> column;  // number or name; empty: not in the file
  std::optional<bool> header;
};

Result<ColumnMap> parse_column_map(std::string_view text) {
  ColumnMap map;
  const auto refuse = [text](const std::string& what) {
    return fail(Errc::kInvalid, fmt::format("columns '{}': {}", text, what));
  };
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
    const std::size_t equals = entry.find('=');
    const std::string_view field = trim(entry.substr(0, equals));
    const std::string_view column =
        equals == std::string_view::npos ? std::string_view() : trim(entry.substr(equals + 1));
    if (column.empty())
      return refuse(fmt::format("'{}' names no column: write field=column, such as adapter=2", entry));
    if (field == "header") {
      if (column != "yes" && column != "no") return refuse(fmt::format("header={}: give yes or no", column));
      map.header = column == "yes";
      continue;
    }
    const auto known = std::find(field_names().begin(), field_names().end(), field);
    if (known == field_names().end())
      return refuse(fmt::format("no field '{}'{}: the fields are {}", field,
                                did_you_mean(field, field_names()), join_names(field_names())));
    map.column[static_cast<std::size_t>(known - field_names().begin())] = column;
  }
  return map;
}

using Columns = std::array<int, kFields>;  // -1: not in the file

class CsvTrace {
 public:
  explicit CsvTrace(TextReader& reader) : reader_(&reader), table_(reader) { columns_.fill(-1); }

  [[nodiscard]] Result<Trace> read() {
    Result<ColumnMap> map = parse_column_map(reader_->options().columns);
    if (!map) return fail(map.error());
    const Result<Unit> first_line = table_.read_first_line();
    if (!first_line) return fail(first_line.error());
    const Result<Unit> resolved = resolve(*map);
    if (!resolved) return fail(resolved.error());
    const Result<Unit> mapped = choose_adapter_column();
    if (!mapped) return fail(mapped.error());
    if (!map->header) map->header = looks_like_header();
    bool have_row = !*map->header;  // the first line is a row like any other
    for (;;) {
      if (!have_row) {
        const Result<bool> more = table_.next();
        if (!more) return fail(more.error());
        if (!*more) break;
      }
      have_row = false;
      const Result<Unit> settled = reader_->settle(take_row());
      if (!settled) return fail(settled.error());
    }
    if (clock_.is_absolute()) reader_->builder().count_from_earliest();
    return reader_->finish();
  }

 private:
  /// Finds the map's columns in the first line.
  [[nodiscard]] Result<Unit> resolve(ColumnMap& map) {
    bool any = false;
    for (std::size_t field = 0; field < kFields; ++field) {
      std::string& column = map.column[field];
      if (reader_->options().columns.empty()) {
        columns_[field] = table_.find(field_names()[field]);
        if (columns_[field] >= 0) map.header = true;
      } else if (!column.empty()) {
        const std::optional<std::uint64_t> number = parse_count(column);
        const std::size_t width = table_.names().size();
        if (number && *number >= width)
          return reader_->refuse(
              {0, fmt::format("no column {}: the first line has {}", *number, width),
               fmt::format("give {} a number from 0 to {}", field_names()[field], width - 1)});
        columns_[field] = number ? static_cast<int>(*number) : table_.find(column);
        if (columns_[field] < 0)
          return reader_->refuse(
              {0, fmt::format("no column '{}' in the header ({})", column, excerpt(reader_->line())),
               fmt::format("give a name of the header or a number{}", did_you_mean(column, table_.names()))});
        if (!number && map.header == false)
          return reader_->refuse({0, fmt::format("column '{}' is given by name, with header=no", column),
                                  "give its number, or header=yes"});
        if (!number) map.header = true;
      }
      any = any || columns_[field] >= 0;
    }
    if (columns_[kDuration] >= 0 && columns_[kDurationMs] >= 0)
      return reader_->refuse({0, "both duration_s and duration_ms", "name one of them in a column map"});
    if (any) return Unit{};
    return reader_->refuse({0, fmt::format("no column has a name of ours ({})", excerpt(reader_->line())),
                            fmt::format("give a column map, such as adapter=0,arrival_s=1; the fields are {}",
                                        join_names(field_names()))});
  }

  /// Which column the mapping takes adapters from; -1 where it is filled in afterwards.
  [[nodiscard]] Result<Unit> choose_adapter_column() {
    Field field = kAdapter;
    switch (reader_->mapping().kind) {
      case MappingKind::kLora:
        field = kAdapter;
        break;
      case MappingKind::kTenant:
        field = kTenant;
        break;
      case MappingKind::kClient:
        field = kClient;
        break;
      case MappingKind::kSession:
        field = kSession;
        break;
      case MappingKind::kZipf:
      case MappingKind::kPower:
        return Unit{};
    }
    adapter_field_ = columns_[field];
    if (adapter_field_ >= 0) return Unit{};
    return reader_->refuse(
        {0,
         fmt::format("mapping '{}' needs a column for {}", name_of(reader_->mapping().kind),
                     field_names()[field]),
         fmt::format("add {}=COLUMN to the column map, or choose another mapping", field_names()[field])});
  }

  [[nodiscard]] bool looks_like_header() const {
    for (std::size_t field = 0; field < kFields; ++field) {
      if (columns_[field] < 0) continue;
      const std::string& cell = table_.names()[static_cast<std::size_t>(columns_[field])];
      if (reads_like_a_column_name(cell)) return true;
      if (is_numeric(field) && !cell.empty() && !parse_number(cell) && !parse_iso_ns(cell)) return true;
    }
    return false;
  }

  [[nodiscard]] LineCheck take_row() {
    draft_.clear();
    const CsvField arrival = table_[columns_[kArrival]];
    if (columns_[kArrival] >= 0) {
      draft_.arrival_s = clock_.seconds(arrival.text);
      if (!draft_.arrival_s)
        return LineFault{arrival.at, fmt::format("arrival_s is '{}'", excerpt(arrival.text)),
                         "give seconds from 0, an epoch number or a date, of one kind throughout"};
    }
    for (const auto& [field, tokens] :
         {std::pair<Field, std::optional<std::uint32_t>*>{kInput, &draft_.input_tokens},
          {kOutput, &draft_.output_tokens}}) {
      const CsvField cell = table_[columns_[field]];
      if (cell.text.empty()) continue;
      if (LineCheck check = check_tokens(cell.text, field_names()[field], cell.at, *tokens)) return check;
    }
    for (const auto& [field, unit_s] : {std::pair(kDuration, 1.0), {kDurationMs, 1e-3}}) {
      const CsvField cell = table_[columns_[field]];
      if (cell.text.empty()) continue;
      double duration = 0;
      if (LineCheck check = check_seconds(cell.text, field_names()[field], cell.at, duration)) return check;
      draft_.duration_s = static_cast<float>(duration * unit_s);
    }
    const CsvField tenant = table_[columns_[kTenant]];
    if (!tenant.text.empty()) {
      if (LineCheck check = check_name(tenant.text, "tenant", tenant.at)) return check;
      draft_.tenant = tenant.text;
    }
    if (LineCheck check = take_adapters()) return check;
    std::uint64_t bytes = 0;
    std::uint64_t rank = 0;
    if (LineCheck check = take_fact(kBytes, std::numeric_limits<std::uint64_t>::max(), bytes)) return check;
    if (LineCheck check = take_fact(kRank, std::numeric_limits<std::uint16_t>::max(), rank)) return check;
    if (LineCheck check = reader_->add(draft_)) return check;
    if (draft_.adapters.size() == 1 && (bytes != 0 || rank != 0))
      reader_->builder().describe(draft_.adapters[0], bytes, static_cast<std::uint16_t>(rank));
    return std::nullopt;
  }

  [[nodiscard]] LineCheck take_adapters() {
    const CsvField cell = table_[adapter_field_];
    if (cell.text.empty()) return std::nullopt;
    const MappingKind kind = reader_->mapping().kind;
    std::size_t begin = 0;
    while (begin <= cell.text.size()) {
      const bool is_list = kind == MappingKind::kLora;
      const std::size_t end =
          std::min(is_list ? cell.text.find('|', begin) : cell.text.size(), cell.text.size());
      const std::string_view name = cell.text.substr(begin, end - begin);
      if (LineCheck check = check_name(name, "adapter", cell.at + begin)) return check;
      draft_.adapters.push_back(kind == MappingKind::kSession ? reader_->adapter_of_session(name) : name);
      begin = end + 1;
    }
    return std::nullopt;
  }

  [[nodiscard]] LineCheck take_fact(Field field, std::uint64_t limit, std::uint64_t& value) {
    const CsvField cell = table_[columns_[field]];
    if (cell.text.empty()) return std::nullopt;
    const std::optional<std::uint64_t> count = parse_count(cell.text);
    if (!count || *count > limit)
      return LineFault{cell.at, fmt::format("{} is '{}'", field_names()[field], excerpt(cell.text)),
                       fmt::format("give a whole number, 0 to {}", limit)};
    value = *count;
    return std::nullopt;
  }

  TextReader* reader_;
  CsvTable table_;
  Columns columns_;
  int adapter_field_ = -1;
  ArrivalClock clock_;
  RequestDraft draft_;
};

}  // namespace

Result<Trace> read_csv(ByteSource& source, const std::string& path, const ReadOptions& options,
                       const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  return CsvTrace(reader).read();
}

}  // namespace loracle
