// One pass over the uses for many sizes: the exact LRU curve, sixteen LRU sizes, sixteen FIFO sizes, the
// grid. LORACLE_BENCH_SMALL=1 shrinks the trace, for a test that it still runs and is right.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "loracle/sim/curves.hpp"
#include "loracle/sim/replay.hpp"
#include "support/zipf_stream.hpp"

namespace loracle {
namespace {

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

const UseStream& stream() {
  static const UseStream kStream =
      small() ? testing::zipf_stream(1000, 20'000, 42) : testing::zipf_stream(1'000'000, 20'000'000, 42);
  return kStream;
}

/// The sixteen sizes and, for the full stream, their misses: support/zipf_stream.hpp says where those come
/// from.
const std::vector<std::uint64_t> kSizes = {1000,  2000,  3000,  5000,   7000,   10000,  15000,  20000,
                                           30000, 50000, 70000, 100000, 150000, 200000, 300000, 500000};
const std::vector<std::uint64_t> kLruMisses = {11937513, 10855718, 10217551, 9409279, 8870754, 8296591,
                                               7637462,  7163841,  6489766,  5627765, 5051402, 4433391,
                                               3719693,  3209109,  2487463,  1611599};
const std::vector<std::uint64_t> kFifoMisses = {12662233, 11577639, 10935598, 10120005, 9576689, 8994656,
                                                8326199,  7845329,  7158643,  6273225,  5679582, 5034436,
                                                4282947,  3733164,  2939749,  1922558};

/// What replay counts at the sizes, where there is no golden list.
std::vector<std::uint64_t> replayed(const char* policy, const std::vector<std::uint64_t>& sizes) {
  std::vector<std::uint64_t> misses;
  for (const std::uint64_t entries : sizes)
    misses.push_back(replay(stream(), SizeUnit::kObjects, {policy, {entries, Bytes{kUnlimited}}})->misses);
  return misses;
}

std::vector<std::uint64_t> sizes() {
  if (!small()) return kSizes;
  std::vector<std::uint64_t> scaled;
  for (const std::uint64_t size : kSizes) scaled.push_back(size / 1000);
  return scaled;
}

void lru_whole_curve(benchmark::State& state) {
  const UseStream& uses = stream();
  LruCurve curve;
  for (auto _ : state) curve = lru_curve(uses);
  const std::vector<std::uint64_t> expected = small() ? replayed("lru", sizes()) : kLruMisses;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (curve.misses(sizes()[i]) != expected[i]) state.SkipWithError("misses differ");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(uses.uses.size()));
}
BENCHMARK(lru_whole_curve)->Unit(benchmark::kMillisecond);

void lru_sixteen_sizes(benchmark::State& state) {
  const UseStream& uses = stream();
  std::vector<std::uint64_t> misses;
  for (auto _ : state) misses = lru_misses_at(uses, sizes());
  if (misses != (small() ? replayed("lru", sizes()) : kLruMisses)) state.SkipWithError("misses differ");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(uses.uses.size()));
}
BENCHMARK(lru_sixteen_sizes)->Unit(benchmark::kMillisecond);

void fifo_sixteen_sizes(benchmark::State& state) {
  const UseStream& uses = stream();
  std::vector<std::uint64_t> misses;
  for (auto _ : state) misses = fifo_misses_at(uses, sizes());
  if (misses != (small() ? replayed("fifo", sizes()) : kFifoMisses)) state.SkipWithError("misses differ");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(uses.uses.size()));
}
BENCHMARK(fifo_sixteen_sizes)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
