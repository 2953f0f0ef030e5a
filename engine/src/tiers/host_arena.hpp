#pragma once
/// Blocks of bytes in one piece of host memory: exact sizes, no rounding beyond an alignment of 64.
///
/// Layout: blocks in the order of their offsets; what lies between them is free. A block is taken from the
/// smallest gap that holds it. When the free bytes suffice but no gap does, blocks are moved together: the
/// fewest bytes that open a gap, never a fixed block (being read or written by somebody else).
/// Invariants: 1. Blocks never overlap. 2. Whoever is allowed n bytes gets them if all other blocks are
/// movable and n <= free bytes. 3. A fixed block keeps its address.
/// Cost: O(blocks) to allocate, plus a memmove where blocks move. Threads: one owner.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "loracle/core/units.hpp"

namespace loracle {

class HostArena {
 public:
  static constexpr std::uint64_t kAlignment = 64;

  explicit HostArena(std::span<std::byte> memory) : memory_(memory), free_(memory.size()) {}

  /// A block for `row`, fixed until `release`. False: not enough free bytes, or fixed blocks are in the way.
  /// REQUIRES: the row has none; bytes > 0.
  [[nodiscard]] bool allocate(Row row, std::uint64_t bytes);
  /// REQUIRES: the row has a block.
  void free(Row row) noexcept;
  /// A block is fixed while its count is above 0.
  void fix(Row row) noexcept;
  void release(Row row) noexcept;

  [[nodiscard]] bool contains(Row row) const noexcept { return where_.contains(row); }
  [[nodiscard]] std::span<std::byte> bytes(Row row) const noexcept;
  [[nodiscard]] std::uint64_t free_bytes() const noexcept { return free_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return memory_.size(); }
  /// Bytes moved to make room, so far.
  [[nodiscard]] std::uint64_t moved_bytes() const noexcept { return moved_; }

 private:
  struct Block {
    Row row = kNoRow;
    std::uint64_t bytes = 0;  // asked for
    std::uint32_t fixed = 0;
  };
  using Blocks = std::map<std::uint64_t, Block>;  // by offset

  [[nodiscard]] static std::uint64_t room(std::uint64_t bytes) noexcept {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  [[nodiscard]] std::optional<std::uint64_t> best_gap(std::uint64_t need) const noexcept;
  [[nodiscard]] std::optional<std::uint64_t> open_gap(std::uint64_t need);

  std::span<std::byte> memory_;
  std::uint64_t free_;
  std::uint64_t moved_ = 0;
  Blocks blocks_;
  std::unordered_map<Row, std::uint64_t> where_;  // offset
};

}  // namespace loracle
