#include "loracle/sim/replay.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle {
namespace {

UseStream random_stream(std::uint64_t seed, std::uint32_t rows, std::size_t count) {
  Rng rng(seed);
  std::vector<Row> uses;
  for (std::uint32_t row = 0; row < rows; ++row) uses.push_back(Row{row});
  while (uses.size() < count) uses.push_back(Row{rng.below(1 + rng.below(rows))});
  UseStream stream;
  stream.rows = rows;
  stream.distinct = rows;
  for (std::uint32_t row = 0; row < rows; ++row) stream.size.push_back(Bytes{1 + rng.below(9)});
  stream.uses = Column<Row>(std::move(uses));
  compute_next_uses(stream);
  return stream;
}

class TwoThreads final : public Executor {
 public:
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override {
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) task(i);
    };
    std::thread other(work);
    work();
    other.join();
  }
};

// If this failed, some policy would lose count of what is resident, or count a request twice.
TEST(Replay, BytesInAreBytesOutPlusResidentForEveryPolicy) {
  const UseStream stream = random_stream(5, 60, 4000);
  for (const std::string_view policy : policy_names()) {
    for (const std::uint64_t capacity : {1U, 3U, 10U, 50U, 400U}) {
      for (const SizeUnit unit : {SizeUnit::kObjects, SizeUnit::kBytes}) {
        ReplayJob job{std::string(policy), {}};
        (unit == SizeUnit::kBytes ? job.capacity.bytes.value : job.capacity.entries) = capacity;
        const Result<ReplayCounts> counts = replay(stream, unit, job);
        ASSERT_TRUE(counts) << counts.error().message;
        EXPECT_EQ(counts->requests, stream.uses.size());
        EXPECT_EQ(counts->misses, counts->evictions + counts->bypasses + counts->resident_entries)
            << policy << " at " << capacity;
        EXPECT_GE(counts->misses, counts->compulsory_misses);
        EXPECT_LE(counts->resident_bytes.value, unit == SizeUnit::kBytes ? capacity : kUnlimited);
      }
    }
  }
}

// If this failed, the result of a sweep would depend on the machine that ran it.
TEST(Replay, ResultsDoNotDependOnTheNumberOfThreads) {
  const UseStream stream = random_stream(6, 40, 3000);
  std::vector<ReplayJob> jobs;
  for (const std::string_view policy : policy_names())
    for (const std::uint64_t entries : {1U, 4U, 16U})
      jobs.push_back({std::string(policy), {entries, Bytes{kUnlimited}}});
  InlineExecutor one;
  TwoThreads two;
  const auto alone = replay_all(stream, SizeUnit::kObjects, jobs, one);
  const auto together = replay_all(stream, SizeUnit::kObjects, jobs, two);
  ASSERT_TRUE(alone && together);
  for (std::size_t i = 0; i < jobs.size(); ++i)
    EXPECT_EQ((*alone)[i].counts, (*together)[i].counts) << jobs[i].policy;
}

// If this failed, the two forms of a clairvoyant policy (bits over the known future in a replay, a heap in
// tiers that know only the next use) would decide differently.
TEST(Replay, ClairvoyantPoliciesDecideAlikeWithAndWithoutTheWholeFuture) {
  const UseStream stream = random_stream(8, 50, 3000);
  BatchStream batches;
  batches.uses = stream;
  for (std::uint64_t i = 0; i <= stream.uses.size(); ++i) batches.begin.push_back(i);
  batches.batch_max = 1;
  for (const std::uint32_t entries : {1U, 2U, 7U, 30U}) {
    const Result<ReplayCounts> flat =
        replay(stream, SizeUnit::kObjects, {"belady", {entries, Bytes{kUnlimited}}});
    TierOptions options;
    options.tiers = "belady/lru";
    options.max_loras = entries;
    options.max_cpu_loras = 50;
    const Result<TierReplay> tiers = replay_tiers(batches, options);
    ASSERT_TRUE(flat && tiers);
    EXPECT_EQ(flat->misses, tiers->counts.host_to_device_loads) << entries;
  }
}

// If this failed, a wrong name, parameter or size would be taken for something else.
TEST(Replay, RefusesUnknownPoliciesParametersAndSizesThatHoldNothing) {
  const UseStream stream = random_stream(7, 4, 20);
  const Capacity four{4, Bytes{kUnlimited}};
  const Result<ReplayCounts> typo = replay(stream, SizeUnit::kObjects, {"seive", four});
  ASSERT_FALSE(typo);
  EXPECT_EQ(typo.error().code, Errc::kNotFound);
  EXPECT_NE(typo.error().message.find("did you mean 'sieve'"), std::string::npos) << typo.error().message;
  EXPECT_EQ(replay(stream, SizeUnit::kObjects, {"lru:x=1", four}).error().code, Errc::kInvalid);
  EXPECT_EQ(replay(stream, SizeUnit::kObjects, {"slru:segments=x", four}).error().code, Errc::kInvalid);
  EXPECT_EQ(replay(stream, SizeUnit::kObjects, {"lru", {0, Bytes{kUnlimited}}}).error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace loracle
