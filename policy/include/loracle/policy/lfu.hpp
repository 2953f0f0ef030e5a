#pragma once
/// LFU: evicts the row used least often since it came in.
///
/// Formula: victim = argmin of uses since insertion (1 at insertion); equal counts leave in the order in
/// which they reached that count. No memory of rows that left, no ageing.
/// Layout: one list of all rows, ordered by (count, arrival at it), oldest end first to go. Rows of equal
/// count are a run of that list; `runs_` [rows] holds each run's count and newest row, so a hit jumps over
/// its run in O(1).
/// Cost: O(1) an operation; evict passes over blocked rows from the low end. Memory: 32 bytes a row, of which
/// the 16 of `runs_` are touched only for as many runs as there are different counts.
/// Differences from the paper: none in the rule. From libCacheSim: none in the counts (its C version, ties by
/// insertion).
/// Source: Ketan Shah, Anirban Mitra, Dhruv Matani, "An O(1) algorithm for implementing the LFU cache
/// eviction scheme", 2010, for the O(1) lists; here runs of one list instead of a list a count.

#include <cstdint>
#include <string_view>
#include <vector>

#include "loracle/core/row_lists.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Lfu {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "lfu";
  static constexpr bool kClairvoyant = false;

  Lfu(std::uint32_t rows, Capacity, const Config&)
      : order_(rows, 1), run_of_(rows), runs_(rows), free_(rows) {
    for (std::uint32_t i = 0; i < rows; ++i) free_[i] = rows - 1 - i;
  }

  [[nodiscard]] bool contains(Row row) const noexcept { return order_.linked(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }

  void on_insert(Row row, Tick, const AdapterTable&) noexcept {
    const Row oldest = order_.back(0);
    if (oldest != kNoRow && runs_[run_of(oldest)].count == 1) {
      join(run_of(oldest), row);
    } else {
      order_.push_back(0, row);
      open_run(row, 1);
    }
  }

  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    const std::uint32_t run = run_of(row);
    const std::uint64_t count = runs_[run].count + 1;
    const Row newest = runs_[run].newest;
    const Row above = order_.newer(newest);
    const bool joins = above != kNoRow && runs_[run_of(above)].count == count;
    if (!joins && newest == row && !has_older_in_run(row)) {
      runs_[run].count = count;  // a run of one moves up where it stands
      return;
    }
    const std::uint32_t target = joins ? run_of(above) : run;
    leave(row);
    if (joins) {
      join(target, row);
    } else {
      insert_newer(runs_[run].newest, row);
      open_run(row, count);
    }
  }

  void on_remove(Row row) noexcept { leave(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    Row victim = order_.back(0);
    while (victim != kNoRow && guard.blocks(victim)) victim = order_.newer(victim);
    if (victim != kNoRow) leave(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept {
    order_.prefetch(row);
    __builtin_prefetch(&run_of_[index_of(row)], 1);
  }

 private:
  struct Run {  // always read together
    std::uint64_t count = 0;
    Row newest = kNoRow;
  };

  [[nodiscard]] std::uint32_t run_of(Row row) const noexcept { return run_of_[index_of(row)]; }

  [[nodiscard]] bool has_older_in_run(Row row) const noexcept {
    const Row older = order_.older(row);
    return older != kNoRow && run_of(older) == run_of(row);
  }

  void insert_newer(Row place, Row row) noexcept {
    const Row newer = order_.newer(place);
    if (newer == kNoRow)
      order_.push_front(0, row);
    else
      order_.insert_older(newer, row);
  }

  void open_run(Row row, std::uint64_t count) noexcept {
    const std::uint32_t run = free_.back();
    free_.pop_back();
    runs_[run] = {count, row};
    run_of_[index_of(row)] = run;
  }

  void join(std::uint32_t run, Row row) noexcept {
    insert_newer(runs_[run].newest, row);
    runs_[run].newest = row;
    run_of_[index_of(row)] = run;
  }

  /// Takes a row off the list, and closes its run if it was the last of it.
  void leave(Row row) noexcept {
    const std::uint32_t run = run_of(row);
    if (runs_[run].newest == row) {
      if (has_older_in_run(row))
        runs_[run].newest = order_.older(row);
      else
        free_.push_back(run);
    }
    order_.erase(row);
  }

  RowLists order_;
  std::vector<std::uint32_t> run_of_;  // [rows]
  std::vector<Run> runs_;              // [rows]
  std::vector<std::uint32_t> free_;    // [rows - runs in use]  a stack
};
static_assert(EvictionPolicy<Lfu>);

}  // namespace loracle
