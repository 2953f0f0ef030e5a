#pragma once
/// Gives 64-bit ids dense rows in order of first appearance, a batch at a time.
/// Layout: open addressing, linear probing, 16-byte slots (a probe touches one cache line), at most half
/// full, on huge pages. A batch first computes and prefetches every home slot, so that the misses of a large
/// table overlap instead of following one another.
/// Cost: O(1) an id; 40 to 140 bytes a distinct id while loading. Threads: one owner.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "huge_array.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

class IdInterner {
 public:
  static constexpr std::size_t kBatchMax = 256;

  IdInterner() : slots_(std::size_t{1} << 12U) {}

  /// ids[i] distinct so far, by row.
  [[nodiscard]] const std::vector<std::uint64_t>& ids() const noexcept { return ids_; }

  /// Writes the row of ids[i] to rows[i]; calls on_new(i) once for each id never seen before, in order.
  /// REQUIRES: ids.size() <= kBatchMax, rows at least as long, fewer than 2^32 - 257 distinct ids so far.
  template <class OnNew>
  void intern(std::span<const std::uint64_t> ids, Row* rows, OnNew on_new) {
    if ((ids_.size() + kBatchMax) * 2 > std::size_t{1} << bits_) grow();
    const Slot* const base = slots_.data();
    std::array<std::size_t, kBatchMax> home;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      home[i] = home_of(ids[i]);
      __builtin_prefetch(base + home[i]);
    }
    const std::size_t mask = (std::size_t{1} << bits_) - 1;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      std::size_t at = home[i];
      while (slots_[at].row_plus_one != 0 && slots_[at].id != ids[i]) at = (at + 1) & mask;
      Slot& slot = slots_[at];
      if (slot.row_plus_one == 0) {
        ids_.push_back(ids[i]);
        slot = {ids[i], ids_.size()};
        on_new(i);
      }
      rows[i] = Row{static_cast<std::uint32_t>(slot.row_plus_one - 1)};
    }
  }

 private:
  struct Slot {  // always read together
    std::uint64_t id;
    std::uint64_t row_plus_one;  // 0: free, which is how fresh pages come
  };

  /// Multiply, fold, multiply: block addresses come in strides and in runs, and both must spread.
  [[nodiscard]] std::size_t home_of(std::uint64_t id) const noexcept {
    std::uint64_t x = id * 0x9E37'79B9'7F4A'7C15ULL;
    x = (x ^ (x >> 32U)) * 0xD6E8'FEB8'6659'FD93ULL;
    return static_cast<std::size_t>(x >> (64U - bits_));
  }

  void grow() {
    bits_ += 2;
    slots_ = HugeArray<Slot>(std::size_t{1} << bits_);
    const std::size_t mask = (std::size_t{1} << bits_) - 1;
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      std::size_t at = home_of(ids_[i]);
      while (slots_[at].row_plus_one != 0) at = (at + 1) & mask;
      slots_[at] = {ids_[i], i + 1};
    }
  }

  unsigned bits_ = 12;  // the table has 2^bits_ slots
  HugeArray<Slot> slots_;
  std::vector<std::uint64_t> ids_;
};

}  // namespace loracle
