// Requests a second of a replay, each policy at 1 % and 10 % of the objects (or of the bytes), one thread,
// columns loaded and ids interned. LORACLE_BENCH_SMALL=1 shrinks the trace, for a test that it still runs and
// is right.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>

#include "loracle/policy/policy_spec.hpp"
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

/// Misses at 100,000 objects: support/zipf_stream.hpp says where they come from.
const std::map<std::string, std::uint64_t>& golden_at_100k() {
  static const std::map<std::string, std::uint64_t> kMisses = {{"lru", 4433391},   {"fifo", 5034436},
                                                               {"sieve", 3699528}, {"clock", 4295056},
                                                               {"gdsf", 3910404},  {"belady", 2566741}};
  return kMisses;
}

void replay_objects(benchmark::State& state, const std::string& policy) {
  const UseStream& uses = stream();
  const auto entries = small() ? std::uint64_t{100} : static_cast<std::uint64_t>(state.range(0));
  ReplayCounts counts;
  for (auto _ : state) counts = *replay(uses, SizeUnit::kObjects, {policy, {entries, Bytes{kUnlimited}}});
  const auto golden = golden_at_100k().find(policy);
  if (!small() && entries == 100'000 && golden != golden_at_100k().end() && counts.misses != golden->second)
    state.SkipWithError("misses differ from golden");
  if (counts.misses == 0 || counts.misses > counts.requests) state.SkipWithError("impossible miss count");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(counts.requests));
  state.counters["miss_ratio"] = static_cast<double>(counts.misses) / static_cast<double>(counts.requests);
}

void register_all() {
  for (const std::string_view name : policy_names()) {
    const std::string policy(name);
    for (const std::int64_t entries : {10'000, 100'000})
      benchmark::RegisterBenchmark(("replay/" + policy + "/objects").c_str(),
                                   [policy](benchmark::State& state) { replay_objects(state, policy); })
          ->Arg(entries)
          ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace loracle

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  loracle::register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
