#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loracle/sim/plan.hpp"
#include "plan_traces.hpp"

namespace loracle {
namespace {

Plan planned(Trace trace) {
  PlanOptions options;
  options.model = "llama-3.1-8b";
  options.reproduce = "loracle plan \"a trace\".jsonl";
  InlineExecutor executor;
  Result<Plan> plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? std::move(*plan) : Plan{};
}

/// Lines of fields as RFC 4180 reads them.
std::vector<std::vector<std::string>> read_csv(const std::string& text) {
  std::vector<std::vector<std::string>> lines = {{""}};
  bool is_quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_quoted) {
      if (c != '"') {
        lines.back().back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        lines.back().back() += text[++i];
      } else {
        is_quoted = false;
      }
    } else if (c == '"') {
      EXPECT_TRUE(lines.back().back().empty()) << "a quote within a field that is not quoted";
      is_quoted = true;
    } else if (c == ',') {
      lines.back().emplace_back();
    } else if (c == '\n') {
      lines.push_back({""});
    } else {
      lines.back().back() += c;
    }
  }
  EXPECT_FALSE(is_quoted);
  lines.pop_back();  // after the last end of line
  return lines;
}

/// Scalars of a JSON value, those of the lists of column names left out.
std::size_t scalars_of(const nlohmann::json& value) {
  if (!value.is_structured()) return 1;
  std::size_t count = 0;
  const bool is_table = value.is_object() && value.contains("columns");
  for (const auto& [key, member] : value.items())
    if (!(is_table && key == "columns")) count += scalars_of(member);
  return count;
}

// If this failed, whoever reads the CSV would know less than who reads the JSON.
TEST(PlanCsv, HoldsAllThatTheJsonHolds) {
  const Plan plan = planned(testing::skewed_trace(41, 50, 3000, 5));
  const auto json = nlohmann::json::parse(plan_json(plan), nullptr, false);
  const auto lines = read_csv(plan_csv(plan));
  ASSERT_EQ(lines[0], (std::vector<std::string>{"section", "row", "column", "value"}));
  const std::size_t cells = json["grid"]["cells"].size();
  EXPECT_EQ(lines.size() - 1, scalars_of(json) + 3 * cells) << "three columns more in the grid";
  std::map<std::vector<std::string>, std::string> at;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    ASSERT_EQ(lines[i].size(), 4U) << i;
    EXPECT_TRUE(at.emplace(std::vector(lines[i].begin(), lines[i].begin() + 3), lines[i][3]).second)
        << "twice: " << lines[i][0] << " " << lines[i][1] << " " << lines[i][2];
  }
  const auto value = [&](const char* section, const char* row, const char* column) {
    const auto found = at.find({section, row, column});
    return found == at.end() ? std::string("none") : found->second;
  };
  EXPECT_EQ(value("schema", "", "schema"), "loracle.plan/1");
  EXPECT_EQ(value("recommendation", "", "max_loras"), std::to_string(plan.chosen.max_loras));
  EXPECT_EQ(value("recommendation", "", "flags"), "'" + plan.flags);
  EXPECT_EQ(value("reproduce", "", "reproduce"), plan.reproduce);
  EXPECT_EQ(value("trace", "", "active_adapters.p99"), std::to_string(plan.active.p99));
  EXPECT_EQ(value("advisory.max_loras", "0", "gpu_hits"), std::to_string(plan.by_slots[0].cell.gpu_hits));
  EXPECT_EQ(value("curves", "0", "misses.lru"), std::to_string(plan.lru_misses[plan.curve_entries[0]]));
  EXPECT_EQ(value("worst.adapters", "0", "name"), plan.charts.adapters.worst[0].name);
  EXPECT_EQ(value("limits", "0", "limits"), plan.limits[0]);
  EXPECT_EQ(value("grid", "0", "slot_bytes"), std::to_string(plan.slot_bytes.value));
  std::size_t chosen = 0;
  for (const auto& [place, text] : at)
    if (place[0] == "grid" && place[2] == "chosen") chosen += text == "1" ? 1U : 0U;
  EXPECT_EQ(chosen, 1U);
}

// If this failed, a name in a trace could run in the spreadsheet of whoever opens the plan.
TEST(PlanCsv, AHostileNameIsNoFormula) {
  Trace trace = testing::skewed_trace(42, 5, 600, 5);
  const std::vector<std::string> hostile = {"=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "a,\"b\"\nc"};
  std::vector<std::uint64_t> begin = {0};
  std::vector<char> text;
  for (const std::string& name : hostile) {
    text.insert(text.end(), name.begin(), name.end());
    begin.push_back(text.size());
  }
  trace.adapters.name.begin = Column<std::uint64_t>(std::move(begin));
  trace.adapters.name.text = Column<char>(std::move(text));
  trace.source = "=HYPERLINK(\"x\").jsonl";
  std::vector<std::string> names;
  for (const auto& line : read_csv(plan_csv(planned(trace)))) {
    ASSERT_EQ(line.size(), 4U);
    for (const std::string& field : line) {
      if (field.empty() || std::string("=+-@\t\r\n").find(field[0]) == std::string::npos) continue;
      const auto number = nlohmann::json::parse(field, nullptr, false);
      EXPECT_TRUE(number.is_number()) << field;
    }
    if (line[0] == "worst.adapters" && line[2] == "name") names.push_back(line[3]);
    if (line[0] == "trace" && line[2] == "source") {
      EXPECT_EQ(line[3], "'" + trace.source);
    }
  }
  ASSERT_EQ(names.size(), hostile.size());
  for (const std::string& name : hostile) {
    const std::string shown = (name[0] == 'a' ? "" : "'") + name;
    EXPECT_NE(std::find(names.begin(), names.end(), shown), names.end()) << name;
  }
}

}  // namespace
}  // namespace loracle
