#pragma once
/// Several doubly linked lists of rows in one column of links; a row is in at most one of them.
/// Layout: `links_` [rows + lists]: 8 bytes a row; the last `lists` entries are the lists' sentinels, so no
/// operation has a special case for an empty list. Allocated once at construction.
/// Every operation is O(1). Front is where `push_front` puts a row; a queue is consumed from the back.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

class RowLists {
 public:
  RowLists(std::uint32_t rows, std::uint32_t lists) : rows_(rows), links_(std::size_t{rows} + lists) {
    LORACLE_CHECK(std::uint64_t{rows} + lists < 0xFFFF'FFFFULL);
    for (std::uint32_t list = 0; list < lists; ++list)
      link(sentinel(list)) = {sentinel(list), sentinel(list)};
  }

  /// True if the row is in any of the lists.
  [[nodiscard]] bool linked(Row row) const noexcept { return link(row).newer != kNoRow; }

  /// The row at the front (newest) or back (oldest); kNoRow if the list is empty.
  [[nodiscard]] Row front(std::uint32_t list) const noexcept { return real(link(sentinel(list)).older); }
  [[nodiscard]] Row back(std::uint32_t list) const noexcept { return real(link(sentinel(list)).newer); }
  [[nodiscard]] bool empty(std::uint32_t list) const noexcept {
    return link(sentinel(list)).older == sentinel(list);
  }

  /// The neighbour towards the front (newer) or the back (older); kNoRow past the end. REQUIRES: linked(row).
  [[nodiscard]] Row newer(Row row) const noexcept { return real(link(row).newer); }
  [[nodiscard]] Row older(Row row) const noexcept { return real(link(row).older); }

  /// REQUIRES: !linked(row).
  void push_front(std::uint32_t list, Row row) noexcept { insert_after(sentinel(list), row); }
  void push_back(std::uint32_t list, Row row) noexcept { insert_after(link(sentinel(list)).newer, row); }

  /// Puts `row` next to `place`, on its older side. REQUIRES: linked(place), !linked(row).
  void insert_older(Row place, Row row) noexcept { insert_after(place, row); }

  /// REQUIRES: linked(row).
  void erase(Row row) noexcept {
    LORACLE_DCHECK(linked(row));
    unlink(row);
    link(row).newer = kNoRow;
  }

  /// Moves a row to the front of `list`, out of whichever list it is in. REQUIRES: linked(row).
  void move_to_front(std::uint32_t list, Row row) noexcept {
    LORACLE_DCHECK(linked(row));
    unlink(row);
    splice_after(sentinel(list), row);
  }

  /// Asks the processor for a row's links ahead of use; never faults.
  void prefetch(Row row) const noexcept { __builtin_prefetch(&links_[index_of(row)], 1); }

 private:
  struct Link {  // always read together
    Row newer = kNoRow;
    Row older = kNoRow;
  };

  [[nodiscard]] Link& link(Row row) noexcept { return links_[index_of(row)]; }
  [[nodiscard]] const Link& link(Row row) const noexcept { return links_[index_of(row)]; }
  [[nodiscard]] Row sentinel(std::uint32_t list) const noexcept { return Row{rows_ + list}; }
  [[nodiscard]] Row real(Row row) const noexcept { return index_of(row) < rows_ ? row : kNoRow; }

  void unlink(Row row) noexcept {
    const Link at = link(row);
    link(at.newer).older = at.older;
    link(at.older).newer = at.newer;
  }
  void splice_after(Row place, Row row) noexcept {
    const Row older = link(place).older;
    link(row) = {place, older};
    link(place).older = row;
    link(older).newer = row;
  }
  void insert_after(Row place, Row row) noexcept {
    LORACLE_DCHECK(!linked(row));
    splice_after(place, row);
  }

  std::uint32_t rows_;
  std::vector<Link> links_;
};

}  // namespace loracle
