#pragma once
/// Belady with sizes: evicts the row that will occupy most space for longest before its next use. Not optimal
/// (that is NP-hard with sizes), but far below Belady's misses where sizes differ much. Always admits.
///
/// Formula: victim = argmax of size * (next use - now) over `samples` rows drawn at random, or over all where
/// there are no more than that (which of equal ones is not said); rows never used again go first, in the
/// order of their last uses.
/// Cost: O(1) an insert, hit or remove (of a row that is used again), O(samples) an evict. Memory: 28 bytes a
/// row.
/// Differences from the paper: it compares all rows, we a sample (128 by default), as libCacheSim does.
/// From libCacheSim: own generator and seed, and rows never used again stay until room is needed, where there
/// they leave at their last use; counts agree within 0.1 % on its sample trace.
/// Source: Berger, Beckmann, Harchol-Balter, "Practical bounds on optimal caching with variable object
/// sizes", POMACS 2(2), 2018, section 2 (Belady-Size).

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/dense_map.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/row_lists.hpp"
#include "loracle/core/sample.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class BeladySize {
 public:
  struct Config {
    std::span<const Row> future;  // not needed; here so that all clairvoyant policies are fed alike
    std::span<const std::uint32_t> future_next;  // [uses] or empty: use index of its next use, all ones: none
    std::uint64_t samples = 128;
    std::uint64_t seed = 1;
    template <class V>
    void visit(V&& v) {
      v("samples", samples);
      v("seed", seed);
    }
  };
  static constexpr std::string_view kName = "belady-size";
  static constexpr bool kClairvoyant = true;

  BeladySize(std::uint32_t rows, Capacity, const Config& config)
      : future_next_(config.future_next),
        sampling_{config.samples, config.samples},
        waiting_(rows),
        done_(rows, 1),
        rng_(config.seed) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return waiting_.contains(row) || done_.linked(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }

  void on_insert(Row row, Tick now, const AdapterTable& table) noexcept {
    const Tick next = next_use(row, now, table);
    if (next == kNever)
      done_.push_front(0, row);
    else
      waiting_.insert(row, next);
  }

  void on_access(Row row, Tick now, const AdapterTable& table) noexcept {
    const Tick next = next_use(row, now, table);
    if (next != kNever && waiting_.contains(row)) {
      waiting_[row] = next;
      return;
    }
    on_remove(row);
    on_insert(row, now, table);
  }

  void on_remove(Row row) noexcept {
    if (done_.linked(row))
      done_.erase(row);
    else
      waiting_.erase(row);
  }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick now, const AdapterTable& table, const Guard& guard) noexcept {
    Row victim = done_.back(0);
    while (victim != kNoRow && guard.blocks(victim)) victim = done_.newer(victim);
    if (victim == kNoRow) {
      victim = least_candidate(waiting_, sampling_, rng_, guard, [&](Tick next, Row row) {
        return -static_cast<double>(table.size_of(row).value) * static_cast<double>((next - now).value);
      });
    }
    if (victim != kNoRow) on_remove(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept {
    waiting_.prefetch(row);
    done_.prefetch(row);
  }

 private:
  [[nodiscard]] Tick next_use(Row row, Tick now, const AdapterTable& table) const noexcept {
    if (future_next_.empty()) return table.next_use_of(row);
    LORACLE_DCHECK(now.value < future_next_.size());
    const std::uint32_t next = future_next_[now.value];
    return next == kNoNext ? kNever : Tick{next};
  }

  static constexpr std::uint32_t kNoNext = 0xFFFF'FFFFU;

  std::span<const std::uint32_t> future_next_;
  Sampling sampling_;
  DenseMap<Tick> waiting_;  // residents that are used again, and when
  RowLists done_;           // residents that are not
  Rng rng_;
};
static_assert(EvictionPolicy<BeladySize>);

}  // namespace loracle
