#include "waiting_lanes.hpp"

#include <algorithm>
#include <utility>

#include "loracle/core/check.hpp"

namespace loracle::detail {

WaitingLanes::WaitingLanes(std::uint32_t rows, std::uint64_t requests, std::uint32_t batch_max)
    : next_(requests, kNoFollower),
      is_held_(rows, 0),
      lane_of_one_(rows, kNoLane),
      lanes_with_(rows, kNoMember),
      by_need_(std::size_t{batch_max} + 1) {
  LORACLE_CHECK(requests < kNoFollower);
}

void WaitingLanes::join(std::uint64_t request, std::span<const Row> rows) {
  const auto joining = static_cast<std::uint32_t>(request);
  LORACLE_CHECK(joining < kNoFollower);
  if (joining >= next_.size()) next_.resize(std::size_t{joining} + 1, kNoFollower);
  const std::uint32_t at = lane_of(rows);
  Lane& lane = lanes_[at];
  ++waiting_;
  if (lane.head != kNoFollower) {
    LORACLE_DCHECK(lane.tail < joining);
    next_[lane.tail] = joining;
    lane.tail = joining;
    return;
  }
  lane.head = lane.tail = joining;
  link(at);
  push(at);
}

std::uint64_t WaitingLanes::first(std::uint32_t free_slots) noexcept {
  named_ = kNoLane;
  for (std::size_t need = 0; need < by_need_.size() && need <= free_slots; ++need) {
    if (by_need_[need].empty()) continue;
    const std::uint32_t lane = by_need_[need].front();
    if (named_ == kNoLane || lanes_[lane].head < lanes_[named_].head) named_ = lane;
  }
  return named_ == kNoLane ? kNone : lanes_[named_].head;
}

std::uint64_t WaitingLanes::leave() {
  LORACLE_CHECK(named_ != kNoLane);
  const std::uint32_t left = std::exchange(named_, kNoLane);
  Lane& lane = lanes_[left];
  --waiting_;
  lane.head = next_[lane.head];
  if (lane.head == kNoFollower) {
    erase(left);
    unlink(left);
    return kNone;
  }
  __builtin_prefetch(&next_[lane.head]);
  sift_down(by_need_[lane.need], lane.place, left);  // a later head: it can only sink
  return lane.head;
}

void WaitingLanes::put_aside() {
  LORACLE_CHECK(named_ != kNoLane);
  erase(named_);
  aside_.push_back(named_);
  named_ = kNoLane;
}

void WaitingLanes::restore() {
  for (const std::uint32_t lane : aside_) push(lane);
  aside_.clear();
}

std::uint32_t WaitingLanes::lane_of(std::span<const Row> rows) {
  if (rows.size() == 1) {
    std::uint32_t& lane = lane_of_one_[index_of(rows.front())];
    if (lane == kNoLane) lane = make_lane(rows);
    return lane;
  }
  std::vector<Row> sorted(rows.begin(), rows.end());
  std::sort(sorted.begin(), sorted.end());
  const auto [place, is_new] = lane_of_several_.try_emplace(std::move(sorted), kNoLane);
  if (is_new) place->second = make_lane(rows);
  return place->second;
}

std::uint32_t WaitingLanes::make_lane(std::span<const Row> rows) {
  Lane lane;
  lane.members_begin = static_cast<std::uint32_t>(members_.size());
  for (const Row row : rows) members_.push_back({row, static_cast<std::uint32_t>(lanes_.size())});
  lane.members_end = static_cast<std::uint32_t>(members_.size());
  lanes_.push_back(lane);
  return static_cast<std::uint32_t>(lanes_.size() - 1);
}

/// Puts the lane into the lists of its rows, and counts its need: while it is in none, nobody tells it.
void WaitingLanes::link(std::uint32_t lane) {
  std::uint32_t need = 0;
  for (std::uint32_t at = lanes_[lane].members_begin; at < lanes_[lane].members_end; ++at) {
    Member& member = members_[at];
    std::uint32_t& first = lanes_with_[index_of(member.row)];
    need += is_held_[index_of(member.row)] == 0 ? 1U : 0U;
    member.before = kNoMember;
    member.after = first;
    if (first != kNoMember) members_[first].before = at;
    first = at;
  }
  lanes_[lane].need = need;
}

void WaitingLanes::unlink(std::uint32_t lane) {
  for (std::uint32_t at = lanes_[lane].members_begin; at < lanes_[lane].members_end; ++at) {
    const Member& member = members_[at];
    if (member.after != kNoMember) members_[member.after].before = member.before;
    if (member.before != kNoMember)
      members_[member.before].after = member.after;
    else
      lanes_with_[index_of(member.row)] = member.after;
  }
}

void WaitingLanes::shift(Row row, bool is_taken) {
  LORACLE_DCHECK((is_held_[index_of(row)] != 0) != is_taken);
  is_held_[index_of(row)] = is_taken ? 1 : 0;
  for (std::uint32_t at = lanes_with_[index_of(row)]; at != kNoMember; at = members_[at].after) {
    const std::uint32_t lane = members_[at].lane;
    const bool in_heap = lanes_[lane].place != kNotInHeap;  // else it is put aside
    if (in_heap) erase(lane);
    lanes_[lane].need += is_taken ? std::uint32_t(-1) : 1U;
    if (in_heap) push(lane);
  }
}

void WaitingLanes::push(std::uint32_t lane) {
  Heap& heap = by_need_[lanes_[lane].need];
  heap.push_back(lane);
  sift_up(heap, heap.size() - 1, lane);
}

void WaitingLanes::erase(std::uint32_t lane) {
  Heap& heap = by_need_[lanes_[lane].need];
  const std::size_t place = lanes_[lane].place;
  const std::uint32_t last = heap.back();
  heap.pop_back();
  lanes_[lane].place = kNotInHeap;
  if (last == lane) return;
  if (place > 0 && lanes_[last].head < lanes_[heap[(place - 1) / 2]].head)
    sift_up(heap, place, last);
  else
    sift_down(heap, place, last);
}

void WaitingLanes::sift_up(Heap& heap, std::size_t place, std::uint32_t lane) {
  while (place > 0) {
    const std::size_t parent = (place - 1) / 2;
    if (lanes_[heap[parent]].head <= lanes_[lane].head) break;
    heap[place] = heap[parent];
    lanes_[heap[place]].place = static_cast<std::uint32_t>(place);
    place = parent;
  }
  heap[place] = lane;
  lanes_[lane].place = static_cast<std::uint32_t>(place);
}

void WaitingLanes::sift_down(Heap& heap, std::size_t place, std::uint32_t lane) {
  for (;;) {
    std::size_t child = 2 * place + 1;
    if (child >= heap.size()) break;
    if (child + 1 < heap.size() && lanes_[heap[child + 1]].head < lanes_[heap[child]].head) ++child;
    if (lanes_[lane].head <= lanes_[heap[child]].head) break;
    heap[place] = heap[child];
    lanes_[heap[place]].place = static_cast<std::uint32_t>(place);
    place = child;
  }
  heap[place] = lane;
  lanes_[lane].place = static_cast<std::uint32_t>(place);
}

}  // namespace loracle::detail
