#pragma once
/// Requests that wait for slots, so that those who can start are found without looking at the others.
///
/// A lane is a set of adapters that requests wait for: first come, first served within it, for all of its
/// requests need the same. What a lane needs is the number of its adapters that nobody holds; a request can
/// have its slots if as many are free. Heads of lanes lie in one heap a need, by the number of the request,
/// so that the earliest of those who can start is the least of a few heads.
/// Layout: `lanes_` and their `members_` (one an adapter of a lane, linked into a list an adapter: of the
/// lanes with waiters alone), made when somebody first waits in them; `next_` is each request's follower.
/// Invariants: 1. A lane with waiters is in the heap of its need or put aside, one without is in neither.
/// 2. Its need is the number of its adapters that nobody holds.
/// Cost: O(log lanes + need_max) a request that waits; O(lanes with waiters that want it x log lanes) an
/// adapter that is taken or comes free. Memory: 4 bytes a request, 9 an adapter, and about 60 a lane.
/// Threads: one owner.

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <vector>

#include "loracle/core/units.hpp"

namespace loracle::detail {

class WaitingLanes {
 public:
  static constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

  /// `requests` as far as they are known: more may join. REQUIRES: no batch has more rows than `batch_max`.
  WaitingLanes(std::uint32_t rows, std::uint64_t requests, std::uint32_t batch_max);

  [[nodiscard]] std::uint64_t size() const noexcept { return waiting_; }
  [[nodiscard]] bool empty() const noexcept { return waiting_ == 0; }

  /// Puts a request at the end of its lane. REQUIRES: requests join in ascending order; distinct rows.
  void join(std::uint64_t request, std::span<const Row> rows);
  /// The row has got its first holder, or lost its last.
  void taken(Row row) { shift(row, true); }
  void freed(Row row) { shift(row, false); }

  /// The earliest head that needs at most `free_slots` and is not put aside; kNone if there is none.
  [[nodiscard]] std::uint64_t first(std::uint32_t free_slots) noexcept;
  /// Takes out the request that `first` has just named. Its rows are taken after that.
  /// Which request heads its lane now, kNone if none does: it often goes next, and is not in the cache.
  std::uint64_t leave();
  /// Leaves out the lane of the request that `first` has just named, until `restore`.
  void put_aside();
  void restore();

 private:
  static constexpr std::uint32_t kNoLane = 0xFFFF'FFFFU;
  static constexpr std::uint32_t kNoMember = 0xFFFF'FFFFU;
  static constexpr std::uint32_t kNoFollower = 0xFFFF'FFFFU;
  static constexpr std::uint32_t kNotInHeap = 0xFFFF'FFFFU;

  struct Lane {
    std::uint32_t head = kNoFollower;  // a request; kNoFollower: nobody waits here
    std::uint32_t tail = kNoFollower;
    std::uint32_t need = 0;
    std::uint32_t place = kNotInHeap;
    std::uint32_t members_begin = 0;
    std::uint32_t members_end = 0;
  };
  /// A row of a lane; in the row's list while the lane has waiters.
  struct Member {
    Row row = kNoRow;
    std::uint32_t lane = kNoLane;
    std::uint32_t before = kNoMember;
    std::uint32_t after = kNoMember;
  };
  using Heap = std::vector<std::uint32_t>;  // of lanes, by their heads

  std::uint32_t lane_of(std::span<const Row> rows);
  std::uint32_t make_lane(std::span<const Row> rows);
  void link(std::uint32_t lane);
  void unlink(std::uint32_t lane);
  void shift(Row row, bool is_taken);

  void push(std::uint32_t lane);
  void erase(std::uint32_t lane);
  void sift_up(Heap& heap, std::size_t place, std::uint32_t lane);
  void sift_down(Heap& heap, std::size_t place, std::uint32_t lane);

  std::vector<std::uint32_t> next_;         // [requests, or so far] that waits behind it in its lane
  std::vector<std::uint8_t> is_held_;       // [rows]
  std::vector<std::uint32_t> lane_of_one_;  // [rows] the lane of those that want this row alone
  std::map<std::vector<Row>, std::uint32_t> lane_of_several_;  // by the rows, sorted
  std::vector<std::uint32_t> lanes_with_;                      // [rows] first member in the row's list
  std::vector<Lane> lanes_;
  std::vector<Member> members_;
  std::vector<Heap> by_need_;  // [batch_max + 1]
  std::vector<std::uint32_t> aside_;
  std::uint32_t named_ = kNoLane;  // by `first`
  std::uint64_t waiting_ = 0;
};

}  // namespace loracle::detail
