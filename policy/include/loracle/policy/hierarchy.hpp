#pragma once
/// Tiers stacked: device over host over (optionally) disk over an origin that has everything.
///
/// A request is a batch of distinct adapters that are needed on the device together. Serving it brings each
/// one, in the batch's order, up through every tier, evicting as each tier's policy says. Between two tiers
/// the boundary is
///   inclusive  what is above is also below. A use touches both. A row that leaves the lower tier leaves the
///              upper one too (vLLM's rule: dropping an adapter from host memory frees its slot).
///   exclusive  a row is in one of the two. Coming up it leaves the lower tier; a victim of the upper tier
///              moves down into the lower one, if that one's policy wants it and room can be made; not if it
///              has meanwhile left a third tier that includes the lower one.
/// Beside requests there are operations that are no use of anything: `bring` (prefetch), `remove`,
/// `deactivate`, pins, leases, `set_policy` and `set_capacity`. They count nothing but evictions; what they
/// move is logged.
/// Invariants:
///   1. Members of the batch being served, leased rows and pinned rows are never evicted from any tier.
///   2. A request is served whole or refused whole; a refused one changes nothing but counters and the log.
///   3. Capacities are never exceeded, not for a moment.
///   4. Equal requests, equal decisions: no clock, no randomness but the policies' seeds.
/// Cost: O(batch x tiers) plus the policies'. No allocation after construction. Threads: one owner.
/// Errors: refusals are values (`Verdict`), each logged.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/tier.hpp"

namespace loracle {

enum class Boundary : std::uint8_t { kInclusive, kExclusive };

enum class Verdict : std::uint8_t {
  kServed,
  kTooManyAdapters,  // the batch has more adapters than the device has slots
  kTooLarge,         // an adapter, or the batch together, exceeds a tier even when that is empty
  kAllHeld,          // pinned and leased adapters leave too little room
};

struct HierarchyCounts {
  std::uint64_t uses = 0;
  std::uint64_t gpu_hits = 0;
  std::uint64_t host_to_device_loads = 0;  // uses that had to be copied into a slot
  std::uint64_t disk_loads = 0;            // of those, how many were not in host memory
  std::uint64_t origin_loads = 0;          // of those, how many were not on disk; 0 without a disk tier
  std::uint64_t gpu_evictions = 0;         // victims of the device's own policy
  std::uint64_t gpu_invalidations = 0;     // slots freed because a lower tier dropped the adapter
  std::uint64_t host_evictions = 0;
  std::uint64_t disk_evictions = 0;
  std::uint64_t refused_requests = 0;
  std::uint64_t refused_uses = 0;

  friend bool operator==(const HierarchyCounts&, const HierarchyCounts&) = default;
};

/// A count under the name it has in every output.
struct NamedCount {
  const char* name;
  std::uint64_t HierarchyCounts::*count;
};

inline constexpr std::array<NamedCount, 9> kTwoTierCounts = {{
    {"uses", &HierarchyCounts::uses},
    {"gpu_hits", &HierarchyCounts::gpu_hits},
    {"host_to_device_loads", &HierarchyCounts::host_to_device_loads},
    {"disk_loads", &HierarchyCounts::disk_loads},
    {"gpu_evictions", &HierarchyCounts::gpu_evictions},
    {"gpu_invalidations", &HierarchyCounts::gpu_invalidations},
    {"host_evictions", &HierarchyCounts::host_evictions},
    {"refused_requests", &HierarchyCounts::refused_requests},
    {"refused_uses", &HierarchyCounts::refused_uses},
}};
/// What there is beside them where a disk tier lies below.
inline constexpr std::array<NamedCount, 2> kDiskTierCounts = {{
    {"origin_loads", &HierarchyCounts::origin_loads},
    {"disk_evictions", &HierarchyCounts::disk_evictions},
}};

/// What was counted after `before`, an earlier reading.
[[nodiscard]] HierarchyCounts since(HierarchyCounts now, const HierarchyCounts& before) noexcept;

/// One tier, from the device down. P is a policy type, or AnyPolicy for one chosen by name.
template <class P>
struct TierSetup {
  Place place = Place::kDevice;
  Capacity capacity;
  P policy;
  Boundary below = Boundary::kInclusive;  // towards the next tier; of the last one it is not read
};

template <EvictionPolicy P>
class Hierarchy {
 public:
  /// `table` and `log` must outlive the hierarchy. REQUIRES: one to three tiers, each place once, device
  /// first.
  Hierarchy(std::uint32_t rows, std::vector<TierSetup<P>> setups, const AdapterTable& table, DecisionLog& log)
      : table_(&table), log_(&log) {
    LORACLE_CHECK(!setups.empty());
    LORACLE_CHECK(setups.size() <= 3);
    LORACLE_CHECK(setups.front().place == Place::kDevice);
    levels_.reserve(setups.size());
    for (TierSetup<P>& setup : setups)
      levels_.push_back(
          Level{Tier<P>(rows, setup.capacity, std::move(setup.policy), table), setup.place, setup.below});
    for (std::size_t level = 0; level + 1 < levels_.size(); ++level)
      all_inclusive_ = all_inclusive_ && inclusive(level);
  }

  /// Serves a batch of distinct rows. `now` is the tick of its first use; the i-th has tick now + i.
  [[nodiscard]] Verdict request(std::span<const Row> batch, Tick now) noexcept {
    counts_.uses += batch.size();
    if (all_on_device(batch)) {  // nothing can be refused or evicted: no holds are needed
      for (std::size_t i = 0; i < batch.size(); ++i) serve(batch[i], now + Tick{i});
      return Verdict::kServed;
    }
    const Verdict verdict = check(batch, 0);
    if (verdict != Verdict::kServed) {
      ++counts_.refused_requests;
      counts_.refused_uses += batch.size();
      for (const Row row : batch) log_->add(Action::kRefuse, row, Place::kNowhere, Place::kDevice, kNoSlot);
      return verdict;
    }
    hold(batch);
    for (std::size_t i = 0; i < batch.size(); ++i) serve(batch[i], now + Tick{i});
    let_go(batch);
    return verdict;
  }

  /// What `request` would answer, or `bring` to a lower level. Nothing is changed, counted or logged.
  [[nodiscard]] Verdict would_serve(std::span<const Row> batch, std::size_t level = 0) noexcept {
    return check(batch, level);
  }

  /// Makes the batch resident in `level` and the inclusive tiers below it, without using it: rows that are
  /// there already are left as they are. Refused as a request would be, but neither counted nor logged then.
  /// With a lower level than the device's, a batch may be larger than the device.
  /// REQUIRES: every boundary above `level` and below it is inclusive.
  [[nodiscard]] Verdict bring(std::span<const Row> batch, std::size_t level, Tick now) noexcept {
    const Verdict verdict = check(batch, level);
    if (verdict != Verdict::kServed) return verdict;
    hold(batch);
    for (const Row row : batch) raise(row, found_at(row), level, now);
    let_go(batch);
    return verdict;
  }

  /// Takes a row out of every tier, held or not: it was deleted, or its bytes turned out to be bad. Holds
  /// that others have on it stay until they give them back.
  void remove(Row row) noexcept {
    for (std::size_t level = 0; level < levels_.size(); ++level) take_out(level, row);
  }
  /// Frees the row's slot on the device; the tiers below keep it. False if it has none.
  bool deactivate(Row row) noexcept { return take_out(0, row); }

  /// Replaces the policy that rules a level. Residents stay; the new policy is given them in the order of
  /// their last use, oldest first. Nothing is logged. REQUIRES: built for the same rows and capacity.
  void set_policy(std::size_t level, P policy, Tick now) noexcept {
    levels_[level].tier.set_policy(std::move(policy), now);
  }

  /// Changes what a level may hold, up to what it was built for (its policy keeps the proportions it was
  /// built with). Residents too many leave in the order of their last use, oldest first, logged as evictions.
  /// kAllHeld, and nothing changed, if what may not leave exceeds the new capacity.
  /// REQUIRES: 1 <= capacity.entries, 1 <= capacity.bytes.
  [[nodiscard]] Verdict set_capacity(std::size_t level, Capacity capacity, Tick now) noexcept {
    Tier<P>& tier = levels_[level].tier;
    if (!tier.held_within(capacity)) return Verdict::kAllHeld;
    for (const Row row : tier.by_last_use()) {
      if (tier.within(capacity)) break;
      if (!tier.held(row)) evicted(level, row, tier.remove(row), now);
    }
    tier.set_capacity(capacity);
    return Verdict::kServed;
  }

  /// Leased rows are evicted from no tier until the lease is given back. Leases nest.
  void lease(std::span<const Row> rows) noexcept { hold(rows); }
  void give_back(std::span<const Row> rows) noexcept { let_go(rows); }

  /// Serves a request for one row and keeps it on the device. Refused as a request would be.
  [[nodiscard]] Verdict pin(Row row, Tick now) noexcept {
    const Verdict verdict = request({&row, 1}, now);
    if (verdict == Verdict::kServed) keep(row, 0);
    return verdict;
  }
  /// Forbids `level` and those below it to evict the row. It need not be resident yet.
  void keep(Row row, std::size_t level) noexcept {
    for (; level < levels_.size(); ++level) levels_[level].tier.pin(row);
  }
  void unpin(Row row) noexcept { unpin(row, levels_.size() - 1); }
  /// Lifts the pin in `level` and those above it, which could not honour theirs without it.
  void unpin(Row row, std::size_t level) noexcept {
    for (std::size_t i = 0; i <= level; ++i) levels_[i].tier.unpin(row);
  }

  [[nodiscard]] const HierarchyCounts& counts() const noexcept { return counts_; }
  [[nodiscard]] std::size_t levels() const noexcept { return levels_.size(); }
  /// Level 0 is the device.
  [[nodiscard]] const Tier<P>& tier(std::size_t level) const noexcept { return levels_[level].tier; }

 private:
  struct Level {
    Tier<P> tier;
    Place place;
    Boundary below;
  };

  [[nodiscard]] bool inclusive(std::size_t upper) const noexcept {
    return levels_[upper].below == Boundary::kInclusive;
  }
  /// True if serving a request puts its rows into this level (and not merely through it).
  [[nodiscard]] bool settles_in(std::size_t level) const noexcept {
    return level == 0 || inclusive(level - 1);
  }

  /// False if an inclusive tier below the level lacks the row.
  [[nodiscard]] bool may_be_in(std::size_t level, Row row) const noexcept {
    return level + 1 == levels_.size() || !inclusive(level) || levels_[level + 1].tier.contains(row);
  }

  /// Whether the batch could be made resident in `top` and below.
  [[nodiscard]] Verdict check(std::span<const Row> batch, std::size_t top) noexcept {
    if (batch.size() > levels_[top].tier.capacity().entries) return Verdict::kTooManyAdapters;
    // In every tier, before what is held in any: a batch that can never be served must not wait for room.
    for (std::size_t level = top; level < levels_.size(); ++level) {
      if (!settles_in(level)) continue;
      Occupancy all;
      for (const Row row : batch) {
        const Bytes size = table_->size_of(row);
        if (!fits(all, size, levels_[level].tier.capacity()))  // sums that could wrap are never formed
          return Verdict::kTooLarge;
        all = {all.entries + 1, all.bytes + size};
      }
    }
    if (batch.size() == 1) return is_room_for(batch[0], top) ? Verdict::kServed : Verdict::kAllHeld;
    bool is_room = true;
    hold(batch);
    for (std::size_t level = top; level < levels_.size() && is_room; ++level) {
      if (!settles_in(level)) continue;
      const Tier<P>& tier = levels_[level].tier;
      Occupancy missing;
      for (const Row row : batch)
        if (!tier.contains(row)) missing = {missing.entries + 1, missing.bytes + table_->size_of(row)};
      is_room = tier.could_hold(missing);
    }
    let_go(batch);
    return is_room ? Verdict::kServed : Verdict::kAllHeld;
  }

  /// As for a batch, without holding: where the row is resident there is room for what is held, and where it
  /// is not, holding it adds nothing.
  [[nodiscard]] bool is_room_for(Row row, std::size_t top) const noexcept {
    const Occupancy one{1, table_->size_of(row)};
    for (std::size_t level = top; level < levels_.size(); ++level) {
      const Tier<P>& tier = levels_[level].tier;
      if (settles_in(level) && !tier.contains(row) && !tier.could_hold(one)) return false;
    }
    return true;
  }

  [[nodiscard]] bool all_on_device(std::span<const Row> batch) const noexcept {
    if (!all_inclusive_) return false;  // what is above need not be below
    for (const Row row : batch)
      if (!levels_[0].tier.contains(row)) return false;
    return true;
  }

  /// The highest level that has the row; levels() if none.
  [[nodiscard]] std::size_t found_at(Row row) const noexcept {
    std::size_t found = 0;
    while (found < levels_.size() && !levels_[found].tier.contains(row)) ++found;
    return found;
  }

  bool take_out(std::size_t level, Row row) noexcept {
    Tier<P>& tier = levels_[level].tier;
    if (!tier.contains(row)) return false;
    log_->add(Action::kRemove, row, levels_[level].place, Place::kNowhere, tier.remove(row));
    return true;
  }

  void serve(Row row, Tick now) noexcept {
    const std::size_t found = found_at(row);
    count(found);
    if (found == 0)
      log_->add(Action::kHit, row, Place::kDevice, Place::kDevice, levels_[0].tier.slot_of(row));
    // Lower tiers first: an inclusive upper tier may only hold what the lower one has.
    for (std::size_t level = levels_.size(); level-- > found + 1;)
      if (levels_[level].tier.contains(row)) levels_[level].tier.touch(row, now);
    if (found < levels_.size()) {
      Tier<P>& tier = levels_[found].tier;
      if (settles_in(found))
        tier.touch(row, now);
      else
        log_->add(Action::kEvict, row, levels_[found].place, levels_[found - 1].place, tier.remove(row));
    }
    raise(row, found, 0, now);
  }

  /// Brings a row from the level it was found at (levels(): the origin) up to `top`.
  void raise(Row row, std::size_t found, std::size_t top, Tick now) noexcept {
    Place from = found < levels_.size() ? levels_[found].place : Place::kOrigin;
    for (std::size_t level = found; level-- > top;) {
      if (!settles_in(level)) continue;
      Tier<P>& tier = levels_[level].tier;
      const Admission admission =
          tier.insert(row, now, [&](Row victim, std::uint32_t slot) { evicted(level, victim, slot, now); });
      LORACLE_CHECK(admission == Admission::kInserted);  // check() said it fits
      log_->add(Action::kLoad, row, from, levels_[level].place, tier.slot_of(row));
      from = levels_[level].place;
    }
  }

  /// A row has just been evicted from `level`: out of the inclusive tiers above, or down into an exclusive
  /// one below.
  void evicted(std::size_t level, Row victim, std::uint32_t slot, Tick now) noexcept {
    const bool moves_down = level + 1 < levels_.size() && !inclusive(level) && may_be_in(level + 1, victim);
    count_eviction(level);
    log_->add(Action::kEvict, victim, levels_[level].place,
              moves_down ? levels_[level + 1].place : Place::kNowhere, slot);
    for (std::size_t upper = level; upper > 0 && inclusive(upper - 1); --upper) {
      Tier<P>& above = levels_[upper - 1].tier;
      if (!above.contains(victim)) continue;
      if (upper == 1) ++counts_.gpu_invalidations;
      log_->add(Action::kEvict, victim, levels_[upper - 1].place, Place::kNowhere, above.remove(victim));
    }
    if (moves_down) demote(level + 1, victim, now);
  }

  void demote(std::size_t level, Row row, Tick now) noexcept {
    Tier<P>& tier = levels_[level].tier;
    if (tier.contains(row)) return;
    const Admission admission =
        tier.insert(row, now, [&](Row victim, std::uint32_t slot) { evicted(level, victim, slot, now); });
    if (admission == Admission::kInserted)
      log_->add(Action::kLoad, row, levels_[level - 1].place, levels_[level].place, tier.slot_of(row));
  }

  void count(std::size_t found) noexcept {
    if (found == 0) {
      ++counts_.gpu_hits;
      return;
    }
    ++counts_.host_to_device_loads;
    if (found >= 2 || levels_.size() == 1) ++counts_.disk_loads;
    if (found >= 3) ++counts_.origin_loads;
  }
  void count_eviction(std::size_t level) noexcept {
    ++(level == 0 ? counts_.gpu_evictions : level == 1 ? counts_.host_evictions : counts_.disk_evictions);
  }

  void hold(std::span<const Row> rows) noexcept {
    for (Level& level : levels_)
      for (const Row row : rows) level.tier.hold(row);
  }
  void let_go(std::span<const Row> rows) noexcept {
    for (Level& level : levels_)
      for (const Row row : rows) level.tier.let_go(row);
  }

  const AdapterTable* table_;
  DecisionLog* log_;
  std::vector<Level> levels_;
  bool all_inclusive_ = true;
  HierarchyCounts counts_;
};

}  // namespace loracle
