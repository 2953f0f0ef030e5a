#pragma once
/// When adapters are in use: a *period* of an adapter begins at an arrival that finds it idle, and ends with
/// the last end of the requests that hold it until then; that one is its *holder*. Known beforehand, because
/// nobody waits here. What a request adds to a period that goes on is only a later end, so a pass has work
/// where periods begin and end alone; and the ends of a block of arrivals are put in order by counting. (With
/// every request's end in that order, a pass that looks at ends took a third longer; with a heap of the
/// requests that run, five times as long.)
///
/// A block is a run of arrivals. Its periods are those that the block before has left running, which are
/// *carried*, then its own, by when they begin. A period *leaves* at the first arrival after its holder's
/// that does not come before it ends: at 1 .. size(), counted within the block, size() being the first
/// arrival of the next one. Those that leave later *stay*, and are carried into the next block.
/// Invariants: 1. An adapter has at most one period that has not left. 2. `order` lists those that leave by
/// when they end, of several at once the one with the earlier holder first, of one request's in its own
/// order; that is also the order in which they leave.
/// Cost: O(1) a use where arrivals and ends are spread over a block, O(log block) where they crowd. A block
/// is at least twice as long as the periods that the one before has left, so going through those again costs
/// O(1) a use too. Memory: 16 bytes a row, 36 a period and 28 an arrival of the block: some 300 KB, or 150
/// bytes a period that runs where more than 2,048 do.
/// An arrival before an earlier one counts as being at that one's time. Threads: one owner.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

class BusyPeriods {
 public:
  /// At `traffic` times the rate of arrivals. `trace` and `stream` must outlive it.
  /// REQUIRES: check_times(trace); the stream was made from it.
  BusyPeriods(const Trace& trace, const BatchStream& stream, double traffic);

  /// Goes to the first block, or the next. False: there is none. REQUIRES: one of `count_left` and `order`
  /// was called for the block before.
  bool next();

  /// Arrivals in the block.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Periods in the block, and how many of them, the first, are carried.
  [[nodiscard]] std::size_t periods() const noexcept { return periods_; }
  [[nodiscard]] std::size_t carried() const noexcept { return carried_; }

  /// [periods] the adapter of each, and the arrival of the block that it begins at (carried: nothing).
  [[nodiscard]] std::span<const Row> rows() const noexcept { return std::span(rows_).first(periods_); }
  [[nodiscard]] std::span<const std::uint32_t> begins() const noexcept {
    return std::span(begins_).first(periods_);
  }
  /// [size()] periods, the carried ones included, that have begun when this arrival has taken its slots.
  [[nodiscard]] std::span<const std::uint32_t> begun_by() const noexcept {
    return std::span(begun_by_).first(size_);
  }

  /// Without putting them in order. One of the two is to be called, once a block.
  void count_left();
  void order();

  /// [size() + 1] periods that have left before this arrival takes its slots.
  [[nodiscard]] std::span<const std::uint32_t> left_by() const noexcept {
    return std::span(left_by_).first(size_ + 1);
  }
  /// The periods that stay, by when they begin.
  [[nodiscard]] std::span<const std::uint32_t> staying() const noexcept { return staying_; }
  /// After `order`. The periods that leave, in the order in which they do.
  [[nodiscard]] std::span<const std::uint32_t> in_order() const noexcept {
    return std::span(in_order_).first(periods_ - staying_.size());
  }

  /// How many requests were asked to hold nothing, or for an unknown time, so far.
  [[nodiscard]] std::uint64_t unknown_durations() const noexcept { return unknown_durations_; }

 private:
  static constexpr std::size_t kArrivalsMin = 4096;
  static constexpr std::size_t kArrivalsMax = std::size_t{1} << 29U;  // cells fit 31 bits

  /// Of a row. They are read together, at every use.
  struct Latest {
    double end_s = -std::numeric_limits<double>::infinity();  // of its latest period
    std::uint32_t period = 0;                                 // which one; nothing if it has left
    std::uint32_t holder = 0;
  };

  void carry();
  template <bool kOne, class Origin>
  void find_periods(Origin origin);
  template <bool kOne>
  void find_periods();
  [[nodiscard]] std::uint32_t first_use(std::size_t arrival) const noexcept;
  void find_cells(std::span<const double> times_s, std::size_t cells);
  [[nodiscard]] bool ends_before(std::uint32_t a, std::uint32_t b) const noexcept;
  void sort_crowds(std::size_t cells);
  void insert_ends();
  void count_left_in_order(std::size_t cells);

  const Trace& trace_;
  const BatchStream& stream_;
  double traffic_;
  std::uint64_t unknown_durations_ = 0;
  std::vector<Latest> latest_;                               // [rows]
  double now_s_ = -std::numeric_limits<double>::infinity();  // of the last arrival of the block
  std::size_t first_ = 0;  // request of the stream that the block begins with
  std::size_t size_ = 0;
  std::size_t carried_ = 0;
  std::size_t periods_ = 0;

  // [periods, and one that a use may write in vain]
  std::vector<Row> rows_;
  std::vector<std::uint32_t> begins_;
  std::vector<double> end_s_;
  std::vector<std::uint32_t> holder_;    // the use that ends last
  std::vector<std::uint32_t> begun_by_;  // [size]
  std::vector<std::uint32_t> staying_;

  std::size_t arrivals_ = 0;       // of the block, and the first of the next if there is one
  std::vector<double> arrival_s_;  // [arrivals + probes] those behind the last never come
  // The block's time in cells, so that ends find their arrivals, or arrivals theirs of the ends.
  std::vector<std::uint32_t> cell_;         // [arrivals or periods] scratch
  std::vector<std::uint32_t> before_cell_;  // [cells + 1 or more] arrivals or ends before each cell

  std::vector<std::uint32_t> left_by_;   // [size + 1]
  std::vector<std::uint32_t> in_order_;  // [periods] those that stay at the end
  std::vector<double> end_in_order_s_;   // [periods, and probes]
};

}  // namespace loracle::detail
