#pragma once
/// 2Q: newcomers pass through a short FIFO; only a row asked for again after it left that FIFO enters the
/// main LRU.
///
/// Formula: queues In (FIFO, share `in` of the capacity), Out (ghosts: rows that left In, share `out` worth
/// of them) and Main (LRU, the rest). Hit in Main: to its front; hit in In: nothing. Miss: a row in Out goes
/// to Main, any other to In. Victim: the oldest of In, remembered in Out, while In is above its share; else
/// the oldest of Main, forgotten.
/// Cost: O(1) an operation, amortised. Memory: 9 bytes a row, 17 where bytes are limited. In holds at least
/// one entry. If the queue whose turn it is has only blocked rows, the other gives one. A row larger than all
/// of Out is not remembered.
/// Differences from the paper: none from its full version. From libCacheSim: none in the counts. It keeps
/// Main within its share though there is room (it matters where sizes differ and In runs low); it keeps
/// nothing with fewer than 4 entries and refuses rows larger than In; here such rows enter In.
/// Source: Johnson and Shasha, "2Q: a low overhead high performance buffer management replacement algorithm",
/// VLDB 1994.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class TwoQ {
 public:
  struct Config {
    double in = 0.25;  // of the capacity
    double out = 0.5;  // of the capacity: what the remembered rows weighed
    template <class V>
    void visit(V&& v) {
      v("in", in);
      v("out", out);
    }
  };
  static constexpr std::string_view kName = "2q";
  static constexpr bool kClairvoyant = false;

  TwoQ(std::uint32_t rows, Capacity capacity, const Config& config)
      : weigher_(capacity),
        in_max_(std::clamp<std::uint64_t>(weigher_.share(config.in), 1, weigher_.total())),
        out_max_(weigher_.share(config.out)),
        queues_(rows, 3, weigher_.by_bytes()) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return queues_.queue_of(row) <= kMain; }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept {
    remembered_ = kNoRow;
    if (queues_.queue_of(row) == kOut) {
      queues_.erase(row);
      remembered_ = row;
    }
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    const bool to_main = row == remembered_;
    queues_.push_front(to_main ? kMain : kIn, row, weigher_.of(row, table));
    remembered_ = kNoRow;
  }

  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    if (queues_.queue_of(row) == kMain) queues_.move_to_front(kMain, row);
  }

  void on_remove(Row row) noexcept { queues_.erase(row); }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    const bool in_first = queues_.weight(kIn) > in_max_;
    Row victim = queues_.oldest_free(in_first ? kIn : kMain, guard);
    if (victim == kNoRow) victim = queues_.oldest_free(in_first ? kMain : kIn, guard);
    if (victim == kNoRow) return kNoRow;
    if (queues_.queue_of(victim) == kIn)
      remember(victim);
    else
      queues_.erase(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept { queues_.prefetch(row); }

 private:
  enum : std::uint32_t { kIn, kMain, kOut };

  /// From In to Out, whose oldest make room; a row larger than all of Out is not remembered.
  void remember(Row row) noexcept {
    const std::uint64_t weight = queues_.weight_of(row);
    if (weight > out_max_) return queues_.erase(row);
    while (queues_.weight(kOut) + weight > out_max_) queues_.erase(queues_.back(kOut));
    queues_.move_to_front(kOut, row);
  }

  Weigher weigher_;
  std::uint64_t in_max_;  // both in the weigher's unit
  std::uint64_t out_max_;
  RowQueues queues_;
  Row remembered_ = kNoRow;  // the row being admitted, if it was in Out
};
static_assert(EvictionPolicy<TwoQ>);

}  // namespace loracle
