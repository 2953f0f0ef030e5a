#pragma once
/// Requests that hold their adapters, by when they end; what the passes over a trace in time share.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

struct Running {
  double end_s = 0;
  std::uint64_t request = 0;
};

/// The one that ends first comes first; of several, the earlier request. A 4-ary min-heap. The hole that the
/// first leaves sinks to a leaf, and the last rises from there: most often it stays. Without branches: which
/// of two is first is a coin toss to a processor, and a wrong guess costs more than the comparison, which is
/// one of integers. Cost: O(log4 size). Threads: one owner.
class RunningRequests {
 public:
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return heap_.size(); }
  /// REQUIRES, as `end_first`: !empty().
  [[nodiscard]] Running first() const noexcept { return heap_.front().running(); }

  void begin(const Running& request) {
    const Node node(request);
    heap_.push_back(node);
    rise(heap_.size() - 1, node);
  }
  Running end_first() noexcept {
    const Running ended = first();
    const Node last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) rise(sink_hole(), last);
    return ended;
  }

 private:
  struct Node {
    std::uint64_t end;  // seconds, as an integer of the same order
    std::uint64_t request;

    explicit Node(const Running& of) noexcept : end(turned(of.end_s)), request(of.request) {}

    [[nodiscard]] Running running() const noexcept {
      const std::uint64_t bits = (end & kSign) != 0 ? end ^ kSign : ~end;
      return {std::bit_cast<double>(bits), request};
    }
    [[nodiscard]] bool before(const Node& other) const noexcept { return wide() < other.wide(); }

   private:
    __extension__ using Wide = unsigned __int128;
    static constexpr std::uint64_t kSign = std::uint64_t{1} << 63U;

    /// Bits of times above 0 rise with them, those of times below fall. There is one 0.
    [[nodiscard]] static std::uint64_t turned(double time_s) noexcept {
      const auto bits = std::bit_cast<std::uint64_t>(time_s + 0.0);
      return (bits & kSign) != 0 ? ~bits : bits | kSign;
    }
    [[nodiscard]] Wide wide() const noexcept { return Wide{end} << 64U | request; }
  };

  void rise(std::size_t place, const Node& node) noexcept {
    while (place > 0) {
      const std::size_t parent = (place - 1) / 4;
      if (!node.before(heap_[parent])) break;
      heap_[place] = heap_[parent];
      place = parent;
    }
    heap_[place] = node;
  }
  /// Where the hole at the root comes to lie.
  std::size_t sink_hole() noexcept {
    Node* const heap = heap_.data();
    std::size_t hole = 0;
    std::size_t child = 1;
    for (; child + 4 <= heap_.size(); child = 4 * hole + 1) {
      const std::size_t left = child + static_cast<std::size_t>(heap[child + 1].before(heap[child]));
      const std::size_t right = child + 2 + static_cast<std::size_t>(heap[child + 3].before(heap[child + 2]));
      const std::size_t least =
          left + (right - left) * static_cast<std::size_t>(heap[right].before(heap[left]));
      heap[hole] = heap[least];
      hole = least;
    }
    if (child >= heap_.size()) return hole;
    std::size_t least = child;
    for (std::size_t other = child + 1; other < heap_.size(); ++other)
      if (heap[other].before(heap[least])) least = other;
    heap[hole] = heap[least];
    return least;
  }

  std::vector<Node> heap_;
};

/// A duration that is not known counts as none.
[[nodiscard]] inline bool holds(float duration_s) noexcept { return duration_s > 0; }
[[nodiscard]] inline double held_s(float duration_s) noexcept {
  return holds(duration_s) ? static_cast<double>(duration_s) : 0.0;
}

/// Errors: kInvalid unless the trace says when requests arrive and how long they hold their adapters.
[[nodiscard]] Result<Unit> check_times(const Trace& trace);

}  // namespace loracle::detail
