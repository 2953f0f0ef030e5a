// What requests wait for: the activity-stamped curve against the plain one on the same trace, the pass that
// looks at adapters in use alone, and the simulation in virtual time with slots enough, with a quarter and
// with a twentieth of what is needed. One thread, the stream prepared. LORACLE_BENCH_SMALL=1 shrinks the
// trace, for a test that it still runs and is right: the simulation then has to equal its naive twin.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/sim/activity_curve.hpp"
#include "loracle/sim/batch_sim.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/traces/generate.hpp"
#include "sim/batch_twin.hpp"
#include "sim/event_twin.hpp"

namespace loracle {
namespace {

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

/// Zipf(0.9) over 2,000 adapters, 100 requests a second that hold theirs for a second on average.
const Trace& trace() {
  static const Trace kTrace = [] {
    GenerateOptions zipf;
    zipf.generator = "zipf";
    zipf.requests = small() ? 3000 : 5'000'000;
    zipf.adapters = 2000;
    zipf.alpha = 0.9;
    zipf.rate_rps = 100;
    zipf.duration_s_mean = 1;
    auto made = generate(zipf);
    LORACLE_CHECK(made.has_value());
    return *made;
  }();
  return kTrace;
}

const BatchStream& stream() {
  static const BatchStream kStream = *make_batch_stream(trace(), NextUses::kUnknown);
  return kStream;
}

const ActivityCurve& activity() {
  static const ActivityCurve kActivity = *activity_curve(trace(), stream());
  return kActivity;
}

void plain_curve(benchmark::State& state) {
  const UseStream& uses = stream().uses;
  LruCurve curve;
  for (auto _ : state) curve = lru_curve(uses);
  if (curve.compulsory_misses != uses.distinct) state.SkipWithError("first uses differ");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(curve.requests));
}
BENCHMARK(plain_curve)->Unit(benchmark::kMillisecond);

/// Where requests hold nothing it must be the plain curve, at every size.
void activity_stamped_curve(benchmark::State& state) {
  const BatchStream& batches = stream();
  ActivityCurve curve;
  for (auto _ : state) curve = *activity_curve(trace(), batches);
  Trace holds_nothing = trace();
  holds_nothing.duration_s = Column<float>(std::vector<float>(trace().requests, 0.0F));
  if (activity_curve(holds_nothing, stream())->misses_at != lru_curve(stream().uses).misses_at)
    state.SkipWithError("misses differ from the plain curve's");
  if (curve.waits(0) == 0 || curve.waits(curve.arrivals_at.size()) != 0)
    state.SkipWithError("impossible waits");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(curve.requests));
}
BENCHMARK(activity_stamped_curve)->Unit(benchmark::kMillisecond);

void adapters_in_use(benchmark::State& state) {
  const BatchStream& batches = stream();
  ActiveAtArrival seen;
  for (auto _ : state) seen = *active_at_arrival(trace(), batches);
  if (seen.arrivals_at != activity().arrivals_at)
    state.SkipWithError("adapters in use differ from the curve's");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(seen.requests));
}
BENCHMARK(adapters_in_use)->Unit(benchmark::kMillisecond);

/// With this share, in per cent, of the slots that the most crowded arrival needs.
void event_simulation(benchmark::State& state) {
  const auto needed = static_cast<std::uint32_t>(activity().arrivals_at.size() - 1);
  EventOptions options;
  options.tiers.tiers = "lru/lru";
  options.tiers.max_loras = std::max(1U, needed * static_cast<std::uint32_t>(state.range(0)) / 100);
  options.tiers.max_cpu_loras = std::max(options.tiers.max_loras, 1000U);
  options.max_num_seqs = std::numeric_limits<std::uint32_t>::max();
  EventOutcome outcome;
  for (auto _ : state) outcome = *simulate_events(trace(), stream(), options);
  if (outcome.counts.uses != stream().uses.uses.size()) state.SkipWithError("not every use was served");
  if ((state.range(0) >= 100) != (outcome.waited_for_slot == 0)) state.SkipWithError("impossible waits");
  if (small() && outcome != testing::EventTwin(trace(), options).run())
    state.SkipWithError("differs from its naive twin");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(outcome.requests));
  state.counters["waited"] =
      static_cast<double>(outcome.waited_for_slot) / static_cast<double>(outcome.requests);
  state.counters["queue"] = static_cast<double>(outcome.waiting_max);
}
BENCHMARK(event_simulation)->Arg(100)->Arg(25)->Arg(5)->Unit(benchmark::kMillisecond);

/// A fifth of those requests, with 200 tokens in and 128 out on average: in steps of 1/128 s a second each.
const Trace& token_trace() {
  static const Trace kTrace = [] {
    GenerateOptions zipf;
    zipf.generator = "zipf";
    zipf.requests = small() ? 3000 : 1'000'000;
    zipf.adapters = 2000;
    zipf.alpha = 0.9;
    zipf.rate_rps = 100;
    zipf.input_tokens_mean = 200;
    zipf.output_tokens_mean = 128;
    auto made = generate(zipf);
    LORACLE_CHECK(made.has_value());
    return *made;
  }();
  return kTrace;
}

/// With so many slots, on so many replicas of them all together.
void step_simulation(benchmark::State& state) {
  BatchOptions options;
  options.tiers.tiers = "lru/lru";
  options.replicas = static_cast<std::uint32_t>(state.range(1));
  options.router = Router::kLoraAffinity;
  options.tiers.max_loras = static_cast<std::uint32_t>(state.range(0)) / options.replicas;
  options.tiers.max_cpu_loras = std::max(options.tiers.max_loras, 1000U);
  options.max_num_seqs = 4096;
  options.max_num_batched_tokens = 1U << 20U;
  options.service.step.base_s = 0x1p-7;
  BatchOutcome outcome;
  for (auto _ : state) outcome = *simulate_batches(token_trace(), options);
  if (outcome.total.counts.uses != token_trace().uses.size()) state.SkipWithError("not every use was served");
  if (small()) {
    const BatchOutcome twin = testing::BatchFleetTwin(token_trace(), options).run();
    for (std::uint32_t i = 0; i < options.replicas; ++i)
      if (outcome.replicas[i].decision_log_hash != twin.replicas[i].decision_log_hash)
        state.SkipWithError("decides otherwise than its naive twin");
  }
  const auto tokens = static_cast<double>(outcome.total.output_tokens);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(outcome.total.requests));
  state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["waited"] =
      static_cast<double>(outcome.total.waited_for_slot) / static_cast<double>(outcome.total.requests);
}
BENCHMARK(step_simulation)->Args({200, 1})->Args({60, 1})->Args({200, 8})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
