#pragma once
/// A set of rows: O(1) insert, erase and membership; iteration over a dense array.
/// Layout: `dense_` [capacity] holds the members in the first `size()` places; `place_` [capacity] holds each
/// member's place, or kAbsent. 8 bytes a row, allocated once at construction. Order is not kept by `erase`.

#include <cstdint>
#include <span>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

class DenseSet {
 public:
  explicit DenseSet(std::uint32_t capacity) : dense_(capacity, kNoRow), place_(capacity, kAbsent) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return place_[index_of(row)] != kAbsent; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::span<const Row> rows() const noexcept { return {dense_.data(), size_}; }

  /// REQUIRES: not a member.
  void insert(Row row) noexcept {
    LORACLE_DCHECK(!contains(row));
    place_[index_of(row)] = size_;
    dense_[size_++] = row;
  }

  /// REQUIRES: a member. The last member takes the freed place.
  void erase(Row row) noexcept {
    LORACLE_DCHECK(contains(row));
    const std::uint32_t hole = place_[index_of(row)];
    const Row last = dense_[--size_];
    dense_[hole] = last;
    place_[index_of(last)] = hole;
    place_[index_of(row)] = kAbsent;
  }

 private:
  static constexpr std::uint32_t kAbsent = 0xFFFF'FFFFU;
  std::vector<Row> dense_;
  std::vector<std::uint32_t> place_;
  std::uint32_t size_ = 0;
};

}  // namespace loracle
