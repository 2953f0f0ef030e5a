#pragma once
/// The ends of requests among the arrivals: before which arrival has each one ended, and in which order?
/// Known beforehand, because nobody waits here; so ends are put in order by counting, a block of arrivals at
/// a time. (With a heap of those that run, all of a pass that looks at ends alone took five times as long.)
///
/// A block is a run of arrivals. Its members are the requests that the block before has left running, then
/// its own. A member *leaves* at the first arrival after its own that does not come before it ends: at 1 ..
/// size(), counted within the block, size() being the first arrival of the next one. Those that leave later
/// *stay*: they are members of the next block too.
/// Invariants: 1. Members are in the order of requests. 2. `order` lists those that leave by when they end,
/// of several at once the earlier request first; that is also the order in which they leave.
/// Cost: O(1) a request where arrivals and ends are spread over a block, O(log block) where they crowd. A
/// block is at least twice as long as what the one before has left, so going through those again costs O(1) a
/// request too. Memory: 28 bytes a member and 20 an arrival of the block: some 200 KB, or 124 bytes a request
/// that runs where more than 2,048 do.
/// Arrivals that are not in order give wrong answers, and no access out of bounds. Threads: one owner.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

class ArrivalBlocks {
 public:
  /// At `traffic` times the rate of arrivals. `trace` and `stream` must outlive it.
  /// REQUIRES: check_times(trace); the stream was made from it.
  ArrivalBlocks(const Trace& trace, const BatchStream& stream, double traffic);

  /// Goes to the first block, or the next. False: there is none.
  bool next();

  /// The request of the stream that the block begins with.
  [[nodiscard]] std::size_t first() const noexcept { return first_; }
  /// Arrivals in the block.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Members that were running before; arrival x of the block is member running_before() + x.
  [[nodiscard]] std::size_t running_before() const noexcept { return running_before_; }
  [[nodiscard]] std::size_t members() const noexcept { return running_before_ + size_; }
  /// Which request of the stream a member is.
  [[nodiscard]] std::uint32_t request(std::size_t member) const noexcept {
    return member < running_before_ ? running_[member]
                                    : static_cast<std::uint32_t>(first_ + member - running_before_);
  }
  /// How many requests were asked to hold nothing, or for an unknown time, so far.
  [[nodiscard]] std::uint64_t unknown_durations() const noexcept { return unknown_durations_; }

  /// One of the two is to be called, once a block.
  void find_leaves();
  void order();

  /// After `find_leaves`. [members] at which arrival of the block each leaves; size() + 1: it stays.
  [[nodiscard]] std::span<const std::uint32_t> leaves() const noexcept { return leaves_; }

  /// After `order`. The members that leave, in the order in which they do.
  [[nodiscard]] std::span<const std::uint32_t> in_order() const noexcept {
    return std::span(in_order_).first(leaving_);
  }
  /// The members that stay.
  [[nodiscard]] std::span<const std::uint32_t> staying() const noexcept { return staying_; }
  /// [size() + 1] how many have left before this arrival takes its slots.
  [[nodiscard]] std::span<const std::uint32_t> left_by() const noexcept { return left_by_; }

 private:
  static constexpr std::size_t kArrivalsMin = 4096;
  static constexpr std::size_t kArrivalsMax = std::size_t{1} << 29U;  // cells fit 31 bits

  void drop_those_that_left();
  void read_arrivals();
  template <class Origin>
  void read_arrivals_by(Origin origin);
  void find_cells(std::span<const double> times_s, std::size_t cells);
  void sort_crowds(std::size_t cells);
  void insert_ends();
  void count_left(std::size_t cells);

  const Trace& trace_;
  const BatchStream& stream_;
  double traffic_;
  std::uint64_t unknown_durations_ = 0;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
  std::size_t running_before_ = 0;

  std::vector<std::uint32_t> running_;  // [running before, or more] which request each is
  std::vector<double> end_s_;           // [members]
  std::vector<std::uint32_t> leaves_;   // [members]
  std::vector<std::uint32_t> staying_;  // members that stay

  std::size_t arrivals_ = 0;       // of the block, and the first of the next if there is one
  std::vector<double> arrival_s_;  // [arrivals + probes] those behind the last never come
  // The block's time in cells, so that ends find their arrivals, or arrivals theirs of the ends.
  std::vector<std::uint32_t> cell_;         // [arrivals or members] scratch
  std::vector<std::uint32_t> before_cell_;  // [cells + 1 or more] arrivals or ends before each cell

  std::size_t leaving_ = 0;              // members
  std::vector<std::uint32_t> left_by_;   // [size + 1]
  std::vector<std::uint32_t> in_order_;  // [members] those that stay at the end
  std::vector<double> end_in_order_s_;   // [members, and probes]
};

}  // namespace loracle::detail
