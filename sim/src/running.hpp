#pragma once
/// Requests that hold their adapters, by when they end; what the passes over a trace in time share.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// The one that ends first comes first; of several, the earlier.
struct Running {
  double end_s = 0;
  std::uint64_t request = 0;

  friend bool operator>(const Running& a, const Running& b) noexcept {
    return a.end_s != b.end_s ? a.end_s > b.end_s : a.request > b.request;
  }
};

/// A min-heap. Cost: O(log size). Threads: one owner.
class RunningRequests {
 public:
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return heap_.size(); }
  /// REQUIRES, as `end_first`: !empty().
  [[nodiscard]] const Running& first() const noexcept { return heap_.front(); }

  void begin(const Running& request) {
    heap_.push_back(request);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  Running end_first() noexcept {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const Running ended = heap_.back();
    heap_.pop_back();
    return ended;
  }

 private:
  std::vector<Running> heap_;
};

/// A duration that is not known counts as none.
[[nodiscard]] inline bool holds(float duration_s) noexcept { return duration_s > 0; }
[[nodiscard]] inline double held_s(float duration_s) noexcept {
  return holds(duration_s) ? static_cast<double>(duration_s) : 0.0;
}

/// Errors: kInvalid unless the trace says when requests arrive and how long they hold their adapters.
[[nodiscard]] Result<Unit> check_times(const Trace& trace);

}  // namespace loracle::detail
