#pragma once
/// Requests that hold their adapters, by when they end; what the passes over a trace in time share.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

struct Running {
  double end_s = 0;
  std::uint64_t request = 0;

  /// The one that ends first comes first; of several, the earlier. Without branches: which of two is first is
  /// a coin toss to a processor, and a wrong guess costs more than the comparison.
  [[nodiscard]] bool before(const Running& other) const noexcept {
    const auto ends_first = static_cast<unsigned>(end_s < other.end_s);
    const auto ends_with = static_cast<unsigned>(end_s == other.end_s);
    return (ends_first | (ends_with & static_cast<unsigned>(request < other.request))) != 0;
  }
};

/// A 4-ary min-heap. The hole that the first leaves sinks to a leaf, and the last rises from there: most
/// often it stays. Cost: O(log4 size). Threads: one owner.
class RunningRequests {
 public:
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return heap_.size(); }
  /// REQUIRES, as `end_first`: !empty().
  [[nodiscard]] const Running& first() const noexcept { return heap_.front(); }

  void begin(const Running& request) {
    heap_.push_back(request);
    rise(heap_.size() - 1, request);
  }
  Running end_first() noexcept {
    const Running ended = heap_.front();
    const Running last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) rise(sink_hole(), last);
    return ended;
  }

 private:
  void rise(std::size_t place, const Running& request) noexcept {
    while (place > 0) {
      const std::size_t parent = (place - 1) / 4;
      if (!request.before(heap_[parent])) break;
      heap_[place] = heap_[parent];
      place = parent;
    }
    heap_[place] = request;
  }
  /// Where the hole at the root comes to lie.
  std::size_t sink_hole() noexcept {
    const Running* const heap = heap_.data();
    std::size_t hole = 0;
    std::size_t child = 1;
    for (; child + 4 <= heap_.size(); child = 4 * hole + 1) {
      const std::size_t left = child + static_cast<std::size_t>(heap[child + 1].before(heap[child]));
      const std::size_t right = child + 2 + static_cast<std::size_t>(heap[child + 3].before(heap[child + 2]));
      const std::size_t least =
          left + (right - left) * static_cast<std::size_t>(heap[right].before(heap[left]));
      heap_[hole] = heap[least];
      hole = least;
    }
    if (child >= heap_.size()) return hole;
    std::size_t least = child;
    for (std::size_t other = child + 1; other < heap_.size(); ++other)
      if (heap[other].before(heap[least])) least = other;
    heap_[hole] = heap[least];
    return least;
  }

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
