#pragma once
/// S3-FIFO: three FIFO queues. Newcomers pass through a small one; what is used there more than once goes to
/// the main one, the rest is forgotten quickly but remembered as ghosts, and a ghost that returns goes
/// straight to main.
///
/// Formula: Small has share `small` of the capacity, Main the rest, Ghost remembers share `ghost` worth of
/// rows. Each row counts its hits (to 3, or to `threshold` if that is more). Miss: a ghost enters Main, any
/// other row Small. Evict: if Main is above its share or Small is empty, from Main: the oldest, while it has
/// hits, goes to the front with one hit less (of at most 3); the first without is the victim. Else from
/// Small: the oldest, while it has `threshold` hits, goes to Main with none; the first with fewer is the
/// victim and becomes a ghost.
/// Cost: a hit changes one byte; evict is O(1) amortised over hits. Memory: 9 bytes a row, 17 where bytes are
/// limited.
/// Blocked rows are passed over, neither moved nor counted down; if one queue is all blocked, the other
/// gives. A row larger than all of Ghost is not remembered.
/// Differences from the paper, as in libCacheSim's later version: until the first eviction, a newcomer that
/// finds Small full enters Main (the paper fills Small beyond its share). From libCacheSim: none in the
/// counts from 20 entries up. Below 20 it keeps nothing, as its Small must be larger than the row; here Small
/// has room for one entry at least, and a row larger than Small enters Main instead of being refused.
/// Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class S3Fifo {
 public:
  struct Config {
    double small = 0.1;           // of the capacity
    double ghost = 0.9;           // of the capacity: what the remembered rows weighed
    std::uint64_t threshold = 2;  // hits that take a row from Small to Main, 1 to 15
    template <class V>
    void visit(V&& v) {
      v("small", small);
      v("ghost", ghost);
      v("threshold", threshold);
    }
  };
  static constexpr std::string_view kName = "s3fifo";
  static constexpr bool kClairvoyant = false;

  S3Fifo(std::uint32_t rows, Capacity capacity, const Config& config)
      : weigher_(capacity),
        small_max_(std::clamp<std::uint64_t>(weigher_.share(config.small), 1, weigher_.total())),
        main_max_(weigher_.total() - small_max_),
        ghost_max_(weigher_.share(config.ghost)),
        threshold_(
            static_cast<std::uint32_t>(std::clamp<std::uint64_t>(config.threshold, 1, RowQueues::kCountMax))),
        queues_(rows, 3, weigher_.by_bytes()) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return queues_.queue_of(row) <= kMain; }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept {
    remembered_ = kNoRow;
    if (queues_.queue_of(row) == kGhost) {
      queues_.erase(row);
      remembered_ = row;
    }
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    const std::uint64_t weight = weigher_.of(row, table);
    const bool to_main =
        row == remembered_ || weight > small_max_ || (!has_evicted_ && queues_.weight(kSmall) >= small_max_);
    queues_.push_front(to_main ? kMain : kSmall, row, weight);
    remembered_ = kNoRow;
  }

  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    const std::uint32_t hits = queues_.count_of(row);
    if (hits < std::max(threshold_, kMainHitsMax)) queues_.set_count(row, hits + 1);
  }

  void on_remove(Row row) noexcept { queues_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    has_evicted_ = true;
    // Small may pass all it has to Main; then Main, above its share now, gives.
    Row victim = kNoRow;
    const bool main_first = queues_.weight(kMain) > main_max_ || queues_.empty(kSmall);
    if (!main_first) victim = evict_small(guard);
    if (victim == kNoRow) victim = evict_main(guard);
    if (victim == kNoRow && main_first) victim = evict_small(guard);
    if (victim == kNoRow && main_first) victim = evict_main(guard);
    return victim;
  }

  void prefetch(Row row) const noexcept { queues_.prefetch(row); }

 private:
  enum : std::uint32_t { kSmall, kMain, kGhost };
  static constexpr std::uint32_t kMainHitsMax = 3;

  template <class Guard>
  [[nodiscard]] Row evict_small(const Guard& guard) noexcept {
    for (Row row = queues_.back(kSmall); row != kNoRow;) {
      const Row newer = queues_.newer(row);
      if (!guard.blocks(row)) {
        if (queues_.count_of(row) < threshold_) {
          remember(row);
          return row;
        }
        queues_.set_count(row, 0);
        queues_.move_to_front(kMain, row);
      }
      row = newer;
    }
    return kNoRow;
  }

  template <class Guard>
  [[nodiscard]] Row evict_main(const Guard& guard) noexcept {
    bool any_free = false;
    for (Row row = queues_.back(kMain); row != kNoRow;) {
      const Row newer = queues_.newer(row);
      if (!guard.blocks(row)) {
        const std::uint32_t hits = queues_.count_of(row);
        if (hits == 0) {
          queues_.erase(row);
          return row;
        }
        any_free = true;
        queues_.set_count(row, std::min(hits, kMainHitsMax) - 1);
        queues_.move_to_front(kMain, row);
      }
      // Past the newest, a row that is free has fewer hits now: begin again at the old end.
      row = newer == kNoRow && any_free ? queues_.back(kMain) : newer;
    }
    return kNoRow;
  }

  /// To Ghost, whose oldest make room; a row larger than all of Ghost is not remembered.
  void remember(Row row) noexcept {
    const std::uint64_t weight = queues_.weight_of(row);
    if (weight > ghost_max_) return queues_.erase(row);
    while (queues_.weight(kGhost) + weight > ghost_max_) queues_.erase(queues_.back(kGhost));
    queues_.move_to_front(kGhost, row);
  }

  Weigher weigher_;
  std::uint64_t small_max_;  // these three in the weigher's unit
  std::uint64_t main_max_;
  std::uint64_t ghost_max_;
  std::uint32_t threshold_;
  RowQueues queues_;
  Row remembered_ = kNoRow;  // the row being admitted, if it was a ghost
  bool has_evicted_ = false;
};
static_assert(EvictionPolicy<S3Fifo>);

}  // namespace loracle
