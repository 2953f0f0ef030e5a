#pragma once
/// One cache tier as a pure state machine: who is resident, in which slot, and who must not leave.
///
/// Layout: columns over rows (`slot_of_`, `holds_`, `last_use_`) and over slots (`row_in_`); nothing else.
/// Invariants:
///   1. Entries and bytes resident never exceed the capacity, not between any two calls of `on_evict` either.
///   2. A row that is pinned or held (leased, or part of the request being served) is never a victim.
///   3. A row keeps its slot from insertion to removal; a newcomer takes the lowest free slot.
///   4. contains(row), slot_of(row) != kNoSlot and the policy's contains(row) agree.
/// A policy's surplus (`shed`, make_room.hpp) is not shed here: nothing leaves while there is room.
/// Cost: O(1) beside the policy's own, and slots / 64 to find a free slot. No allocation after construction
/// but in set_policy and by_last_use. Threads: one owner. Errors: refusals are values (`Admission`);
/// misuse is a failed CHECK.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/policy/eviction_policy.hpp"
#include "loracle/policy/make_room.hpp"

namespace loracle {

inline constexpr std::uint32_t kNoSlot = 0xFFFF'FFFFU;

/// What became of a row that was to come in.
enum class Admission : std::uint8_t {
  kInserted,
  kBypassed,  // the policy would rather not keep it (only when the row is not held)
  kAllHeld,   // nothing that may be evicted is left
  kTooLarge,  // it would not fit an empty tier
};

/// Slot numbers that are free; hands out the lowest.
class FreeSlots {
 public:
  explicit FreeSlots(std::uint32_t slots) : words_((std::size_t{slots} + 63) / 64, ~std::uint64_t{0}) {
    if (slots % 64 != 0) words_.back() = (std::uint64_t{1} << (slots % 64)) - 1;
  }
  /// REQUIRES: one is free.
  [[nodiscard]] std::uint32_t take_lowest() noexcept {
    while (words_[first_] == 0) {
      ++first_;
      LORACLE_CHECK(first_ < words_.size());
    }
    const auto bit = static_cast<std::uint32_t>(std::countr_zero(words_[first_]));
    words_[first_] &= words_[first_] - 1;
    return static_cast<std::uint32_t>(first_ * 64) + bit;
  }
  void give_back(std::uint32_t slot) noexcept {
    words_[slot / 64] |= std::uint64_t{1} << (slot % 64);
    first_ = std::min(first_, std::size_t{slot} / 64);
  }

 private:
  std::vector<std::uint64_t> words_;  // bit set: free
  std::size_t first_ = 0;             // no word before it has a free slot
};

template <EvictionPolicy P>
class Tier {
 public:
  /// `table` must outlive the tier. REQUIRES: capacity.entries > 0 and capacity.bytes > 0.
  Tier(std::uint32_t rows, Capacity capacity, P policy, const AdapterTable& table)
      : built_for_(capacity),
        capacity_(capacity),
        table_(&table),
        policy_(std::move(policy)),
        slot_of_(rows, kNoSlot),
        holds_(rows, 0),
        last_use_(rows, 0),
        row_in_(slots_for(rows, capacity), kNoRow),
        free_(static_cast<std::uint32_t>(row_in_.size())) {
    LORACLE_CHECK(capacity.entries > 0);
    LORACLE_CHECK(capacity.bytes.value > 0);
  }

  [[nodiscard]] bool contains(Row row) const noexcept { return slot_of_[index_of(row)] != kNoSlot; }
  [[nodiscard]] std::uint32_t slot_of(Row row) const noexcept { return slot_of_[index_of(row)]; }
  /// [slots] the row in each slot, kNoRow where free.
  [[nodiscard]] const std::vector<Row>& row_in() const noexcept { return row_in_; }
  [[nodiscard]] const Occupancy& used() const noexcept { return used_; }
  [[nodiscard]] const Capacity& capacity() const noexcept { return capacity_; }
  [[nodiscard]] const P& policy() const noexcept { return policy_; }

  /// True if the row would fit were the tier empty.
  [[nodiscard]] bool fits_alone(Row row) const noexcept {
    return fits(Occupancy{}, table_->size_of(row), capacity_);
  }
  /// True if `more` could come in beside everything that may not leave now.
  [[nodiscard]] bool could_hold(const Occupancy& more) const noexcept {
    return held_.entries + more.entries <= capacity_.entries && more.bytes <= capacity_.bytes &&
           held_.bytes <= capacity_.bytes - more.bytes;
  }

  /// A use of a resident row. REQUIRES: contains(row).
  void touch(Row row, Tick now) noexcept {
    LORACLE_DCHECK(contains(row));
    last_use_[index_of(row)] = ++uses_;
    policy_.on_access(row, now, *table_);
  }

  /// Brings a row in, evicting until it fits; `on_evict(victim, slot)` for each victim, already gone.
  /// A held row is let in even if the policy would refuse it. On anything but kInserted the row is not in;
  /// victims already evicted stay out. REQUIRES: !contains(row).
  template <class OnEvict>
  [[nodiscard]] Admission insert(Row row, Tick now, OnEvict&& on_evict) noexcept {
    LORACLE_DCHECK(!contains(row));
    if (!fits_alone(row)) return Admission::kTooLarge;
    const bool must = holds_[index_of(row)] != 0;
    if (!policy_.admit(row, now, *table_) && !must) return Admission::kBypassed;
    const Room room = make_room(policy_, used_, capacity_, row, now, *table_, HoldGuard{holds_},
                                [&](Row victim) { on_evict(victim, vacate(victim)); });
    if (room == Room::kBypassed) return Admission::kBypassed;
    if (room == Room::kBlocked) return Admission::kAllHeld;
    settle(row, now);
    return Admission::kInserted;
  }

  /// Takes a row out for a reason other than eviction; its slot, now free. REQUIRES: contains(row).
  std::uint32_t remove(Row row) noexcept {
    LORACLE_DCHECK(contains(row));
    policy_.on_remove(row);
    --used_.entries;
    used_.bytes -= table_->size_of(row);
    if (holds_[index_of(row)] != 0) held_ = without(held_, row);
    return vacate(row);
  }

  /// Hands the residents to another policy, in the order of by_last_use(). What the old one knew beside that
  /// is lost. Allocates.
  /// REQUIRES: `policy` was built for the same rows and capacity, and tracks nothing yet.
  void set_policy(P policy, Tick now) noexcept {
    policy_ = std::move(policy);
    for (const Row row : by_last_use()) policy_.on_insert(row, now, *table_);
  }

  /// Residents, the one whose last use (or insertion) is oldest first. O(slots x log(slots)); allocates.
  [[nodiscard]] std::vector<Row> by_last_use() const {
    std::vector<Row> residents;
    for (const Row row : row_in_)
      if (row != kNoRow) residents.push_back(row);
    std::sort(residents.begin(), residents.end(), [this](Row a, Row b) {
      return last_use_[index_of(a)] < last_use_[index_of(b)];
    });
    return residents;
  }

  /// Whether the residents, or those of them that may not leave, fit another capacity.
  [[nodiscard]] bool within(const Capacity& capacity) const noexcept {
    return used_.entries <= capacity.entries && used_.bytes <= capacity.bytes;
  }
  [[nodiscard]] bool held_within(const Capacity& capacity) const noexcept {
    return held_.entries <= capacity.entries && held_.bytes <= capacity.bytes;
  }
  /// At most what the tier was built for. REQUIRES: within(capacity).
  void set_capacity(const Capacity& capacity) noexcept {
    LORACLE_CHECK(within(capacity) && capacity.entries > 0 && capacity.bytes.value > 0);
    capacity_ = {std::min(capacity.entries, built_for_.entries), std::min(capacity.bytes, built_for_.bytes)};
  }

  /// Holds nest: a row held twice must be let go twice. A row may be held before it is resident.
  void hold(Row row) noexcept {
    if (holds_[index_of(row)] == 0 && contains(row)) held_ = with(held_, row);
    ++holds_[index_of(row)];
    LORACLE_DCHECK((holds_[index_of(row)] & ~kPinned) != 0);
  }
  /// REQUIRES: held.
  void let_go(Row row) noexcept {
    LORACLE_DCHECK((holds_[index_of(row)] & ~kPinned) != 0);
    --holds_[index_of(row)];
    if (holds_[index_of(row)] == 0 && contains(row)) held_ = without(held_, row);
  }
  [[nodiscard]] bool held(Row row) const noexcept { return holds_[index_of(row)] != 0; }

  /// A pin is a hold that does not nest.
  [[nodiscard]] bool pinned(Row row) const noexcept { return (holds_[index_of(row)] & kPinned) != 0; }
  void pin(Row row) noexcept {
    if (holds_[index_of(row)] == 0 && contains(row)) held_ = with(held_, row);
    holds_[index_of(row)] |= kPinned;
  }
  void unpin(Row row) noexcept {
    if (!pinned(row)) return;
    holds_[index_of(row)] &= ~kPinned;
    if (holds_[index_of(row)] == 0 && contains(row)) held_ = without(held_, row);
  }

 private:
  static constexpr std::uint32_t kPinned = 0x8000'0000U;

  static std::uint32_t slots_for(std::uint32_t rows, const Capacity& capacity) noexcept {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(rows, capacity.entries));
  }
  [[nodiscard]] Occupancy with(Occupancy sum, Row row) const noexcept {
    return {sum.entries + 1, sum.bytes + table_->size_of(row)};
  }
  [[nodiscard]] Occupancy without(Occupancy sum, Row row) const noexcept {
    return {sum.entries - 1, sum.bytes - table_->size_of(row)};
  }
  std::uint32_t vacate(Row row) noexcept {
    const std::uint32_t slot = std::exchange(slot_of_[index_of(row)], kNoSlot);
    row_in_[slot] = kNoRow;
    free_.give_back(slot);
    return slot;
  }
  void settle(Row row, Tick now) noexcept {
    policy_.on_insert(row, now, *table_);
    last_use_[index_of(row)] = ++uses_;
    const std::uint32_t slot = free_.take_lowest();
    slot_of_[index_of(row)] = slot;
    row_in_[slot] = row;
    used_ = with(used_, row);
    if (holds_[index_of(row)] != 0) held_ = with(held_, row);
  }

  Capacity built_for_;
  Capacity capacity_;
  const AdapterTable* table_;
  P policy_;
  std::uint64_t uses_ = 0;  // and insertions, so far
  Occupancy used_{};
  Occupancy held_{};                    // the part of used_ that may not leave
  std::vector<std::uint32_t> slot_of_;  // [rows] kNoSlot: not resident
  std::vector<std::uint32_t> holds_;    // [rows] number of holds; top bit: pinned
  std::vector<std::uint64_t> last_use_;  // [rows] number of the last use or insertion; of residents only
  std::vector<Row> row_in_;             // [slots]
  FreeSlots free_;
};

}  // namespace loracle
