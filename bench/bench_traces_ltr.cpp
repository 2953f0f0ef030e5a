// Time to open a `.ltr`, by its number of requests: it must not depend on it. The answer that is checked is
// the number of uses and the last one of them. LORACLE_BENCH_SMALL=1 shrinks the files, for a test that it
// still runs and is right.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "loracle/traces/ltr.hpp"
#include "loracle/traces/trace.hpp"
#include "support/temp_dir.hpp"
#include "support/zipf_stream.hpp"

namespace loracle {
namespace {

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

Trace trace_of(std::uint64_t requests) {
  const UseStream stream = testing::zipf_stream(small() ? 1000 : 1'000'000, requests, 42);
  Trace trace;
  trace.source = "zipf";
  trace.requests = stream.uses.size();
  trace.uses = stream.uses;
  std::vector<double> arrival(requests);
  for (std::uint64_t i = 0; i < requests; ++i) arrival[i] = static_cast<double>(i);
  trace.arrival_s = Column<double>(std::move(arrival));
  std::vector<std::uint64_t> begin;
  for (std::uint64_t i = 0; i <= stream.rows; ++i) begin.push_back(i);
  trace.adapters.name.text = Column<char>(std::vector<char>(stream.rows, 'a'));
  trace.adapters.name.begin = Column<std::uint64_t>(std::move(begin));
  return trace;
}

void ltr_open(benchmark::State& state) {
  const auto requests = static_cast<std::uint64_t>(state.range(0)) / (small() ? 1000 : 1);
  const testing::TempDir folder;
  const std::string path = (folder / "trace.ltr").string();
  const Trace trace = trace_of(requests);
  if (const Result<Unit> written = write_ltr(trace, path); !written)
    return state.SkipWithError(written.error().message.c_str());
  Result<Trace> opened = fail(Errc::kInvalid, "not opened");
  for (auto _ : state) {
    opened = open_ltr(path);
    if (!opened) return state.SkipWithError(opened.error().message.c_str());
  }
  if (opened->uses.size() != requests || opened->uses[requests - 1] != trace.uses[requests - 1])
    state.SkipWithError("what was opened is not what was written");
}
BENCHMARK(ltr_open)->Arg(200'000)->Arg(20'000'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
