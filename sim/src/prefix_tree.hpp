#pragma once
/// Running sums over a long row of units in which amounts are taken away anywhere and added only at the end:
/// how much lies before unit u? A tree whose nodes are two cache lines: an entry holds the sum of what lies
/// before it within its node. A question reads one entry a level; taking away subtracts from the rest of one
/// node a level, a few vector operations without a branch. A binary indexed tree touches log2 places instead
/// of log16 or log32, each a hard-to-predict step (measured: 4 times slower).
///
/// Layout: levels_[0] has an entry a unit, levels_[l] one a node of the level below; the last has a single
/// node. Invariant: entries of opened units are right; those after the last opened one hold rubbish until
/// `open`. Cost: `before` and `take` O(log(units)), `open` O(1) amortised; sizeof(Count) bytes a unit.
/// Allocated once. Threads: none.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "curves_vectors.hpp"

namespace loracle {

/// Count is std::uint32_t or std::uint64_t; sums wrap as its arithmetic does.
template <class Count>
class PrefixTree {
 public:
  explicit PrefixTree(std::size_t units) {
    unsigned shift = 0;
    std::size_t entries = std::max<std::size_t>(units, 1);
    for (;;) {
      const std::size_t nodes = (entries + kFanOut - 1) / kFanOut;
      levels_.push_back({std::vector<Node>(nodes), shift, std::min(entries, kFanOut)});
      if (nodes == 1) return;
      entries = nodes;
      shift += kFanOutBits;
    }
  }

  /// Makes `unit` answerable once all units before it are; `amount_before` is what unit - 1 holds now (0 for
  /// unit 0).
  void open(std::size_t unit, Count amount_before) noexcept {
    Count sum = amount_before;
    for (Level& level : levels_) {
      const std::size_t entry = unit >> level.shift;
      if (entry % kFanOut != 0) {
        sum += level.at(entry - 1);
        level.at(entry) = sum;
        return;
      }
      level.at(entry) = 0;
      if (entry == 0) return;  // the first node of each level above begins with 0 too, and stays so
      sum += level.at(entry - 1);
    }
  }

  /// How much the units before `unit` hold.
  [[nodiscard, gnu::always_inline]] Count before(std::size_t unit) const noexcept {
    Count sum = 0;
    for (const Level& level : levels_) sum += level.at(unit >> level.shift);
    return sum;
  }

  /// Takes `amount` away from what `unit` holds, by vectors of kWidth bytes.
  template <std::size_t kWidth>
  [[gnu::always_inline]] void take(std::size_t unit, Count amount) noexcept {
    using Vector = typename VectorOf<Count, kWidth>::Aligned;
    using Unaligned = typename VectorOf<Count, kWidth>::Unaligned;
    constexpr std::size_t kLanes = kWidth / sizeof(Count);
    for (Level& level : levels_) {
      const std::size_t entry = unit >> level.shift;
      Count* const node = level.nodes[entry / kFanOut].before.data();
      const Count* const after = &kAfter[kFanOut - 1 - entry % kFanOut];
      for (std::size_t i = 0; i < level.entries; i += kLanes)
        *reinterpret_cast<Vector*>(node + i) -= *reinterpret_cast<const Unaligned*>(after + i) & amount;
    }
  }

  /// Asks the processor for the lowest node of `unit` ahead of use.
  [[gnu::always_inline]] void prefetch(std::size_t unit) const noexcept {
    const Node& node = levels_.front().nodes[unit / kFanOut];
    __builtin_prefetch(&node, 1);
    __builtin_prefetch(reinterpret_cast<const char*>(&node) + 64, 1);
  }

 private:
  static constexpr std::size_t kFanOut = 128 / sizeof(Count);
  static constexpr unsigned kFanOutBits = std::countr_zero(kFanOut);

  struct alignas(64) Node {
    std::array<Count, kFanOut> before{};
  };
  struct Level {
    std::vector<Node> nodes;
    unsigned shift = 0;       // unit >> shift: the entry, counted over the whole level
    std::size_t entries = 0;  // in use in any one node, so that a small top node costs less

    [[nodiscard]] Count& at(std::size_t entry) noexcept {
      return nodes[entry / kFanOut].before[entry % kFanOut];
    }
    [[nodiscard]] Count at(std::size_t entry) const noexcept {
      return nodes[entry / kFanOut].before[entry % kFanOut];
    }
  };

  /// kFanOut noughts, then kFanOut times all ones: read from kFanOut - 1 - e, it masks the entries after e.
  static constexpr std::array<Count, 2 * kFanOut> kAfter = [] {
    std::array<Count, 2 * kFanOut> mask{};
    for (std::size_t i = kFanOut; i < mask.size(); ++i) mask[i] = static_cast<Count>(~Count{0});
    return mask;
  }();

  std::vector<Level> levels_;  // from the bottom up
};

}  // namespace loracle
