#pragma once
/// Several queues of rows with their total weights: what policies with segments and ghost lists are made of.
/// A row is in at most one queue.
///
/// Layout: `lists_`, 8 bytes a row; `tags_` [rows], one byte: the queue and a small counter that the policy
/// may use (a reference bit, a frequency), so that asking where a row is, and counting its use, touch one
/// byte; `weights_` [rows], 8 bytes, only where rows are weighed in bytes. A row keeps the weight it was
/// pushed with until it leaves. Every operation is O(1). Allocated once.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/row_lists.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

class RowQueues {
 public:
  static constexpr std::uint32_t kQueuesMax = 15;
  static constexpr std::uint32_t kNowhere = 0xFFFF'FFFFU;
  static constexpr std::uint32_t kCountMax = 15;

  /// `weighed`: rows have weights of their own; else each weighs 1. REQUIRES: 0 < queues <= kQueuesMax.
  RowQueues(std::uint32_t rows, std::uint32_t queues, bool weighed)
      : lists_(rows, queues), tags_(rows, 0), weights_(weighed ? rows : 0, 0), totals_(queues, 0) {
    LORACLE_CHECK(queues > 0);
    LORACLE_CHECK(queues <= kQueuesMax);
  }

  /// The queue a row is in, or kNowhere.
  [[nodiscard]] std::uint32_t queue_of(Row row) const noexcept {
    return (tags_[index_of(row)] & kQueueMask) - 1U;  // 0 wraps to kNowhere
  }
  [[nodiscard]] std::uint64_t weight(std::uint32_t queue) const noexcept { return totals_[queue]; }
  /// REQUIRES: in a queue.
  [[nodiscard]] std::uint64_t weight_of(Row row) const noexcept {
    return weights_.empty() ? 1 : weights_[index_of(row)];
  }

  /// The row's counter: 0 when pushed, kept by moves. REQUIRES: in a queue.
  [[nodiscard]] std::uint32_t count_of(Row row) const noexcept { return tags_[index_of(row)] >> kCountShift; }
  void set_count(Row row, std::uint32_t count) noexcept {
    LORACLE_DCHECK(count <= kCountMax);
    std::uint8_t& tag = tags_[index_of(row)];
    tag = static_cast<std::uint8_t>((tag & kQueueMask) | (count << kCountShift));
  }

  /// The newest (front) and oldest (back) row of a queue; kNoRow if it is empty.
  [[nodiscard]] Row front(std::uint32_t queue) const noexcept { return lists_.front(queue); }
  [[nodiscard]] Row back(std::uint32_t queue) const noexcept { return lists_.back(queue); }
  [[nodiscard]] bool empty(std::uint32_t queue) const noexcept { return lists_.empty(queue); }
  /// The neighbour in the same queue; kNoRow past its end. REQUIRES: in a queue.
  [[nodiscard]] Row newer(Row row) const noexcept { return lists_.newer(row); }
  [[nodiscard]] Row older(Row row) const noexcept { return lists_.older(row); }

  /// The oldest row of a queue that the guard lets go, or kNoRow.
  template <class Guard>
  [[nodiscard]] Row oldest_free(std::uint32_t queue, const Guard& guard) const noexcept {
    Row row = lists_.back(queue);
    while (row != kNoRow && guard.blocks(row)) row = lists_.newer(row);
    return row;
  }

  /// REQUIRES: in no queue.
  void push_front(std::uint32_t queue, Row row, std::uint64_t row_weight) noexcept {
    LORACLE_DCHECK(queue_of(row) == kNowhere);
    lists_.push_front(queue, row);
    tags_[index_of(row)] = static_cast<std::uint8_t>(queue + 1);
    if (!weights_.empty()) weights_[index_of(row)] = row_weight;
    totals_[queue] += row_weight;
  }
  /// Moves a row to the front of a queue, from wherever it is. REQUIRES: in a queue.
  void move_to_front(std::uint32_t queue, Row row) noexcept {
    const std::uint32_t from = queue_of(row);
    lists_.move_to_front(queue, row);
    if (from == queue) return;
    const std::uint64_t row_weight = weight_of(row);
    totals_[from] -= row_weight;
    totals_[queue] += row_weight;
    std::uint8_t& tag = tags_[index_of(row)];
    tag = static_cast<std::uint8_t>((tag & ~kQueueMask) | (queue + 1));
  }
  /// REQUIRES: in a queue.
  void erase(Row row) noexcept {
    totals_[queue_of(row)] -= weight_of(row);
    lists_.erase(row);
    tags_[index_of(row)] = 0;
  }

  /// Asks the processor for what an access to the row needs: its tag, or its tag and links. Never faults.
  void prefetch_tag(Row row) const noexcept { __builtin_prefetch(&tags_[index_of(row)], 1); }
  void prefetch(Row row) const noexcept {
    prefetch_tag(row);
    lists_.prefetch(row);
  }

 private:
  static constexpr std::uint32_t kQueueMask = 0x0F;
  static constexpr std::uint32_t kCountShift = 4;

  RowLists lists_;
  std::vector<std::uint8_t> tags_;      // [rows] low half: queue + 1, 0 nowhere; high half: the counter
  std::vector<std::uint64_t> weights_;  // [rows] or empty
  std::vector<std::uint64_t> totals_;   // [queues]
};

}  // namespace loracle
