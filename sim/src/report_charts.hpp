#pragma once
/// The charts as Vega specifications, in JSON text. The signals `ink`, `soft`, `line`, `blue`, `host` and
/// `back` (colours) and the width are set by the page's script. Each is empty where the plan has no data for
/// it. The captions of the newer ones say how to read them and what follows.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/sim/plan.hpp"

namespace loracle::detail {

/// What a load from disk weighs against one from host memory in the colour of the grid.
inline constexpr double kDiskWeight = 10;

[[nodiscard]] std::string grid_chart(const Plan& plan);
[[nodiscard]] std::string popularity_chart(const Plan& plan);
[[nodiscard]] std::string popularity_caption(const Plan& plan);
[[nodiscard]] std::string distances_chart(const Plan& plan);
[[nodiscard]] std::string working_set_chart(const Plan& plan);

// report_curves_charts.cpp
/// Misses of every policy by size; the knee, the choice and today's sizes marked.
[[nodiscard]] std::string curves_chart(const Plan& plan);
[[nodiscard]] std::string curves_caption(const Plan& plan);
/// Bytes that LRU loads by the size of host memory, where adapters differ in size.
[[nodiscard]] std::string bytes_chart(const Plan& plan);
[[nodiscard]] std::string bytes_caption(const Plan& plan);

// report_delays_charts.cpp
/// Delays of requests by their cause.
[[nodiscard]] std::string delays_chart(const Plan& plan);
[[nodiscard]] std::string delays_caption(const Plan& plan);
/// How long uses wait for their adapter, by where it was found.
[[nodiscard]] std::string load_times_chart(const Plan& plan);
[[nodiscard]] std::string load_times_caption(const Plan& plan);
/// Who waits longest. `served` is one of the plan's own.
[[nodiscard]] std::string worst_chart(const Plan& plan, const WorstServed& served);
[[nodiscard]] std::string worst_caption(const Plan& plan, const WorstServed& served);

// report_distance_map.cpp
/// Reuse distances over the trace.
[[nodiscard]] std::string distance_map_chart(const Plan& plan);
[[nodiscard]] std::string distance_map_caption(const Plan& plan);

// report_calibration_chart.cpp
/// Predicted against measured times.
[[nodiscard]] std::string calibration_chart(const Plan& plan);
[[nodiscard]] std::string calibration_caption(const Plan& plan);

// report_fronts.cpp
/// Memory against the delay that it buys.
[[nodiscard]] std::string tradeoff_chart(const Plan& plan);
/// Money against it.
[[nodiscard]] std::string pareto_chart(const Plan& plan);
[[nodiscard]] std::string pareto_caption(const Plan& plan);

// report_waits_charts.cpp
/// Requests that wait, by slots: by the activity curve, and simulated.
[[nodiscard]] std::string waits_chart(const Plan& plan);
/// Adapters in use at once, as arriving requests find them.
[[nodiscard]] std::string active_chart(const Plan& plan);
/// Where uses found their adapter, over the trace.
[[nodiscard]] std::string served_chart(const Plan& plan);

// report_choice_charts.cpp
/// What loads and slots cost the server, by slots.
[[nodiscard]] std::string knee_chart(const Plan& plan);
/// The p99 delay under each change of the what-ifs.
[[nodiscard]] std::string what_if_chart(const Plan& plan);
/// What each policy closes of the gap from LRU to Belady.
[[nodiscard]] std::string gap_chart(const Plan& plan);

/// Where on the page a chart stands.
enum class ChartGroup : std::uint8_t { kChoice, kDelays, kPolicy, kTraffic, kTrust };

struct ReportChart {
  std::string_view id;  // of the element, and of the file it is written to
  ChartGroup group = ChartGroup::kChoice;
  std::string title;
  std::string caption;
  std::string spec;
};
/// Those that the plan has data for, in the order of the page.
[[nodiscard]] std::vector<ReportChart> report_charts(const Plan& plan);

}  // namespace loracle::detail
