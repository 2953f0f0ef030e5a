// Laws of caching that hold whatever the trace: a number that breaks one is a bug somewhere, wherever that
// is.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "conformance/scene.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/replay.hpp"

namespace loracle::testing {
namespace {

constexpr Bytes kAnyBytes{kUnlimited};

SceneOptions longer() {
  SceneOptions options;
  options.uses = 600;
  return options;
}

UseStream stream_of(const Scene& scene) {
  UseStream stream;
  stream.rows = scene.rows;
  stream.size = scene.table.size.empty() ? std::vector<Bytes>(scene.rows, Bytes{1}) : scene.table.size;
  std::vector<bool> seen(scene.rows, false);
  for (const Row row : scene.uses) {
    if (!seen[index_of(row)]) ++stream.distinct;
    seen[index_of(row)] = true;
  }
  stream.uses = Column<Row>(std::vector<Row>(scene.uses));
  compute_next_uses(stream);
  return stream;
}

ReplayCounts counts_of(const UseStream& stream, SizeUnit unit, const std::string& policy, Capacity capacity) {
  const Result<ReplayCounts> counts = replay(stream, unit, {policy, capacity});
  if (counts) return *counts;
  ADD_FAILURE() << policy << ": " << counts.error().message;
  return {};
}

/// Misses of the best possible policy at equal sizes, by the definition: of the residents, and of the
/// newcomer too if it may be turned away, the one whose next use is farthest goes. O(uses x rows).
std::uint64_t least_misses(const Scene& scene, std::uint64_t entries, bool may_bypass) {
  std::vector<std::optional<std::uint32_t>> next_of(scene.rows);  // of residents
  std::uint64_t resident = 0;
  std::uint64_t misses = 0;
  for (std::size_t i = 0; i < scene.uses.size(); ++i) {
    const std::size_t row = index_of(scene.uses[i]);
    if (!next_of[row]) {
      ++misses;
      if (resident == entries) {
        const auto farthest = std::max_element(next_of.begin(), next_of.end());  // nothing is the least
        if (may_bypass && scene.next[i] >= **farthest) continue;
        farthest->reset();
        --resident;
      }
      ++resident;
    }
    next_of[row] = scene.next[i];
  }
  return misses;
}

// More misses in a larger LRU cache means that rows are lost, or that the order is wrong.
TEST(Laws, LruNeverMissesMoreWithMoreRoomWhereEveryAdapterFits) {
  for (std::uint64_t seed = 0; seed < scenes({"lru"}, 40); ++seed) {
    const Scene scene = make_scene(seed + 90'000, Limit::kBytes, longer());
    SCOPED_TRACE(scene.describe());
    const UseStream stream = stream_of(scene);
    std::uint64_t before = scene.uses.size() + 1;
    for (std::uint64_t entries = 1; entries <= scene.rows; ++entries) {
      const std::uint64_t misses = counts_of(stream, SizeUnit::kObjects, "lru", {entries, kAnyBytes}).misses;
      ASSERT_LE(misses, before) << entries << " entries";
      before = misses;
    }
    EXPECT_EQ(before, stream.distinct) << "with room for all only first uses miss";
    Bytes largest{};
    for (const Bytes size : stream.size) largest = std::max(largest, size);
    before = scene.uses.size() + 1;
    for (Bytes bytes = largest; bytes.value < largest.value * 12; bytes.value += 1 + bytes.value / 16) {
      const std::uint64_t misses = counts_of(stream, SizeUnit::kBytes, "lru", {kUnlimited, bytes}).misses;
      ASSERT_LE(misses, before) << bytes.value << " bytes";
      before = misses;
    }
  }
}

// Charts draw Belady's line as the floor. A policy below it has found a way to hit without having the row.
TEST(Laws, NobodyMissesLessThanIsPossibleAtEqualSizes) {
  for (std::uint64_t seed = 0; seed < scenes({"lru"}, 30); ++seed) {
    const Scene scene = make_scene(seed + 91'000, Limit::kEntries, longer());
    SCOPED_TRACE(scene.describe());
    const UseStream stream = stream_of(scene);
    const std::uint64_t entries = scene.capacity.entries;
    const std::uint64_t least = least_misses(scene, entries, false);
    const std::uint64_t least_with_bypass = least_misses(scene, entries, true);
    for (const std::string_view name : policy_names()) {
      if (name == "lhd" && seed % 4 != 0) continue;  // its tables are large
      const ReplayCounts counts = counts_of(stream, SizeUnit::kObjects, std::string(name), scene.capacity);
      ASSERT_GE(counts.misses, counts.bypasses == 0 ? least : least_with_bypass) << name;
      if (name == "belady") {
        ASSERT_EQ(counts.misses, least);
      }
      if (name == "belady-size") {
        ASSERT_EQ(counts.misses, least) << "at equal sizes it is Belady's rule";
      }
    }
  }
}

// What came in and did not leave is there; what is there fits; what missed did not hit.
TEST(Laws, CountsAddUpForEveryPolicy) {
  for (std::uint64_t seed = 0; seed < scenes({"lru"}, 24); ++seed) {
    const Limit limit = static_cast<Limit>(seed % 3);
    const Scene scene = make_scene(seed + 92'000, limit, longer());
    SCOPED_TRACE(scene.describe());
    const UseStream stream = stream_of(scene);
    const SizeUnit unit = limit == Limit::kEntries ? SizeUnit::kObjects : SizeUnit::kBytes;
    std::uint64_t bytes = 0;
    for (const Row row : scene.uses)
      bytes += unit == SizeUnit::kObjects ? 1 : stream.size[index_of(row)].value;
    for (const std::string_view name : policy_names()) {
      if (name == "lhd" && seed % 4 != 0) continue;
      SCOPED_TRACE(name);
      const ReplayCounts counts = counts_of(stream, unit, std::string(name), scene.capacity);
      ASSERT_EQ(counts.requests, scene.uses.size());
      ASSERT_EQ(counts.compulsory_misses, stream.distinct);
      ASSERT_GE(counts.misses, stream.distinct);
      ASSERT_LE(counts.misses, counts.requests);
      ASSERT_EQ(counts.misses - counts.bypasses, counts.evictions + counts.resident_entries)
          << "in = out + resident";
      ASSERT_LE(counts.resident_entries, scene.capacity.entries);
      if (unit == SizeUnit::kBytes) {
        ASSERT_LE(counts.resident_bytes, scene.capacity.bytes);
      }
      ASSERT_EQ(counts.bytes_requested.value, bytes);
      ASSERT_LE(counts.bytes_missed, counts.bytes_requested);
    }
  }
}

class Books : public Conformance {};

// Bytes that come in and neither leave nor stay are a leak: in the end the tier refuses everybody.
LORACLE_POLICY_TEST(Books, BytesInAreBytesOutPlusResident) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 8); ++seed) {
    SceneOptions options = longer();
    options.holds = options.removals = false;
    options.sheds = seed % 2 == 0;
    const Scene scene = make_scene(seed + 93'000, Limit::kBytes, options);
    SCOPED_TRACE(scene.describe());
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    std::vector<bool> was_here(scene.rows, false);
    std::uint64_t in = 0;
    std::uint64_t out = 0;
    Observer observer;
    observer.on_evict = [&](Row incoming, Row answer) {
      if (answer == kNoRow || answer == incoming) return;
      out += scene.table.size_of(answer).value;
      was_here[index_of(answer)] = false;
    };
    observer.on_shed = [&](Row row) { observer.on_evict(kNoRow, row); };
    std::uint64_t resident = 0;
    observer.on_operation = [&] {
      resident = 0;
      for (std::uint32_t i = 0; i < scene.rows; ++i) {
        const bool here = subject->contains(Row{i});
        if (here && !was_here[i]) in += scene.table.size[i].value;
        if (here) resident += scene.table.size[i].value;
        was_here[i] = here;
      }
      ASSERT_EQ(in, out + resident);
      ASSERT_LE(resident, scene.capacity.bytes.value);
    };
    Player player(scene, *subject, observer);
    player.play();
  }
}

LORACLE_FOR_EVERY_POLICY(Books);

}  // namespace
}  // namespace loracle::testing
