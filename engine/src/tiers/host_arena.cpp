#include "tiers/host_arena.hpp"

#include <cstring>
#include <utility>

#include "loracle/core/check.hpp"

namespace loracle {

std::optional<std::uint64_t> HostArena::best_gap(std::uint64_t need) const noexcept {
  std::optional<std::uint64_t> best;
  std::uint64_t best_size = ~std::uint64_t{0};
  std::uint64_t end = 0;  // of the block before the gap
  const auto consider = [&](std::uint64_t begin, std::uint64_t size) {
    if (size < need || size >= best_size) return;
    best = begin;
    best_size = size;
  };
  for (const auto& [offset, block] : blocks_) {
    consider(end, offset - end);
    end = offset + room(block.bytes);
  }
  consider(end, memory_.size() - end);
  return best;
}

std::optional<std::uint64_t> HostArena::open_gap(std::uint64_t need) {
  // Windows of movable blocks and the gaps around them: two ends that only move forward. The one that opens
  // enough room for the fewest bytes moved wins.
  std::vector<Blocks::iterator> window;
  std::vector<Blocks::iterator> best;
  std::uint64_t best_moved = ~std::uint64_t{0};
  std::uint64_t best_begin = 0;
  std::uint64_t begin = 0;  // end of the block before the window
  std::uint64_t used = 0;   // by the window's blocks
  std::size_t head = 0;
  const auto shrink_and_judge = [&](std::uint64_t end) {
    while (head < window.size()) {
      // Without its first block the window begins behind it.
      const std::uint64_t first = room(window[head]->second.bytes);
      const std::uint64_t next_begin = window[head]->first + first;
      if (end - next_begin - (used - first) < need) break;
      begin = next_begin;
      used -= first;
      ++head;
    }
    if (end - begin - used < need || used >= best_moved) return;
    best.assign(window.begin() + static_cast<std::ptrdiff_t>(head), window.end());
    best_moved = used;
    best_begin = begin;
  };
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    shrink_and_judge(block->first);
    if (block->second.fixed != 0) {
      window.clear();
      head = 0;
      used = 0;
      begin = block->first + room(block->second.bytes);
    } else {
      window.push_back(block);
      used += room(block->second.bytes);
    }
  }
  shrink_and_judge(memory_.size());
  if (best_moved == ~std::uint64_t{0}) return std::nullopt;
  std::uint64_t to = best_begin;
  for (const auto block : best) {
    if (block->first != to) {
      std::memmove(memory_.data() + to, memory_.data() + block->first, block->second.bytes);
      moved_ += block->second.bytes;
    }
    Blocks::node_type node = blocks_.extract(block);
    node.key() = to;
    where_[node.mapped().row] = to;
    to += room(node.mapped().bytes);
    blocks_.insert(std::move(node));
  }
  return to;
}

bool HostArena::allocate(Row row, std::uint64_t bytes) {
  LORACLE_CHECK(bytes > 0);
  LORACLE_CHECK(!where_.contains(row));
  if (bytes > memory_.size()) return false;
  const std::uint64_t need = room(bytes);
  if (need > free_) return false;
  std::optional<std::uint64_t> offset = best_gap(need);
  if (!offset) offset = open_gap(need);
  if (!offset) return false;
  blocks_.emplace(*offset, Block{row, bytes, 1});
  where_.emplace(row, *offset);
  free_ -= need;
  return true;
}

void HostArena::free(Row row) noexcept {
  const auto found = where_.find(row);
  LORACLE_CHECK(found != where_.end());
  const auto block = blocks_.find(found->second);
  free_ += room(block->second.bytes);
  blocks_.erase(block);
  where_.erase(found);
}

void HostArena::fix(Row row) noexcept { ++blocks_.find(where_.find(row)->second)->second.fixed; }

void HostArena::release(Row row) noexcept {
  Block& block = blocks_.find(where_.find(row)->second)->second;
  LORACLE_CHECK(block.fixed > 0);
  --block.fixed;
}

std::span<std::byte> HostArena::bytes(Row row) const noexcept {
  const auto found = where_.find(row);
  LORACLE_CHECK(found != where_.end());
  return memory_.subspan(found->second, blocks_.find(found->second)->second.bytes);
}

}  // namespace loracle
