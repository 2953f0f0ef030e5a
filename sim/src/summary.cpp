#include "loracle/sim/summary.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

namespace loracle {

std::vector<std::uint64_t> uses_per_row(const UseStream& stream) {
  std::vector<std::uint64_t> count(stream.rows, 0);
  for (const Row row : stream.uses.view()) ++count[index_of(row)];
  return count;
}

std::vector<std::uint64_t> popularity(const UseStream& stream) {
  std::vector<std::uint64_t> count = uses_per_row(stream);
  count.erase(std::remove(count.begin(), count.end(), std::uint64_t{0}), count.end());
  std::sort(count.begin(), count.end(), std::greater<>());
  return count;
}

Result<std::vector<WorkingSetWindow>> working_set_over_time(const Trace& trace, double window_s) {
  if (!std::isfinite(window_s) || window_s <= 0)
    return fail(Errc::kInvalid,
                "a window of " + std::to_string(window_s) + " s: give a positive number of seconds");
  std::vector<WorkingSetWindow> windows;
  if (trace.requests == 0) return windows;
  if (trace.arrival_s.size() != trace.requests)
    return fail(Errc::kInvalid,
                trace.source + ": has no arrival times, so there are no windows of time in it");
  const std::span<const double> arrival_s = trace.arrival_s.view();
  const double first = std::floor(arrival_s.front() / window_s);
  const double count = std::floor(arrival_s.back() / window_s) - first + 1;
  if (!(count >= 1 && count <= static_cast<double>(kWorkingSetWindowsMax))) {
    return fail(Errc::kInvalid, trace.source + ": windows of " + std::to_string(window_s) +
                                    " s would be more than " + std::to_string(kWorkingSetWindowsMax) +
                                    ": take longer ones");
  }
  windows.resize(static_cast<std::size_t>(count));
  for (std::size_t w = 0; w < windows.size(); ++w)
    windows[w].begin_s = (first + static_cast<double>(w)) * window_s;

  std::size_t rows = trace.rows();
  for (const Row row : trace.uses.view()) rows = std::max(rows, index_of(row) + 1);
  std::vector<std::uint32_t> counted_in(rows, 0);  // [rows] 1 + the last window that counted the row; 0: none
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    const double place = std::floor(arrival_s[i] / window_s) - first;
    const auto w = static_cast<std::uint32_t>(std::clamp(place, 0.0, count - 1));
    WorkingSetWindow& window = windows[w];
    ++window.requests;
    for (const Row row : trace.batch(i)) {
      ++window.uses;
      std::uint32_t& counted = counted_in[index_of(row)];
      if (counted == w + 1) continue;
      ++window.distinct;
      if (counted == 0) ++window.first_seen;
      counted = w + 1;
    }
  }
  return windows;
}

}  // namespace loracle
