#pragma once
/// LIRS: ranks rows by the distance between their last two uses, and keeps those where it is short.
///
/// Terms: a LIR row has a short distance and stays; a HIR row is passing through. S is a stack of rows by
/// last use: all LIR rows, and HIR rows, resident or gone, used since the oldest LIR row was. Q holds the
/// resident HIR rows. S ends in a LIR row: HIR rows below the lowest LIR are cut off ("pruned").
/// Formula: HIR rows have share `hir` of the capacity, at least one entry; LIR rows the rest. Hit on LIR: to
/// the top of S. Hit on HIR in S: it becomes LIR. Hit on HIR outside S: to the top of S and the front of Q,
/// still HIR. Miss on a row gone but in S: it becomes LIR. Any other miss: LIR while LIR rows have room, else
/// HIR, on S and Q. When LIR rows exceed their share, the lowest of S becomes HIR at the front of Q. Victim:
/// the oldest of Q; it stays in S, gone. S is kept to twice the capacity by forgetting the rows longest gone.
/// A row that comes back while gone but in S is on top of S, and the LIR rows have made room for it, before a
/// victim is chosen. A row larger than the LIR rows' share stays HIR. The top of S is not cut off.
/// Cost: O(1) an operation, amortised. Memory: 17 bytes a row, 25 where bytes are limited. If all of Q is
/// blocked, the lowest LIR row that is not gives way and is forgotten. Q may hold one row of any size.
/// `shed`: where sizes differ, Q may exceed its share though there is room. What is then too much is surplus:
/// evicted at once, oldest first, by drivers that call `shed`; the row used last is no surplus.
/// Differences from the paper: the bound on S (the paper has none); and, as in libCacheSim, a hit on a HIR
/// row outside S also turns the lowest LIR row into a HIR row if the LIR rows are full, so that the next
/// newcomer becomes LIR. From libCacheSim: where Q has room for one row only (below 200 entries) that last
/// step evicts the row just hit, yet the stack goes on calling it resident: it is hit later though nothing
/// counts its space, and the cache holds more than its capacity (5 rows of 4, 101 of 100). Here the step is
/// left out when Q has no room for both rows, as in the paper. So counts are equal from 200 entries up and
/// where bytes are limited (surplus shed at once); below, they are at most 0.06 % apart, here fewer. It also
/// refuses rows larger than Q's share.
/// Source: Jiang and Zhang, "LIRS: an efficient low inter-reference recency set replacement policy",
/// SIGMETRICS 2002.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/row_lists.hpp"
#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Lirs {
 public:
  struct Config {
    double hir = 0.01;  // of the capacity
    template <class V>
    void visit(V&& v) {
      v("hir", hir);
    }
  };
  static constexpr std::string_view kName = "lirs";
  static constexpr bool kClairvoyant = false;

  Lirs(std::uint32_t rows, Capacity capacity, const Config& config)
      : weigher_(capacity),
        hir_max_(std::clamp<std::uint64_t>(weigher_.share(config.hir), 1, weigher_.total())),
        lir_max_(weigher_.total() - hir_max_),
        stack_(rows, 1),
        status_(rows, 3, weigher_.by_bytes()) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return status_.queue_of(row) <= kHir; }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept {
    if (status_.queue_of(row) == kGone) stack_.move_to_front(0, row);
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    last_used_ = row;
    if (status_.queue_of(row) == kGone) {
      const bool can_be_lir = status_.weight_of(row) <= lir_max_;
      status_.move_to_front(can_be_lir ? kLir : kHir, row);
      demote_while_lir_above(lir_max_);
    } else {
      const std::uint64_t weight = weigher_.of(row, table);
      const bool lir_has_room = status_.weight(kLir) + weight <= lir_max_;
      status_.push_front(lir_has_room ? kLir : kHir, row, weight);
      push_stack(row);
    }
    bound_stack();
  }

  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    last_used_ = row;
    const std::uint64_t weight = status_.weight_of(row);
    if (status_.queue_of(row) == kLir) {
      stack_.move_to_front(0, row);
      prune();
    } else if (stack_.linked(row)) {
      stack_.move_to_front(0, row);
      status_.move_to_front(weight <= lir_max_ ? kLir : kHir, row);
      demote_while_lir_above(lir_max_);
    } else {
      status_.move_to_front(kHir, row);
      const Row lowest = stack_.back(0);
      if (lowest != kNoRow && weight <= lir_max_ && weight + status_.weight_of(lowest) <= hir_max_)
        demote_while_lir_above(lir_max_ - weight);
      push_stack(row);
    }
    bound_stack();
  }

  void on_remove(Row row) noexcept {
    pop_stack(row);
    status_.erase(row);
    prune();
  }

  template <class Guard>
  [[nodiscard]] Row evict(Row incoming, Tick, const AdapterTable&, const Guard& guard) noexcept {
    if (status_.queue_of(incoming) == kGone && status_.weight_of(incoming) <= lir_max_)
      demote_while_lir_above(lir_max_ - status_.weight_of(incoming));
    const Row victim = status_.oldest_free(kHir, guard);
    if (victim != kNoRow) {
      leave_queue(victim);
      return victim;
    }
    for (Row row = stack_.back(0); row != kNoRow; row = stack_.newer(row)) {
      if (status_.queue_of(row) != kLir || guard.blocks(row)) continue;
      on_remove(row);
      return row;
    }
    return kNoRow;
  }

  /// The next row to go though there is room for it, now no longer tracked; kNoRow when there is none.
  template <class Guard>
  [[nodiscard]] Row shed(Tick, const AdapterTable&, const Guard& guard) noexcept {
    if (status_.weight(kHir) <= hir_max_) return kNoRow;
    const Row victim = status_.oldest_free(kHir, guard);
    if (victim == kNoRow || victim == last_used_) return kNoRow;
    leave_queue(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept {
    status_.prefetch(row);
    stack_.prefetch(row);
  }

 private:
  enum : std::uint32_t { kLir, kHir, kGone };  // kHir is Q; kGone: in S only; kLir in no useful order

  void push_stack(Row row) noexcept {
    stack_.push_front(0, row);
    stack_weight_ += status_.weight_of(row);
  }
  void pop_stack(Row row) noexcept {
    if (!stack_.linked(row)) return;
    stack_.erase(row);
    stack_weight_ -= status_.weight_of(row);
  }

  /// Out of the cache, remembered as long as it is in S.
  void leave_queue(Row row) noexcept {
    if (stack_.linked(row))
      status_.move_to_front(kGone, row);
    else
      status_.erase(row);
  }

  /// Cuts S off below its lowest LIR row; the top stays in any case, as it may be about to become LIR.
  void prune() noexcept {
    for (Row row = stack_.back(0); row != stack_.front(0) && status_.queue_of(row) != kLir;
         row = stack_.back(0)) {
      pop_stack(row);
      if (status_.queue_of(row) == kGone) status_.erase(row);
    }
  }

  /// Turns the lowest LIR rows into HIR rows.
  void demote_while_lir_above(std::uint64_t limit) noexcept {
    while (status_.weight(kLir) > limit) {
      const Row row = stack_.back(0);
      if (status_.queue_of(row) != kLir) return;
      pop_stack(row);
      status_.move_to_front(kHir, row);
      prune();
    }
  }

  void bound_stack() noexcept {
    prune();  // the first LIR row may have come in above HIR rows
    while (stack_weight_ / 2 >= weigher_.total() && stack_weight_ - weigher_.total() > weigher_.total() &&
           !status_.empty(kGone)) {
      const Row row = status_.back(kGone);
      pop_stack(row);
      status_.erase(row);
    }
  }

  Weigher weigher_;
  std::uint64_t hir_max_;  // these two in the weigher's unit
  std::uint64_t lir_max_;
  RowLists stack_;  // S; front is the top
  RowQueues status_;
  std::uint64_t stack_weight_ = 0;  // of all rows in S
  Row last_used_ = kNoRow;          // not surplus, whatever its size
};
static_assert(EvictionPolicy<Lirs>);

}  // namespace loracle
