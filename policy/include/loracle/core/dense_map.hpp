#pragma once
/// A set of rows with a value each, values stored side by side: what a policy that looks at random members or
/// at all of them wants (one cache line a look), at the price of one indirection by row.
/// Layout: `members_` [rows] holds the members in its first `size()` places; `place_` [rows] holds each
/// member's place, or kAbsent. Allocated once at construction. Order is not kept by `erase`, but is a
/// function of the calls.
/// Cost: O(1) an operation. Memory: 8 bytes and a value a row. Threads: one owner.

#include <cstdint>
#include <span>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

template <class T>
class DenseMap {
 public:
  struct Member {
    T value{};
    Row row = kNoRow;
  };

  explicit DenseMap(std::uint32_t rows) : members_(rows), place_(rows, kAbsent) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return place_[index_of(row)] != kAbsent; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::span<const Member> members() const noexcept { return {members_.data(), size_}; }

  /// REQUIRES: contains(row).
  [[nodiscard]] T& operator[](Row row) noexcept {
    LORACLE_DCHECK(contains(row));
    return members_[place_[index_of(row)]].value;
  }

  /// REQUIRES: !contains(row).
  void insert(Row row, const T& value) noexcept {
    LORACLE_DCHECK(!contains(row));
    place_[index_of(row)] = size_;
    members_[size_++] = {value, row};
  }

  /// REQUIRES: contains(row). The last member takes the freed place.
  void erase(Row row) noexcept {
    LORACLE_DCHECK(contains(row));
    const std::uint32_t hole = place_[index_of(row)];
    members_[hole] = members_[--size_];
    place_[index_of(members_[hole].row)] = hole;
    place_[index_of(row)] = kAbsent;
  }

  /// Asks the processor for a row's place ahead of use; never faults.
  void prefetch(Row row) const noexcept { __builtin_prefetch(&place_[index_of(row)], 1); }

 private:
  static constexpr std::uint32_t kAbsent = 0xFFFF'FFFFU;

  std::vector<Member> members_;
  std::vector<std::uint32_t> place_;  // [rows]
  std::uint32_t size_ = 0;
};

}  // namespace loracle
