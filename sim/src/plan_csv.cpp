/// The JSON as one table. What JSON has, the CSV has too, today's members and tomorrow's, because it is made
/// from it: tables become rows under their own path, all else rows of its top-level member.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "loracle/sim/plan.hpp"

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;

/// As RFC 4180 quotes it. Text that a spreadsheet would take for a formula gets an apostrophe before it.
std::string field(std::string_view text) {
  static constexpr std::string_view kFormula = "=+-@\t\r\n";
  std::string out;
  if (!text.empty() && kFormula.find(text.front()) != std::string_view::npos) out += '\'';
  out += text;
  if (out.find_first_of(",\"\n\r") == std::string::npos) return out;
  std::string quoted = "\"";
  for (const char c : out) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string value_of(const Json& scalar) {
  if (scalar.is_null()) return "";
  if (scalar.is_boolean()) return scalar.get<bool>() ? "1" : "0";
  return scalar.is_string() ? field(scalar.get<std::string>()) : scalar.dump();
}

std::string joined(std::string_view path, std::string_view name) {
  if (path.empty() || name.empty()) return std::string(path.empty() ? name : path);
  return std::string(path) + '.' + std::string(name);
}

/// Writes the lines of a member. A path is what the table and the column are called together: the columns of
/// a table are named from where it begins.
class Lines {
 public:
  explicit Lines(std::string& out) : out_(&out) {}

  void add(const std::string& section, const std::string& row, const std::string& column, const Json& value) {
    if (value.is_object()) {
      add_object(section, row, column, value);
    } else if (value.is_array()) {
      add_array(section, row, column, value);
    } else {
      *out_ += field(section) + ',' + row + ',' + field(column.empty() ? section : column) + ',' +
               value_of(value) + '\n';
    }
  }

 private:
  void add_object(const std::string& section, const std::string& row, const std::string& column,
                  const Json& object) {
    const auto columns = object.find("columns");
    const bool is_table = columns != object.end() && columns->is_array();
    for (auto member = object.begin(); member != object.end(); ++member) {
      const bool is_body = is_table && (member.key() == "rows" || member.key() == "cells");
      if (is_table && member == columns) continue;
      if (is_body)
        add_table(joined(section, column), row, *columns, *member);
      else
        add(section, row, joined(column, member.key()), *member);
    }
  }

  void add_table(const std::string& section, const std::string& row, const Json& columns, const Json& lines) {
    for (std::size_t line = 0; line < lines.size(); ++line)
      for (std::size_t i = 0; i < columns.size() && i < lines[line].size(); ++i)
        add(section, below(row, line), columns[i].get<std::string>(), lines[line][i]);
  }

  /// Of scalars, one column; of objects, a table of its own.
  void add_array(const std::string& section, const std::string& row, const std::string& column,
                 const Json& array) {
    for (std::size_t i = 0; i < array.size(); ++i) {
      const std::string place = below(row, i);
      if (array[i].is_structured())
        add(joined(section, column), place, "", array[i]);
      else
        add(section, place, column, array[i]);
    }
  }

  static std::string below(const std::string& row, std::size_t i) { return joined(row, std::to_string(i)); }

  std::string* out_;
};

/// What the grid's cells weigh, and which is the choice, for those who read nothing else.
void add_to_cells(const Plan& plan, Json& grid) {
  for (const char* column : {"slot_bytes", "host_bytes", "chosen"}) grid["columns"].push_back(column);
  for (Json& row : grid["cells"]) {
    const auto slots = row[0].get<std::uint32_t>();
    const auto host = row[1].get<std::uint32_t>();
    row.push_back(plan.slot_bytes.value > 0 ? Json(plan.slot_bytes.value * slots) : Json());
    row.push_back(plan.host_bytes_known && host < plan.host_bytes.size() ? Json(plan.host_bytes[host].value)
                                                                         : Json());
    row.push_back(slots == plan.chosen.max_loras && host == plan.chosen.max_cpu_loras);
  }
}

}  // namespace

std::string plan_csv(const Plan& plan) {
  Json whole = Json::parse(plan_json(plan), nullptr, false);
  add_to_cells(plan, whole["grid"]);
  std::string out = "section,row,column,value\n";
  Lines lines(out);
  for (auto member = whole.begin(); member != whole.end(); ++member) lines.add(member.key(), "", "", *member);
  return out;
}

}  // namespace loracle
