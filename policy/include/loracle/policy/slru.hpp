#pragma once
/// Segmented LRU: LRU lists stacked on one another; a hit lifts a row one list up, overflow pushes the oldest
/// of a list one down, and rows leave from the lowest.
///
/// Formula: `segments` lists share the capacity equally. A newcomer enters the lowest list with room (the
/// lowest if none has). A hit in list i moves the row to the front of list min(i + 1, top); then, from there
/// down, a list over its share pushes its oldest to the front of the next lower. Victim: the oldest of the
/// lowest list that has a row.
/// Cost: O(segments) an operation, amortised. Memory: 9 bytes a row, 17 where bytes are limited.
/// `shed`: a hit may push rows onto a lowest list that is already full though the cache as a whole is not
/// (shares round down, sizes differ). They are surplus: evicted at once by drivers that call `shed`, else
/// first at the next eviction. The newest row of that list is no surplus.
/// Differences from the paper: any number of segments; it has two. From libCacheSim: none in the counts where
/// surplus is shed at once. It refuses what is larger than one segment and keeps nothing with fewer entries
/// than segments; here a large row lives in the lowest list and there are at most as many segments as
/// entries.
/// Source: Karedla, Love and Wherry, "Caching strategies to improve disk system performance", Computer 27(3),
/// 1994.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Slru {
 public:
  struct Config {
    std::uint64_t segments = 4;  // 1 to 15
    template <class V>
    void visit(V&& v) {
      v("segments", segments);
    }
  };
  static constexpr std::string_view kName = "slru";
  static constexpr bool kClairvoyant = false;

  Slru(std::uint32_t rows, Capacity capacity, const Config& config)
      : weigher_(capacity),
        segments_(segments_of(weigher_, config)),
        share_(weigher_.total() / segments_),
        queues_(rows, segments_, weigher_.by_bytes()) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return queues_.queue_of(row) != RowQueues::kNowhere; }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    const std::uint64_t weight = weigher_.of(row, table);
    std::uint32_t segment = 0;
    while (segment < segments_ && queues_.weight(segment) + weight > share_) ++segment;
    queues_.push_front(segment == segments_ ? 0 : segment, row, weight);
  }

  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    std::uint32_t segment = std::min(queues_.queue_of(row) + 1, segments_ - 1);
    queues_.move_to_front(segment, row);
    for (; segment > 0 && queues_.weight(segment) > share_; --segment) {
      while (queues_.weight(segment) > share_) queues_.move_to_front(segment - 1, queues_.back(segment));
      surplus_ = segment == 1 && queues_.weight(0) > share_;
    }
  }

  void on_remove(Row row) noexcept { queues_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    for (std::uint32_t segment = 0; segment < segments_; ++segment) {
      const Row victim = queues_.oldest_free(segment, guard);
      if (victim == kNoRow) continue;
      queues_.erase(victim);
      return victim;
    }
    return kNoRow;
  }

  /// The next row to go though there is room for it, now no longer tracked; kNoRow when there is none.
  template <class Guard>
  [[nodiscard]] Row shed(Tick, const AdapterTable&, const Guard& guard) noexcept {
    if (!surplus_) return kNoRow;
    const Row victim = queues_.oldest_free(0, guard);
    surplus_ = victim != kNoRow && queues_.weight(0) > share_ && queues_.front(0) != victim;
    if (!surplus_) return kNoRow;
    queues_.erase(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept { queues_.prefetch(row); }

 private:
  static std::uint32_t segments_of(const Weigher& weigher, const Config& config) noexcept {
    const std::uint64_t wanted = std::clamp<std::uint64_t>(config.segments, 1, RowQueues::kQueuesMax);
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(weigher.total(), 1, wanted));
  }

  Weigher weigher_;
  std::uint32_t segments_;
  std::uint64_t share_;  // of each segment, in the weigher's unit
  RowQueues queues_;     // [segments], 0 the lowest
  bool surplus_ = false;
};
static_assert(EvictionPolicy<Slru>);

}  // namespace loracle
