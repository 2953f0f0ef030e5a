#include "loracle/sim/grid.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/transform.hpp"
#include "support/sanitized.hpp"
#include "support/shared_data.hpp"

namespace loracle {
namespace {

/// Requests of 0 to 4 adapters out of 24, skewed, sometimes naming one twice.
Trace random_trace(std::uint64_t seed, std::uint64_t requests) {
  Rng rng(seed);
  constexpr std::uint32_t kAdapters = 24;
  std::vector<Row> row_of(kAdapters, kNoRow);
  std::vector<Row> uses;
  std::vector<std::uint64_t> begin = {0};
  std::vector<std::uint64_t> name_begin = {0};
  std::vector<char> names;
  std::uint32_t rows = 0;
  for (std::uint64_t i = 0; i < requests; ++i) {
    const std::uint32_t count = rng.below(8) == 0 ? rng.below(5) : 1;
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t adapter = rng.below(1 + rng.below(kAdapters));
      if (row_of[adapter] == kNoRow) {
        row_of[adapter] = Row{rows++};
        names.push_back(static_cast<char>('a' + adapter));
        name_begin.push_back(names.size());
      }
      uses.push_back(row_of[adapter]);
    }
    begin.push_back(uses.size());
  }
  Trace trace;
  trace.requests = requests;
  trace.uses = Column<Row>(std::move(uses));
  trace.use_begin = Column<std::uint64_t>(std::move(begin));
  trace.adapters.name.begin = Column<std::uint64_t>(std::move(name_begin));
  trace.adapters.name.text = Column<char>(std::move(names));
  return trace;
}

void expect_grid_equals_replay(const Trace& trace, const std::vector<std::uint32_t>& gpu,
                               const std::vector<std::uint32_t>& cpu) {
  InlineExecutor executor;
  const Result<BatchStream> stream = make_batch_stream(trace);
  ASSERT_TRUE(stream);
  const Result<Grid> grid = sweep_grid(*stream, "lru/lru", gpu, cpu, executor);
  ASSERT_TRUE(grid) << grid.error().message;
  ASSERT_EQ(grid->cells.size(), gpu.size() * cpu.size());
  for (const GridCell& cell : grid->cells) {
    ASSERT_EQ(cell.feasible, cell.max_cpu_loras >= cell.max_loras);
    if (!cell.feasible) continue;
    TierOptions options;
    options.tiers = "lru/lru";
    options.max_loras = cell.max_loras;
    options.max_cpu_loras = cell.max_cpu_loras;
    const Result<TierReplay> replayed = replay_tiers(*stream, options);
    ASSERT_TRUE(replayed) << replayed.error().message;
    const HierarchyCounts& counts = replayed->counts;
    ASSERT_EQ(cell.gpu_hits, counts.gpu_hits) << cell.max_loras << " x " << cell.max_cpu_loras;
    ASSERT_EQ(cell.host_to_device_loads, counts.host_to_device_loads);
    ASSERT_EQ(cell.disk_loads, counts.disk_loads) << cell.max_loras << " x " << cell.max_cpu_loras;
    ASSERT_EQ(cell.refused, counts.refused_uses);
    ASSERT_EQ(cell.gpu_hits + cell.host_to_device_loads + cell.refused, counts.uses);
  }
}

std::vector<std::uint32_t> one_to(std::uint32_t last) {
  std::vector<std::uint32_t> sizes(last);
  std::iota(sizes.begin(), sizes.end(), 1U);
  return sizes;
}

// If this failed, the one-pass grid would be an approximation and not the grid.
TEST(Grid, OnePassEqualsReplayInEveryCellOnRandomBatches) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    expect_grid_equals_replay(random_trace(seed, 400), one_to(12), one_to(26));
  }
}

// If this failed, real requests (several LoRAs each, many tenants, token traffic) would break the one-pass
// argument.
TEST(Grid, OnePassEqualsReplayInEveryCellOnThreeRealTraces) {
  LORACLE_SHARED_FILE(gentd26, "traces/gentd26/adapter_requests_timed_d00-11.csv.gz");
  LORACLE_SHARED_FILE(mooncake, "traces/mooncake/conversation_trace.jsonl.zst");
  LORACLE_SHARED_FILE(cloudphysics, "traces/libcachesim/cloudPhysicsIO.oracleGeneral.zst");
  struct Case {
    std::string path;
    std::string mapping;
  };
  for (const Case& one : {Case{gentd26.string(), "lora"}, Case{gentd26.string(), "tenant"},
                          Case{mooncake.string(), ""}, Case{cloudphysics.string(), ""}}) {
    SCOPED_TRACE(one.path + " " + one.mapping);
    ReadOptions options;
    options.mapping = one.mapping;
    const Result<Trace> trace = read_trace(one.path, options);
    ASSERT_TRUE(trace) << trace.error().message;
    expect_grid_equals_replay(head(*trace, testing::all_or_few<std::uint64_t>(trace->requests, 3000)),
                              {1, 2, 3, 4, 8, 16, 64}, {1, 2, 4, 8, 32, 64, 128, 1024});
  }
}

// If this failed, the planner would tell a vLLM user numbers that their server does not have.
TEST(Grid, VllmEqualsLruOverLruWhereNoRequestNeedsTwoAdapters) {
  Trace trace = random_trace(3, 500);
  trace.use_begin = {};
  trace.requests = trace.uses.size();
  InlineExecutor executor;
  const Result<Grid> lru = sweep_grid(trace, "lru", one_to(8), one_to(16), executor);
  const Result<Grid> vllm = sweep_grid(trace, "vllm", one_to(8), one_to(16), executor);
  ASSERT_TRUE(lru && vllm);
  EXPECT_EQ(lru->cells, vllm->cells);
}

// If this failed, an unusable axis would crash or be silently dropped.
TEST(Grid, RefusesAxesThatHoldNothing) {
  InlineExecutor executor;
  const Trace trace = random_trace(1, 10);
  const std::vector<std::uint32_t> none;
  EXPECT_EQ(sweep_grid(trace, "lru", none, one_to(2), executor).error().code, Errc::kInvalid);
  EXPECT_EQ(sweep_grid(trace, "lru", std::vector<std::uint32_t>{0}, one_to(2), executor).error().code,
            Errc::kInvalid);
  EXPECT_EQ(sweep_grid(trace, "seive", one_to(2), one_to(2), executor).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace loracle
