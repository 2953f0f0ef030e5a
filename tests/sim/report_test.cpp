#include "loracle/sim/report.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "plan_traces.hpp"

namespace loracle {
namespace {

Plan some_plan(const std::string& source = "traces/monday.jsonl", std::uint64_t gpu_memory = 8ULL << 30U) {
  Trace trace = testing::skewed_trace(21, 200, 8000, 6);
  trace.source = source;
  PlanOptions options;
  options.model = "llama-3.1-8b";
  options.gpu_memory = Bytes{gpu_memory};
  options.reproduce = "loracle plan " + source;
  InlineExecutor executor;
  auto plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? *plan : Plan{};
}

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

/// The texts of the page's embedded chart specifications.
std::vector<std::string> charts_of(const std::string& html) {
  const std::string open = "<script type=\"application/json\" id=\"";
  std::vector<std::string> charts;
  for (std::size_t at = html.find(open); at != std::string::npos; at = html.find(open, at + 1)) {
    const std::size_t begin = html.find('>', at) + 1;
    charts.push_back(html.substr(begin, html.find("</script>", begin) - begin));
  }
  return charts;
}

TEST(Report, IsOneFileThatFetchesNothing) {
  // It is mailed, archived and opened on machines without a network.
  const std::string html = plan_html(some_plan());
  EXPECT_LT(html.size(), 3U << 20U);
  std::string head = html.substr(0, html.find("<script>\n/*"));
  const std::string skip = " href=\"#decision\"";  // leads nowhere else
  ASSERT_EQ(count_of(head, skip), 1U);
  head.erase(head.find(skip), skip.size());
  for (const char* door : {"<link", "<img", "<iframe", "<script src", "@import", " src=", " href=", "url("})
    EXPECT_EQ(head.find(door), std::string::npos) << door;
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos) << "the browser is told to fetch nothing";
  EXPECT_EQ(html.find("sourceMappingURL"), std::string::npos);
}

TEST(Report, SaysTheDecisionWithoutJavaScript) {
  // Text and tables must be there for mail clients, screen readers and locked-down browsers.
  const Plan plan = some_plan();
  const std::string html = plan_html(plan);
  const std::string text = html.substr(0, html.find("<script"));
  EXPECT_NE(text.find(plan.flags), std::string::npos);
  EXPECT_NE(text.find("<noscript>"), std::string::npos);
  EXPECT_NE(html.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_EQ(count_of(html, "<tr class=\"chosen\">"), 4U)
      << "in both advisory tables, among the what-ifs, and LRU among the policies";
  for (const PolicyRow& row : plan.policies)
    EXPECT_NE(html.find("<td>" + row.policy + "</td>"), std::string::npos) << row.policy;
}

TEST(Report, EveryChartIsWellFormedAndTheChoiceIsStarred) {
  // A chart that does not parse is an empty box that nobody notices in a test of bytes.
  const Plan plan = some_plan();
  const std::vector<std::string> charts = charts_of(plan_html(plan));
  ASSERT_EQ(charts.size(), 16U) << "of a trace with times and durations, and a model";
  for (const std::string& chart : charts) {
    const auto spec = nlohmann::json::parse(chart, nullptr, false);
    ASSERT_TRUE(spec.is_object());
    EXPECT_FALSE(spec["data"][0]["values"].empty());
    EXPECT_GE(spec["axes"].size(), 2U);
    for (const auto& axis : spec["axes"]) EXPECT_FALSE(axis["title"].get<std::string>().empty());
  }
  const auto grid = nlohmann::json::parse(charts[0], nullptr, false);
  const auto& star = grid["marks"].back()["encode"]["update"];
  EXPECT_EQ(star["x"]["value"], plan.chosen.max_loras);
  EXPECT_EQ(star["y"]["value"], plan.chosen.max_cpu_loras);
  EXPECT_NE(plan_html(plan).find("\"p\":\"belady\""), std::string::npos);
}

/// What each chart of the page is called.
std::vector<std::string> names_of(const std::string& html) {
  const std::string open = "<script type=\"application/json\" id=\"";
  std::vector<std::string> names;
  for (std::size_t at = html.find(open); at != std::string::npos; at = html.find(open, at + 1))
    names.push_back(html.substr(at + open.size(), html.find('"', at + open.size()) - at - open.size()));
  return names;
}

/// Of a trace that knows everything: sizes, tenants, prices, a calibration, today's setting.
Plan rich_plan() {
  Trace trace = testing::skewed_trace(22, 80, 6000, 5);
  std::vector<std::uint16_t> ranks;
  for (std::uint32_t row = 0; row < trace.rows(); ++row)
    ranks.push_back(static_cast<std::uint16_t>(8U << (row % 3)));
  trace.adapters.rank = Column<std::uint16_t>(std::move(ranks));
  std::vector<std::uint32_t> tenants(trace.requests);
  for (std::uint64_t i = 0; i < trace.requests; ++i) tenants[i] = static_cast<std::uint32_t>(i % 3);
  trace.tenant = Column<std::uint32_t>(std::move(tenants));
  trace.tenant_name.begin = Column<std::uint64_t>(std::vector<std::uint64_t>{0, 1, 2, 13});
  trace.tenant_name.text =
      Column<char>(std::vector<char>{'a', 'b', '<', '/', 's', 'c', 'r', 'i', 'p', 't', '>', '|', '*'});
  PlanOptions options;
  options.model = "llama-3.1-8b";
  options.target_disk_loads = 0.1;
  options.current_max_loras = 4;
  options.current_max_cpu_loras = 8;
  options.costs.gpu_memory = Bytes{80ULL << 30U};
  options.costs.prices = parse_prices(
                             R"({"schema": "loracle.prices/1", "currency": "USD", "source": "list",
                                 "prices": {"gpu_hour": 4, "host_gib_month": 2.5, "egress_gib": 0.09}})",
                             "prices.json")
                             .value_or(Prices{});
  Calibration calibration;
  calibration.date = "2026-11-22";
  calibration.machine = "NVIDIA H200";
  LoadFit fit;
  fit.channel = {0.002, 20e9};
  fit.is_rate_known = true;
  fit.quality.count = 40;
  fit.quality.within_10 = 0.8;
  fit.quality.within_20 = 0.95;
  fit.quality.groups = {{20, 40e6, 0.004, 0.0041}, {20, 160e6, 0.010, 0.0099}};
  calibration.slot = fit;
  calibration.disk = fit;
  options.calibration = calibration;
  InlineExecutor executor;
  auto plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? *plan : Plan{};
}

TEST(Report, AChartIsThereWhereItsDataIs) {
  // A chart of nothing misleads, and one that is left out for no reason is missed.
  const std::vector<std::string> rich = names_of(plan_html(rich_plan()));
  for (const char* name : {"grid", "pareto", "delays", "load-times", "worst-adapters", "worst-tenants",
                           "curves", "bytes", "distance-map", "popularity", "calibration"})
    EXPECT_EQ(std::count(rich.begin(), rich.end(), name), 1) << name;
  const std::vector<std::string> plain = names_of(plan_html(some_plan()));
  for (const char* name : {"pareto", "worst-tenants", "bytes", "calibration"})
    EXPECT_EQ(std::count(plain.begin(), plain.end(), name), 0) << name;
  InlineExecutor executor;
  const auto timeless = make_plan(testing::skewed_trace(23, 30, 900), PlanOptions{}, executor);
  ASSERT_TRUE(timeless.has_value());
  const std::string page = plan_html(*timeless);
  EXPECT_EQ(page.find("Who waits, and for what"), std::string::npos);
  const std::vector<std::string> bare = names_of(page);
  for (const char* name : {"delays", "load-times", "worst-adapters", "tradeoff", "waits"})
    EXPECT_EQ(std::count(bare.begin(), bare.end(), name), 0) << name;
  EXPECT_EQ(std::count(bare.begin(), bare.end(), "distance-map"), 1);
}

TEST(Report, LegendsNameNoMoreThanIsDrawn) {
  // A reader looks for a point called "today" where nobody said what runs today.
  const Plan today = rich_plan();
  const std::string kinds = "\"domain\":[\"chosen\",\"today\"";
  EXPECT_NE(plan_html(today).find(kinds), std::string::npos);
  Plan no_today = today;
  no_today.current = CurrentSetting{};
  for (AdvisoryRow& row : no_today.by_slots) row.current = false;
  EXPECT_EQ(plan_html(no_today).find(kinds), std::string::npos);
}

TEST(Report, NamesTheWorstInATable) {
  // Charts are not read by everybody; who is served badly must be said in words too.
  const Plan plan = rich_plan();
  ASSERT_EQ(plan.charts.adapters.worst.size(), kWorstServed);
  const std::string html = plan_html(plan);
  const std::string text = plan_markdown(plan);
  EXPECT_NE(text.find("### Adapters that wait longest"), std::string::npos);
  EXPECT_NE(text.find("### Tenants that wait longest"), std::string::npos);
  for (const ServedGroup& group : plan.charts.adapters.worst) {
    EXPECT_NE(html.find("<td>" + group.name + "</td>"), std::string::npos) << group.name;
    EXPECT_NE(text.find("| " + group.name + " |"), std::string::npos) << group.name;
  }
  EXPECT_EQ(html.find("</script>|*"), std::string::npos) << "a tenant's name stays text";
  EXPECT_NE(html.find("&lt;/script&gt;|*"), std::string::npos);
}

TEST(Report, TheMarkdownSaysWhatThePageSays) {
  // It is pasted into tickets: flags that cannot be copied, or a table torn by a name, help nobody.
  const Plan plan = some_plan("a|b`c<script>_d_.jsonl");
  const std::string text = plan_markdown(plan);
  EXPECT_NE(text.find("```sh\n" + plan.flags + "\n```\n"), std::string::npos);
  EXPECT_NE(text.find("# Adapter plan for a\\|b\\`c&lt;script>\\_d\\_.jsonl"), std::string::npos) << text;
  for (const PolicyRow& row : plan.policies)
    EXPECT_NE(text.find(row.policy + (row.policy == "lru" ? "** |" : " |")), std::string::npos) << row.policy;
  std::istringstream lines(text);
  std::size_t cells = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# ") || !line.starts_with('|')) cells = 0;
    if (!line.starts_with('|')) continue;
    const std::size_t mine = count_of(line, "|") - count_of(line, "\\|");
    EXPECT_EQ(cells == 0 ? mine : cells, mine) << line;
    cells = mine;
  }
}

TEST(Report, ChartsAreReadOutOfWhatTheBrowserGivesBack) {
  // Half a chart, or a message in its place, must not become a file.
  const auto document = [](const std::string& text) {
    return "<html><body data-export=\"svg\"><pre data-chart=\"grid\" data-drawn=\"\">" + text +
           "</pre><script>var x;</script></body></html>";
  };
  const auto drawn = drawn_charts(document("PHN2Zz4="));
  ASSERT_TRUE(drawn.has_value()) << drawn.error().message;
  ASSERT_EQ(drawn->size(), 1U);
  EXPECT_EQ(drawn->front().name, "grid");
  EXPECT_EQ(drawn->front().bytes, "<svg>");
  for (const char* broken : {"", "PHN2Zz4", "This chart could not be drawn: x is not a function"}) {
    const auto none = drawn_charts(document(broken));
    ASSERT_FALSE(none.has_value()) << broken;
    EXPECT_EQ(none.error().code, Errc::kCorrupt);
  }
  EXPECT_FALSE(drawn_charts("<html></html>").has_value());
}

TEST(Report, TheTargetLineLeavesOutWhatIsRefused) {
  // Slots too few for a request refuse it and so load nothing: the line would call that good.
  std::vector<std::vector<std::uint32_t>> requests;
  for (std::uint32_t i = 0; i < 400; ++i) requests.push_back({i % 20});
  requests.push_back({0, 1, 2});
  InlineExecutor executor;
  const auto plan = make_plan(testing::trace_of(requests), PlanOptions{}, executor);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto grid = nlohmann::json::parse(charts_of(plan_html(*plan))[0], nullptr, false);
  const auto& line = grid["data"][1]["values"];
  ASSERT_FALSE(line.empty());
  EXPECT_GT(line[0]["x"].get<double>(), 2) << "three slots begin between 2 and 3";
}

TEST(Report, AHostileNameStaysText) {
  // Trace names come from outside; a page that runs them is a hole.
  const std::string hostile = "</script><script>alert(1)</script><img onerror=\"x\">&'.jsonl";
  const std::string html = plan_html(some_plan(hostile));
  EXPECT_EQ(html.find("<script>alert"), std::string::npos);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_NE(
      html.find("&lt;script&gt;alert(1)&lt;/script&gt;&lt;img onerror=&quot;x&quot;&gt;&amp;&#39;.jsonl"),
      std::string::npos);
  EXPECT_EQ(count_of(html, "<script"), count_of(html, "</script>"));
}

/// The page's elements after its script has run, or nothing if no browser runs here.
std::string drawn_in_browser(const std::string& html) {
  const char* given = std::getenv("CHROMIUM");
  const std::string browser = given != nullptr ? given : "/usr/bin/chromium";
  if (!std::filesystem::exists(browser)) return {};
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "loracle_report_test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "plan.html") << html;
  const std::string command =
      "timeout 60 '" + browser + "' --headless --no-sandbox --disable-gpu --user-data-dir='" +
      (folder / "profile").string() + "' --virtual-time-budget=5000 --dump-dom 'file://" +
      (folder / "plan.html").string() + "' 2>/dev/null";
  std::string dom;
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {};
  std::array<char, 65536> chunk{};
  for (std::size_t got = 1; (got = std::fread(chunk.data(), 1, chunk.size(), pipe)) > 0;)
    dom.append(chunk.data(), got);
  const int status = pclose(pipe);
  std::filesystem::remove_all(folder);
  return status == 0 ? dom : std::string();
}

TEST(Report, EveryChartIsDrawnInABrowser) {
  // Specifications can parse and still not draw: a misspelt scale or an empty domain shows only when it is
  // run. Where no cell of the grid is an answer the page must be one all the same: an infeasible plan, too.
  const Plan infeasible = some_plan("traces/tuesday.jsonl", 200ULL << 20U);
  ASSERT_EQ(infeasible.verdict, PlanVerdict::kInfeasible);
  for (const Plan& plan : {some_plan(), infeasible, rich_plan()}) {
    const std::string dom = drawn_in_browser(plan_html(plan));
    if (dom.empty()) GTEST_SKIP() << "no browser that runs here: set CHROMIUM to have the charts drawn";
    const std::string page = dom.substr(0, dom.find("<script>\n/*"));
    const std::size_t charts = charts_of(plan_html(plan)).size();
    EXPECT_EQ(count_of(page, "data-drawn"), charts) << plan.flags;
    EXPECT_EQ(count_of(page, "data-failed"), 0U) << page.substr(page.find("data-failed"), 300);
    EXPECT_EQ(count_of(page, "<svg"), charts) << plan.flags;
    EXPECT_GT(count_of(page, "<path"), 200U) << "cells, bars and points";
  }
}

}  // namespace
}  // namespace loracle
