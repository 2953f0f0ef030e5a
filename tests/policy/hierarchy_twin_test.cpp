// Hierarchy<Lru> against the plainest program that does what its header says, decision by decision.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <list>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/policy/lru.hpp"

namespace loracle {
namespace {

struct NaiveLevel {
  Place place{};
  Capacity capacity;
  Boundary below{};
  std::list<Row> rows;  // newest use first
  std::map<Row, std::uint32_t> slots;
};

class NaiveHierarchy {
 public:
  NaiveHierarchy(std::vector<NaiveLevel> levels, const AdapterTable& table)
      : levels_(std::move(levels)), table_(table) {}

  Verdict request(const std::vector<Row>& batch) {
    counts.uses += batch.size();
    batch_.insert(batch.begin(), batch.end());
    const Verdict verdict = check(batch, 0);
    if (verdict == Verdict::kServed) {
      for (const Row row : batch) serve(row);
    } else {
      ++counts.refused_requests;
      counts.refused_uses += batch.size();
      for (const Row row : batch) log(Action::kRefuse, row, Place::kNowhere, Place::kDevice, kNoSlot);
    }
    batch_.clear();
    return verdict;
  }

  /// True where a prefetch to `top` has a meaning: no exclusive boundary may lie beside or below it.
  [[nodiscard]] bool may_bring(std::size_t top) const {
    for (const NaiveLevel& level : levels_)
      if (level.below == Boundary::kExclusive) return false;
    return top < levels_.size();
  }
  Verdict bring(const std::vector<Row>& batch, std::size_t top) {
    batch_.insert(batch.begin(), batch.end());
    const Verdict verdict = check(batch, top);
    if (verdict == Verdict::kServed) {
      for (const Row row : batch) {
        std::size_t found = 0;
        while (found < levels_.size() && !contains(found, row)) ++found;
        Place from = found < levels_.size() ? levels_[found].place : Place::kOrigin;
        for (std::size_t i = found; i-- > top;) {
          EXPECT_TRUE(insert(i, row));
          log(Action::kLoad, row, from, levels_[i].place, levels_[i].slots.at(row));
          from = levels_[i].place;
        }
      }
    }
    batch_.clear();
    return verdict;
  }
  void take_out(Row row, std::size_t levels) {
    for (std::size_t i = 0; i < levels; ++i)
      if (contains(i, row))
        log(Action::kRemove, row, levels_[i].place, Place::kNowhere, remove(levels_[i], row));
  }
  [[nodiscard]] const Capacity& capacity(std::size_t level) const { return levels_[level].capacity; }
  /// LRU alone: the list is in the order of last uses.
  Verdict set_capacity(std::size_t where, const Capacity& capacity) {
    NaiveLevel& level = levels_[where];
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
    for (const Row row : level.rows) {
      if (!held(row)) continue;
      ++entries;
      bytes += bytes_of(row);
    }
    if (entries > capacity.entries || bytes > capacity.bytes.value) return Verdict::kAllHeld;
    const std::vector<Row> oldest_first(level.rows.rbegin(), level.rows.rend());
    for (const Row row : oldest_first) {
      if (level.rows.size() <= capacity.entries && bytes_in(level) <= capacity.bytes.value) break;
      if (!held(row) && contains(where, row)) evict(where, row);
    }
    level.capacity = capacity;
    return Verdict::kServed;
  }

  [[nodiscard]] std::uint64_t hash() const {
    std::uint64_t hash = 14695981039346656037ULL;
    const auto add_byte = [&](std::uint64_t byte) { hash = (hash ^ (byte & 255U)) * 1099511628211ULL; };
    const auto add_32 = [&](std::uint64_t value) {
      for (int i = 0; i < 4; ++i, value >>= 8U) add_byte(value);
    };
    for (const Decision& d : decisions) {
      add_byte(static_cast<std::uint64_t>(d.action));
      add_byte(static_cast<std::uint64_t>(d.from));
      add_byte(static_cast<std::uint64_t>(d.to));
      for (int i = 0; i < 5; ++i) add_byte(0);
      add_32(index_of(d.row));
      add_32(d.slot);
    }
    return hash;
  }

  [[nodiscard]] bool contains(std::size_t level, Row row) const { return levels_[level].slots.contains(row); }

  std::vector<Decision> decisions;
  HierarchyCounts counts;
  std::map<Row, int> leases;
  std::set<Row> pins;

 private:
  void log(Action action, Row row, Place from, Place to, std::uint32_t slot) {
    decisions.push_back({decisions.size(), action, row, from, to, slot});
  }
  [[nodiscard]] bool held(Row row) const {
    const auto lease = leases.find(row);
    return batch_.contains(row) || pins.contains(row) || (lease != leases.end() && lease->second > 0);
  }
  [[nodiscard]] std::uint64_t bytes_of(Row row) const { return table_.size_of(row).value; }
  [[nodiscard]] std::uint64_t bytes_in(const NaiveLevel& level) const {
    std::uint64_t bytes = 0;
    for (const Row row : level.rows) bytes += bytes_of(row);
    return bytes;
  }
  /// A served row passes through the lower side of an exclusive boundary without staying there.
  [[nodiscard]] bool stays_in(std::size_t level) const {
    return level == 0 || levels_[level - 1].below == Boundary::kInclusive;
  }

  [[nodiscard]] Verdict check(const std::vector<Row>& batch, std::size_t top) const {
    if (batch.size() > levels_[top].capacity.entries) return Verdict::kTooManyAdapters;
    for (std::size_t i = top; i < levels_.size(); ++i) {
      if (!stays_in(i)) continue;
      const NaiveLevel& level = levels_[i];
      std::uint64_t bytes = 0;
      for (const Row row : batch) bytes += bytes_of(row);
      if (batch.size() > level.capacity.entries || bytes > level.capacity.bytes.value)
        return Verdict::kTooLarge;
    }
    for (std::size_t i = top; i < levels_.size(); ++i) {
      if (!stays_in(i)) continue;
      const NaiveLevel& level = levels_[i];
      std::set<Row> must_be_in(batch.begin(), batch.end());
      for (const Row row : level.rows)
        if (held(row)) must_be_in.insert(row);
      std::uint64_t bytes = 0;
      for (const Row row : must_be_in) bytes += bytes_of(row);
      if (must_be_in.size() > level.capacity.entries || bytes > level.capacity.bytes.value)
        return Verdict::kAllHeld;
    }
    return Verdict::kServed;
  }

  void touch(NaiveLevel& level, Row row) {
    level.rows.remove(row);
    level.rows.push_front(row);
  }
  std::uint32_t remove(NaiveLevel& level, Row row) {
    const std::uint32_t slot = level.slots.at(row);
    level.slots.erase(row);
    level.rows.remove(row);
    return slot;
  }

  void serve(Row row) {
    std::size_t found = 0;
    while (found < levels_.size() && !contains(found, row)) ++found;
    if (found == 0) {
      ++counts.gpu_hits;
      log(Action::kHit, row, Place::kDevice, Place::kDevice, levels_[0].slots.at(row));
    } else {
      ++counts.host_to_device_loads;
      if (found > 1 || found == levels_.size()) ++counts.disk_loads;
      if (found > 2) ++counts.origin_loads;
    }
    for (std::size_t i = levels_.size(); i-- > 0;)
      if (i > found && contains(i, row)) touch(levels_[i], row);
    Place from = Place::kOrigin;
    if (found < levels_.size()) {
      from = levels_[found].place;
      if (stays_in(found))
        touch(levels_[found], row);
      else
        log(Action::kEvict, row, from, levels_[found - 1].place, remove(levels_[found], row));
    }
    for (std::size_t i = found; i-- > 0;) {
      if (!stays_in(i)) continue;
      ASSERT_TRUE(insert(i, row));
      log(Action::kLoad, row, from, levels_[i].place, levels_[i].slots.at(row));
      from = levels_[i].place;
    }
  }

  bool insert(std::size_t where, Row row) {
    NaiveLevel& level = levels_[where];
    if (bytes_of(row) > level.capacity.bytes.value) return false;
    while (level.rows.size() + 1 > level.capacity.entries ||
           bytes_in(level) + bytes_of(row) > level.capacity.bytes.value) {
      const auto victim = std::find_if(level.rows.rbegin(), level.rows.rend(),
                                       [&](Row candidate) { return !held(candidate); });
      if (victim == level.rows.rend()) return false;
      evict(where, *victim);
    }
    std::uint32_t slot = 0;
    while (
        std::any_of(level.slots.begin(), level.slots.end(), [&](const auto& s) { return s.second == slot; }))
      ++slot;
    level.slots[row] = slot;
    level.rows.push_front(row);
    return true;
  }

  void evict(std::size_t where, Row victim) {
    const std::uint32_t slot = remove(levels_[where], victim);
    ++(where == 0 ? counts.gpu_evictions : where == 1 ? counts.host_evictions : counts.disk_evictions);
    bool moves_down = where + 1 < levels_.size() && levels_[where].below == Boundary::kExclusive;
    // Into the middle only where the bottom, if it includes the middle, has it still.
    if (where == 0 && levels_.size() == 3 && levels_[1].below == Boundary::kInclusive && !contains(2, victim))
      moves_down = false;
    log(Action::kEvict, victim, levels_[where].place, moves_down ? levels_[where + 1].place : Place::kNowhere,
        slot);
    for (std::size_t upper = where; upper-- > 0 && levels_[upper].below == Boundary::kInclusive;) {
      if (!contains(upper, victim)) continue;
      if (upper == 0) ++counts.gpu_invalidations;
      log(Action::kEvict, victim, levels_[upper].place, Place::kNowhere, remove(levels_[upper], victim));
    }
    if (!moves_down || contains(where + 1, victim)) return;
    if (insert(where + 1, victim))
      log(Action::kLoad, victim, levels_[where].place, levels_[where + 1].place,
          levels_[where + 1].slots.at(victim));
  }

  std::vector<NaiveLevel> levels_;
  const AdapterTable& table_;
  std::set<Row> batch_;
};

class Recorder final : public DecisionSink {
 public:
  void on_decision(const Decision& decision) noexcept override { decisions.push_back(decision); }
  std::vector<Decision> decisions;
};

std::string text_of(const Decision& d) {
  return std::to_string(d.sequence) + " " + std::string(name_of(d.action)) + " row " +
         std::to_string(index_of(d.row)) + " " + std::string(name_of(d.from)) + " -> " +
         std::string(name_of(d.to)) + " slot " + std::to_string(d.slot);
}

void compare(std::uint64_t seed, int steps) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  Rng rng(seed);
  const std::uint32_t rows = 4 + rng.below(14);
  AdapterTable table;
  const bool sized = rng.below(2) == 0;
  if (sized)
    for (std::uint32_t i = 0; i < rows; ++i) table.size.push_back(Bytes{1 + rng.below(30)});
  std::vector<NaiveLevel> levels(1 + rng.below(3));
  std::vector<TierSetup<Lru>> setups;
  constexpr Place kPlaces[] = {Place::kDevice, Place::kHost, Place::kDisk};
  for (std::size_t i = 0; i < levels.size(); ++i) {
    NaiveLevel& level = levels[i];
    level.place = kPlaces[i];
    level.capacity.entries = rng.below(4) == 0 && i > 0 ? kUnlimited : 1 + rng.below(8);
    if (sized && rng.below(3) != 0) level.capacity.bytes = Bytes{10 + rng.below(150)};
    level.below = rng.below(2) == 0 ? Boundary::kInclusive : Boundary::kExclusive;
    setups.push_back({level.place, level.capacity, Lru(rows, level.capacity, {}), level.below});
  }
  const std::size_t depth = levels.size();
  std::vector<Capacity> built;
  for (const NaiveLevel& level : levels) built.push_back(level.capacity);
  Recorder recorder;
  DecisionLog log(&recorder);
  Hierarchy<Lru> tiers(rows, std::move(setups), table, log);
  NaiveHierarchy twin(std::move(levels), table);
  std::size_t compared = 0;
  for (int step = 0; step < steps; ++step) {
    const Row row{rng.below(rows)};
    const std::uint32_t what = rng.below(20);
    const Tick now{static_cast<std::uint64_t>(step) * 10};
    if (what == 0) {
      tiers.unpin(row);
      twin.pins.erase(row);
    } else if (what == 1) {
      const Verdict verdict = tiers.pin(row, now);
      ASSERT_EQ(verdict, twin.request({row}));
      if (verdict == Verdict::kServed) twin.pins.insert(row);
    } else if (what == 2) {
      tiers.lease({&row, 1});
      ++twin.leases[row];
    } else if (what < 5) {
      for (auto& [leased, count] : twin.leases) {
        if (count == 0 || rng.below(2) == 0) continue;
        --count;
        tiers.give_back({&leased, 1});
      }
    } else if (what == 16) {
      tiers.remove(row);
      twin.take_out(row, depth);
    } else if (what == 17) {
      tiers.deactivate(row);
      twin.take_out(row, 1);
    } else if (what == 18) {
      const std::size_t level = rng.below(static_cast<std::uint32_t>(depth));
      Capacity wanted = built[level];
      if (rng.below(2) == 0) wanted.entries = std::min<std::uint64_t>(wanted.entries, 1 + rng.below(8));
      if (rng.below(2) == 0) wanted.bytes = std::min(wanted.bytes, Bytes{10 + rng.below(150)});
      ASSERT_EQ(tiers.set_capacity(level, wanted, now), twin.set_capacity(level, wanted));
    } else if (const std::size_t top = rng.below(3); what == 19 && twin.may_bring(top)) {
      ASSERT_EQ(tiers.bring({&row, 1}, top, now), twin.bring({row}, top));
    } else {
      std::vector<Row> batch;
      const std::uint32_t size = std::min(rows, 1 + rng.below(5));
      while (batch.size() < size) {
        const Row member{rng.below(rows)};
        if (std::find(batch.begin(), batch.end(), member) == batch.end()) batch.push_back(member);
      }
      ASSERT_EQ(tiers.request(batch, now), twin.request(batch)) << "step " << step;
    }
    for (; compared < std::min(recorder.decisions.size(), twin.decisions.size()); ++compared)
      ASSERT_EQ(recorder.decisions[compared], twin.decisions[compared])
          << text_of(recorder.decisions[compared]) << " | twin: " << text_of(twin.decisions[compared]);
    ASSERT_EQ(recorder.decisions.size(), twin.decisions.size());
    for (std::size_t level = 0; level < depth; ++level)
      for (std::uint32_t i = 0; i < rows; ++i)
        ASSERT_EQ(tiers.tier(level).contains(Row{i}), twin.contains(level, Row{i}));
  }
  ASSERT_EQ(tiers.counts(), twin.counts);
  ASSERT_EQ(log.hash(), twin.hash());
}

// Any decision that the header does not explain would be a surprise in the engine and in every plan.
TEST(Hierarchy, DecidesAsItsNaiveTwinDoes) {
  const std::uint64_t seeds = std::getenv("LORACLE_SOAK") != nullptr ? 50'000 : 500;
  for (std::uint64_t seed = 0; seed < seeds && !::testing::Test::HasFatalFailure(); ++seed)
    compare(seed, 150);
}

}  // namespace
}  // namespace loracle
