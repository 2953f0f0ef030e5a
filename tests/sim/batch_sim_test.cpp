#include "loracle/sim/batch_sim.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/traces/generate.hpp"
#include "sim/batch_twin.hpp"
#include "sim/plan_traces.hpp"
#include "support/sanitized.hpp"

namespace loracle {
namespace {

using testing::skewed_trace;
using testing::trace_of;

// Under sanitizers a tenth of the requests has to do, and proves a tenth of the digits.
constexpr auto kShrink = testing::all_or_few<std::uint32_t>(1, 10);
constexpr double kTolerance = testing::all_or_few(0.01, 0.05);

constexpr std::uint32_t kMany = 1U << 20U;

double exponential(Rng& rng, double mean) {
  return -mean * std::log((static_cast<double>(rng.next() >> 11U) + 1) / 9007199254740993.0);
}

/// Arrivals and tokens for each request; one token of input where none are given.
Trace with_tokens(Trace trace, std::vector<double> arrival_s, std::vector<std::uint32_t> output,
                  std::vector<std::uint32_t> input = {}) {
  if (input.empty()) input.assign(output.size(), 1);
  trace.arrival_s = Column<double>(std::move(arrival_s));
  trace.input_tokens = Column<std::uint32_t>(std::move(input));
  trace.output_tokens = Column<std::uint32_t>(std::move(output));
  return trace;
}

Trace with_tenants(Trace trace, std::vector<std::uint32_t> tenant, std::uint32_t tenants) {
  std::vector<std::uint64_t> begin = {0};
  std::vector<char> names;
  for (std::uint32_t i = 0; i < tenants; ++i) {
    names.push_back(static_cast<char>('a' + i));
    begin.push_back(names.size());
  }
  trace.tenant = Column<std::uint32_t>(std::move(tenant));
  trace.tenant_name.begin = Column<std::uint64_t>(std::move(begin));
  trace.tenant_name.text = Column<char>(std::move(names));
  return trace;
}

/// Seats and tokens enough; a step takes `step_s`, whatever runs.
BatchOptions options_of(const char* tiers, std::uint32_t max_loras, std::uint32_t max_cpu_loras,
                        double step_s = 1) {
  BatchOptions options;
  options.tiers.tiers = tiers;
  options.tiers.max_loras = max_loras;
  options.tiers.max_cpu_loras = max_cpu_loras;
  options.service.step.base_s = step_s;
  options.max_num_seqs = kMany;
  options.max_num_batched_tokens = kMany;
  return options;
}

// If this failed, requests before time 0 would wait for a server that nothing keeps busy.
TEST(BatchSim, TheClockMayBeginAnywhere) {
  for (const bool loads_stall : {false, true}) {
    BatchOptions options = options_of("lru", 2, 3, 0.25);
    options.service.disk.latency_s = 2;
    options.service.slot.latency_s = 1;
    options.loads_stall = loads_stall;
    options.tiers.pins = {Row{2}};
    const auto at = [&options](double begin_s) {
      const std::vector<double> arrival_s = {begin_s, begin_s + 0.5, begin_s + 1, begin_s + 9, begin_s + 9};
      return simulate_batches(with_tokens(trace_of({{0}, {2}, {0}, {1}, {0}}), arrival_s, {3, 3, 3, 3, 3}),
                              options);
    };
    const auto expected = at(64);
    ASSERT_TRUE(expected);
    for (const double begin_s : {-64.0, -4.0, 0.0}) EXPECT_EQ(*at(begin_s), *expected) << begin_s;
  }
}

// If this failed, no figure of a step would be right: a batch of two, by hand.
TEST(BatchSim, StepsTakeWhatIsInThem) {
  // a (rank 8): 3 tokens in, 3 out, at 0 s. b (rank 16): 5 in, 2 out, at 1 s.
  Trace trace = with_tokens(trace_of({{0}, {1}}), {0, 1}, {3, 2}, {3, 5});
  trace.adapters.rank = Column<std::uint16_t>(std::vector<std::uint16_t>{8, 16});
  BatchOptions options = options_of("lru", 2, 2);
  options.service.step = {1, 0.125, 0.5, 0.25, 1.0 / 16};
  const auto outcome = simulate_batches(trace, options);
  ASSERT_TRUE(outcome) << outcome.error().message;
  // 1: a's prefill: 1 + 3/8 + 0.5 + 0.25 + 0.5 = 2.625 s. 2: a decodes, b's prefill:
  // 1 + 5/8 + 1 + 0.5 + 1.5 = 4.625, to 7.25. 3: both decode: 1 + 1 + 0.5 + 1.5 = 4, to 11.25, and both end.
  const ReplicaOutcome& total = outcome->total;
  EXPECT_EQ(total.steps, 3U);
  EXPECT_DOUBLE_EQ(outcome->span_s, 11.25);
  EXPECT_DOUBLE_EQ(total.first_token.p50, 2.625);
  EXPECT_DOUBLE_EQ(total.first_token.max, 6.25);
  EXPECT_DOUBLE_EQ(total.latency.max, 11.25);
  EXPECT_DOUBLE_EQ(total.slot_wait.max, 1.625);  // b, for the end of the step
  EXPECT_EQ(total.waited_for_slot + total.waited_for_seat, 0U);
  EXPECT_EQ(total.gaps.count, 3U);
  EXPECT_DOUBLE_EQ(total.gaps.max, 4.625);
  EXPECT_DOUBLE_EQ(total.gaps.mean, (4.625 + 4 + 4) / 3);
  EXPECT_EQ(total.prefill_tokens, 8U);
  EXPECT_EQ(total.output_tokens, 5U);
  EXPECT_DOUBLE_EQ(total.running_mean, (2.625 + 2 * 8.625) / 11.25);
  EXPECT_DOUBLE_EQ(total.busy_s, 11.25);
}

// If this failed, a long prompt would take all of a step, or none of the next.
TEST(BatchSim, LongPromptsGoOnInTheNextStep) {
  // 4 tokens a step. a: 10 in, 1 out. b, behind it: 1 in, 2 out.
  const Trace trace = with_tokens(trace_of({{0}, {1}}), {0, 0}, {1, 2}, {10, 1});
  BatchOptions options = options_of("lru", 2, 2);
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 4;
  const auto outcome = simulate_batches(trace, options);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->total.steps, 4U);  // 4, 4, 2 and b's, b's second
  EXPECT_DOUBLE_EQ(outcome->total.first_token.max, 3);
  EXPECT_DOUBLE_EQ(outcome->total.slot_wait.max, 2);
  EXPECT_EQ(outcome->total.waited_for_seat, 1U) << "for tokens";
  EXPECT_DOUBLE_EQ(outcome->total.latency.max, 4);
}

// If this failed, what stalls a server would be hidden from those whose tokens it holds back.
TEST(BatchSim, LoadsThatStallAreGapsOfEverybody) {
  // a is loaded from 0 s: 3 s from disk, 1 s into its slot; b comes at 6 s, when a decodes, and takes it too.
  const Trace trace = with_tokens(trace_of({{0}, {1}}), {0, 6}, {6, 1});
  BatchOptions options = options_of("lru", 2, 2);
  options.service.disk.latency_s = 3;
  options.service.slot.latency_s = 1;
  options.loads_stall = true;
  const auto stalled = simulate_batches(trace, options);
  ASSERT_TRUE(stalled);
  EXPECT_DOUBLE_EQ(stalled->total.stalled_s, 8);
  EXPECT_DOUBLE_EQ(stalled->total.gaps.max, 5);  // a's second token at 6 s, its third with b's load at 11 s
  EXPECT_EQ(stalled->total.gaps.stalled, 1U);
  EXPECT_DOUBLE_EQ(stalled->total.load_wait.mean, 4);
  EXPECT_DOUBLE_EQ(stalled->total.latency.max, 14);
  options.loads_stall = false;
  const auto beside = simulate_batches(trace, options);
  ASSERT_TRUE(beside);
  EXPECT_DOUBLE_EQ(beside->total.gaps.max, 1);
  EXPECT_EQ(beside->total.gaps.stalled, 0U);
  EXPECT_DOUBLE_EQ(beside->total.load_wait.mean, 4);
  EXPECT_DOUBLE_EQ(beside->total.latency.max, 10);
}

// If this failed, prefetch would be shown to gain what it does not, or the other way round.
TEST(BatchSim, PrefetchHidesTheDiskBehindTheWait) {
  // One slot. a holds it from 4 s (3 s disk, 1 s slot) to 14 s; b waits from 0 s, and is loaded after it.
  const Trace trace = with_tokens(trace_of({{0}, {1}}), {0, 0}, {10, 1});
  BatchOptions options = options_of("lru", 1, 2);
  options.service.disk.latency_s = 3;
  options.service.slot.latency_s = 1;
  const auto without = simulate_batches(trace, options);
  ASSERT_TRUE(without);
  EXPECT_DOUBLE_EQ(without->total.first_token.max, 14 + 4 + 1);
  options.prefetch = true;
  const auto with = simulate_batches(trace, options);
  ASSERT_TRUE(with);
  EXPECT_DOUBLE_EQ(with->total.first_token.max, 14 + 1 + 1);
  EXPECT_EQ(with->total.prefetched.loads, 2U);
  EXPECT_EQ(with->total.disk.loads, without->total.disk.loads);
}

// If this failed, whom a tenant's priority helps would be somebody else.
TEST(BatchSim, PriorityGoesFirst) {
  // One seat. Somebody runs; then three of tenant a wait, and one of tenant b behind them.
  Trace trace = with_tokens(trace_of({{0}, {0}, {0}, {0}, {0}}), {0, 1, 1, 1, 2}, {5, 5, 5, 5, 5});
  trace = with_tenants(std::move(trace), {0, 0, 0, 0, 1}, 2);
  BatchOptions options = options_of("lru", 1, 1);
  options.max_num_seqs = 1;
  const auto equal = simulate_batches(trace, options);
  ASSERT_TRUE(equal);
  EXPECT_DOUBLE_EQ(equal->tenants[1].first_token.mean, 20 - 2 + 1);
  options.tenant_priority = {0, -1};
  const auto first = simulate_batches(trace, options);
  ASSERT_TRUE(first);
  EXPECT_DOUBLE_EQ(first->tenants[1].first_token.mean, 5 - 2 + 1);
  EXPECT_EQ(first->tenants[0].requests, 4U);
}

struct RandomCase {
  Trace trace;
  BatchOptions options;
};

/// Few adapters, slots, seats and tokens, times in whole 1/256 s that often coincide.
RandomCase random_case(std::uint64_t seed) {
  Rng rng(seed);
  const std::uint32_t adapters = 2 + rng.below(9);
  const std::uint32_t several = rng.below(3) * 30;  // per cent of requests that name more than one
  const std::uint32_t gap = 1 + rng.below(8);
  std::vector<std::vector<std::uint32_t>> requests(120);
  std::vector<double> arrival_s;
  std::vector<std::uint32_t> input;
  std::vector<std::uint32_t> output;
  std::vector<std::uint32_t> tenant;
  double now_s = 0;
  for (auto& request : requests) {
    if (rng.below(8) > 0) request.push_back(rng.below(1 + rng.below(adapters)));
    while (!request.empty() && request.size() < 5 && rng.below(100) < several)
      request.push_back(rng.below(adapters));
    arrival_s.push_back(now_s += 0.25 * rng.below(4 * gap));
    input.push_back(rng.below(20));
    output.push_back(rng.below(8));
    tenant.push_back(rng.below(4) == 0 ? kNoTenant : rng.below(3));
  }
  RandomCase made;
  made.trace = with_tokens(trace_of(requests), std::move(arrival_s), std::move(output), std::move(input));
  made.trace = with_tenants(std::move(made.trace), std::move(tenant), 3);
  BatchOptions& options = made.options;
  options = options_of(std::vector<const char*>{"lru", "sieve/gdsf", "lru/fifo"}[rng.below(3)],
                       1 + rng.below(5), 1, 0.25 * (1 + rng.below(4)));
  options.tiers.max_cpu_loras = options.tiers.max_loras + rng.below(4);
  if (rng.below(4) == 0) options.tiers.boundary = Boundary::kExclusive;
  if (rng.below(2) == 0) options.max_num_seqs = 1 + rng.below(6);
  if (options.max_num_seqs <= 6) options.max_num_batched_tokens = options.max_num_seqs + rng.below(12);
  const std::uint32_t rows = made.trace.rows();
  for (std::uint32_t pins = rng.below(options.tiers.max_loras); pins-- > 0;)
    options.tiers.pins.push_back(Row{rng.below(rows)});
  if (rng.below(2) == 0) {
    StepTimes& step = options.service.step;
    step.prefill_token_s = rng.below(3) / 64.0;
    step.sequence_s = rng.below(3) / 32.0;
    step.adapter_s = rng.below(3) / 16.0;
    step.adapter_rank_s = rng.below(3) / 256.0;
    std::vector<std::uint16_t> ranks;
    for (std::uint32_t row = 0; row < rows; ++row)
      ranks.push_back(static_cast<std::uint16_t>(8 * rng.below(4)));
    made.trace.adapters.rank = Column<std::uint16_t>(std::move(ranks));
  }
  if (rng.below(3) == 0) {
    std::vector<std::uint64_t> bytes;
    for (std::uint32_t row = 0; row < rows; ++row) bytes.push_back(1 + rng.below(9));
    made.trace.adapters.bytes = Column<std::uint64_t>(std::move(bytes));
    options.tiers.gpu_memory = Bytes{std::uint64_t{9} * options.tiers.max_loras};  // any pins fit
    options.tiers.cpu_memory = Bytes{std::uint64_t{9} * options.tiers.max_loras + rng.below(20)};
    if (options.tiers.pins.empty()) options.tiers.gpu_memory = Bytes{std::uint64_t{4} + rng.below(30)};
  }
  if (rng.below(2) == 0) options.service.slot = {0.25 * rng.below(3), rng.below(2) == 0 ? 8.0 : 0x1p20};
  if (rng.below(2) == 0) options.service.disk = {0.5 * rng.below(3), rng.below(2) == 0 ? 4.0 : 0x1p20};
  options.loads_stall = rng.below(3) == 0;
  options.prefetch =
      !options.loads_stall && options.tiers.boundary == Boundary::kInclusive && rng.below(2) == 0;
  if (rng.below(2) == 0) options.tenant_priority = {0, -3, 5};
  options.replicas = 1 + rng.below(2) * rng.below(4);
  options.router = all_routers()[rng.below(3)];
  options.load_bound = 1 + 0.25 * rng.below(4);
  return made;
}

// If this failed, steps that are taken at once would not be the steps that they stand for.
TEST(BatchSim, EqualsANaiveSimulationStepByStep) {
  constexpr std::uint64_t kCases = 1000 / kShrink;
  std::uint64_t waited = 0;
  std::uint64_t refused = 0;
  std::uint64_t stalled = 0;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RandomCase one = random_case(seed);
    const auto outcome = simulate_batches(one.trace, one.options);
    ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.error().message;
    const BatchOutcome naive = testing::BatchFleetTwin(one.trace, one.options).run();
    ASSERT_EQ(outcome->span_s, naive.span_s) << "seed " << seed;
    for (std::uint32_t i = 0; i < one.options.replicas; ++i) {
      const ReplicaOutcome& mine = outcome->replicas[i];
      const ReplicaOutcome& twin = naive.replicas[i];
      ASSERT_EQ(mine.requests, twin.requests) << "seed " << seed << ", replica " << i;
      ASSERT_EQ(mine.decision_log_hash, twin.decision_log_hash) << "seed " << seed;
      ASSERT_EQ(mine.steps, twin.steps) << "seed " << seed;
      ASSERT_EQ(mine.waited_for_slot, twin.waited_for_slot) << "seed " << seed;
      ASSERT_EQ(mine.waited_for_seat, twin.waited_for_seat) << "seed " << seed;
      ASSERT_EQ(mine.waited_for_load, twin.waited_for_load) << "seed " << seed;
      ASSERT_EQ(mine.slot_wait, twin.slot_wait) << "seed " << seed;
      ASSERT_EQ(mine.load_wait, twin.load_wait) << "seed " << seed;
      ASSERT_EQ(mine.first_token, twin.first_token) << "seed " << seed;
      ASSERT_EQ(mine.gaps, twin.gaps) << "seed " << seed;
      ASSERT_EQ(mine, twin) << "seed " << seed;
      waited += twin.waited_for_slot + twin.waited_for_seat;
      refused += twin.refused;
      stalled += twin.gaps.stalled;
    }
  }
  EXPECT_GT(waited, kCases * 10) << "the cases are to be crowded";
  EXPECT_GT(refused, kCases / 10);
  EXPECT_GT(stalled, kCases / 10);
}

// If this failed, one of the two simulations would wait, load or decide otherwise than the engine.
TEST(BatchSim, EqualsTheEventSimulationWhereNothingSlows) {
  constexpr double kUnit = 0x1p-20;  // of all times, so that hardly two ends coincide
  for (std::uint64_t seed = 0; seed < 200 / kShrink; ++seed) {
    Rng rng(seed);
    std::vector<std::vector<std::uint32_t>> requests(150);
    std::vector<double> arrival_s;
    std::vector<float> held_s;
    std::vector<std::uint32_t> output;
    double now_s = 0;
    for (auto& request : requests) {
      request.push_back(rng.below(1 + rng.below(12)));
      while (request.size() < 3 && rng.below(4) == 0) request.push_back(rng.below(12));
      arrival_s.push_back(now_s += kUnit * (1 + rng.below(1U << 20U)));
      output.push_back(1 + rng.below(3U << 20U));
      held_s.push_back(static_cast<float>(kUnit * output.back()));
    }
    Trace trace = with_tokens(trace_of(requests), std::move(arrival_s), std::move(output));
    trace.duration_s = Column<float>(std::move(held_s));
    BatchOptions options = options_of(seed % 2 == 0 ? "lru" : "sieve/gdsf", 3 + rng.below(4), 8, kUnit);
    if (rng.below(2) == 0) options.max_num_seqs = 3 + rng.below(4);
    if (rng.below(2) == 0) options.service.disk = {0.25, 8};
    if (rng.below(2) == 0) options.service.slot.latency_s = 0.125;
    EventOptions same;
    same.tiers = options.tiers;
    same.disk = options.service.disk;
    same.slot = options.service.slot;
    same.max_num_seqs = options.max_num_seqs;
    const auto steps = simulate_batches(trace, options);
    const auto events = simulate_events(trace, same);
    ASSERT_TRUE(steps && events);
    const ReplicaOutcome& total = steps->total;
    ASSERT_EQ(total.decision_log_hash, events->decision_log_hash) << "seed " << seed;
    ASSERT_EQ(total.counts, events->counts) << "seed " << seed;
    ASSERT_EQ(total.slot_wait, events->slot_wait) << "seed " << seed;
    ASSERT_EQ(total.load_wait, events->load_wait) << "seed " << seed;
    ASSERT_EQ(total.waited_for_slot, events->waited_for_slot) << "seed " << seed;
    ASSERT_EQ(total.waited_for_seat, events->waited_for_seat) << "seed " << seed;
    ASSERT_EQ(total.waited_for_load, events->waited_for_load) << "seed " << seed;
    ASSERT_EQ(total.shared_loads, events->shared_loads) << "seed " << seed;
    ASSERT_EQ(total.waiting_max, events->waiting_max) << "seed " << seed;
  }
}

/// Keeps what is decided.
class Kept final : public DecisionSink {
 public:
  void on_decision(const Decision& decision) noexcept override { decisions.push_back(decision); }
  std::vector<Decision> decisions;
};

// If this failed, the simulation in steps would decide otherwise than the engine and the replay.
TEST(BatchSim, DecidesAsAReplayWhereRequestsDoNotMeet) {
  for (const char* tiers : {"lru", "sieve/gdsf", "s3fifo/lru"}) {
    Trace trace = skewed_trace(3, 60, 2000);
    trace.input_tokens = Column<std::uint32_t>(std::vector<std::uint32_t>(trace.requests, 100));
    trace.output_tokens = Column<std::uint32_t>(std::vector<std::uint32_t>(trace.requests, 10));
    BatchOptions options = options_of(tiers, 6, 20, 0.01);
    options.loads_stall = true;
    options.service.disk.latency_s = 0.1;
    Kept stepped;
    DecisionSink* const sink = &stepped;
    const auto outcome = simulate_batches(trace, options, {&sink, 1});
    ASSERT_TRUE(outcome) << outcome.error().message;
    Kept replayed;
    ASSERT_TRUE(replay_tiers(*make_batch_stream(trace), options.tiers, &replayed));
    EXPECT_EQ(stepped.decisions, replayed.decisions) << tiers;
    EXPECT_EQ(outcome->total.disk.loads, outcome->total.counts.disk_loads);
    EXPECT_EQ(outcome->total.slot.loads, outcome->total.counts.host_to_device_loads);
  }
}

// If this failed, the slots that a server needs would be counted wrong: M/G/infinity, each adapter by itself.
TEST(BatchSim, AsManyAdaptersAreInUseAsTheFormulaSays) {
  constexpr std::uint32_t kAdapters = 200;
  constexpr double kRate = 4;
  constexpr double kStepS = 0x1p-8;
  GenerateOptions zipf;
  zipf.generator = "zipf";
  zipf.requests = 300'000 / kShrink;
  zipf.adapters = kAdapters;
  zipf.alpha = 0.9;
  zipf.rate_rps = kRate;
  zipf.input_tokens_mean = 1;
  zipf.output_tokens_mean = 512;
  auto trace = generate(zipf);
  ASSERT_TRUE(trace);
  double tokens = 0;
  for (std::uint64_t i = 0; i < trace->requests; ++i) tokens += trace->output_tokens[i];
  const double held_s = kStepS * tokens / static_cast<double>(trace->requests);
  const auto outcome = simulate_batches(*trace, options_of("lru", kAdapters, kAdapters, kStepS));
  ASSERT_TRUE(outcome);
  double weights = 0;
  for (std::uint32_t i = 1; i <= kAdapters; ++i) weights += std::pow(i, -0.9);
  double expected = 0;
  for (std::uint32_t i = 1; i <= kAdapters; ++i)
    expected += 1 - std::exp(-kRate * std::pow(i, -0.9) / weights * held_s);
  EXPECT_NEAR(outcome->total.adapters_mean, expected, kTolerance * expected);
  EXPECT_NEAR(outcome->total.running_mean, kRate * held_s, kTolerance * kRate * held_s) << "Little's law";
  EXPECT_EQ(outcome->total.waited_for_slot, 0U);
}

// If this failed, every wait would be off: Erlang's formula for slots without reuse.
TEST(BatchSim, WaitsAsErlangSays) {
  constexpr std::uint32_t kRequests = 1'000'000 / kShrink;
  constexpr std::uint32_t kSlots = 4;
  constexpr double kLoad = 2.4;  // erlangs
  constexpr double kStepS = 0x1p-10;
  Rng rng(11);
  std::vector<std::vector<std::uint32_t>> requests(kRequests);
  std::vector<double> arrival_s(kRequests);
  std::vector<std::uint32_t> output(kRequests);
  double now_s = 0;
  for (std::uint32_t i = 0; i < kRequests; ++i) {
    requests[i] = {i % 100'000};  // by then long gone
    arrival_s[i] = now_s += exponential(rng, 1);
    output[i] = 1 + static_cast<std::uint32_t>(exponential(rng, kLoad) / kStepS);
  }
  const Trace trace = with_tokens(trace_of(requests), std::move(arrival_s), std::move(output));
  const auto outcome = simulate_batches(trace, options_of("lru", kSlots, kSlots, kStepS));
  ASSERT_TRUE(outcome);
  double terms = 0;
  double term = 1;
  for (std::uint32_t k = 0; k < kSlots; ++k) {
    terms += term;
    term *= kLoad / (k + 1);
  }
  const double queued = term * kSlots / (kSlots - kLoad);
  const double wait_probability = queued / (terms + queued);
  const double mean_wait_s = wait_probability * kLoad / (kSlots - kLoad);
  EXPECT_NEAR(static_cast<double>(outcome->total.waited_for_slot) / kRequests, wait_probability,
              kTolerance * wait_probability);
  EXPECT_NEAR(outcome->total.slot_wait.mean, mean_wait_s, 2 * kTolerance * mean_wait_s);
}

// If this failed, requests that arrive while their adapter is loaded would be counted as served at once.
TEST(BatchSim, DelayedHitsCostWhatTheFormulaSays) {
  constexpr std::uint32_t kRequests = 400'000 / kShrink;
  constexpr std::uint32_t kAdapters = 40;
  constexpr double kRate = 20;
  constexpr double kLoadS = 0.5;
  Rng rng(5);
  std::vector<std::vector<std::uint32_t>> requests(kRequests);
  std::vector<double> arrival_s(kRequests);
  double now_s = 0;
  for (std::uint32_t i = 0; i < kRequests; ++i) {
    requests[i] = {rng.below(kAdapters)};
    arrival_s[i] = now_s += exponential(rng, 1 / kRate);
  }
  const Trace trace =
      with_tokens(trace_of(requests), std::move(arrival_s), std::vector<std::uint32_t>(kRequests, 1));
  BatchOptions options = options_of("lru", 30, kAdapters, 0x1p-12);
  options.service.slot.latency_s = kLoadS;
  const auto outcome = simulate_batches(trace, options);
  ASSERT_TRUE(outcome);
  const double misses = static_cast<double>(outcome->total.counts.host_to_device_loads) / kRequests;
  const double rate_each = kRate / kAdapters;
  const double expected_s = misses * (kLoadS + rate_each * kLoadS * kLoadS / 2);
  EXPECT_NEAR(outcome->total.load_wait.mean, expected_s, kTolerance * expected_s);
  EXPECT_EQ(outcome->total.waited_for_slot, 0U);
}

Trace fleet_trace(std::uint32_t requests) {
  GenerateOptions zipf;
  zipf.generator = "zipf";
  zipf.requests = requests;
  zipf.adapters = 100;
  zipf.alpha = 0.9;
  zipf.rate_rps = 40;
  zipf.input_tokens_mean = 200;
  zipf.output_tokens_mean = 100;
  return *generate(zipf);
}

BatchOptions fleet(std::uint32_t replicas, Router router) {
  BatchOptions options = options_of("lru", 16, 32, 0.01);
  options.service.step = {0.008, 2e-5, 1e-5, 1e-5, 1e-6};
  options.service.slot.latency_s = 0.01;
  options.service.disk.latency_s = 0.1;
  options.max_num_seqs = 64;
  options.max_num_batched_tokens = 1024;
  options.replicas = replicas;
  options.router = router;
  return options;
}

// If this failed, a fleet would be planned with a router that does not do what its name says.
TEST(BatchSim, RoutersKeepAdaptersTogether) {
  const Trace trace = fleet_trace(20'000);
  std::vector<std::uint64_t> loads;
  for (const Router router : all_routers()) {
    const auto outcome = simulate_batches(trace, fleet(4, router));
    ASSERT_TRUE(outcome);
    std::uint64_t requests = 0;
    for (const ReplicaOutcome& replica : outcome->replicas) requests += replica.requests;
    EXPECT_EQ(requests, trace.requests);
    EXPECT_EQ(requests, outcome->total.requests);
    loads.push_back(outcome->total.slot.loads);
    for (const ReplicaOutcome& replica : outcome->replicas) {
      if (router == Router::kRoundRobin) {
        EXPECT_EQ(replica.requests, 5000U);
      }
    }
    const auto again = simulate_batches(trace, fleet(4, router));
    EXPECT_EQ(*again, *outcome) << name_of(router);
  }
  EXPECT_LT(loads[2], loads[1] / 2) << "affinity against least loaded";
  EXPECT_LT(3 * loads[3], 2 * loads[1]) << "consistent hashing against least loaded";
}

// If this failed, a popular adapter could drown its replica.
TEST(BatchSim, ConsistentHashingIsBounded) {
  // One adapter for all, nobody ends before all have come: loads are equal to one but for the bound.
  const std::uint32_t requests = 400;
  const Trace trace = with_tokens(trace_of(std::vector<std::vector<std::uint32_t>>(requests, {0})),
                                  std::vector<double>(requests, 1), std::vector<std::uint32_t>(requests, 1));
  for (const double bound : {1.0, 1.25, 2.0}) {
    BatchOptions options = options_of("lru", 1, 1);
    options.replicas = 4;
    options.router = Router::kConsistentHash;
    options.load_bound = bound;
    const auto outcome = simulate_batches(trace, options);
    ASSERT_TRUE(outcome);
    std::uint64_t most = 0;
    for (const ReplicaOutcome& replica : outcome->replicas) most = std::max(most, replica.requests);
    EXPECT_EQ(most, static_cast<std::uint64_t>(std::ceil(bound * 100))) << bound;
  }
  // Without a bound that matters, all go to the same one, and few adapters move when a replica is added.
  BatchOptions options = options_of("lru", 200, 200);
  options.router = Router::kConsistentHash;
  options.load_bound = 1e6;
  std::vector<std::vector<std::uint32_t>> each(200);
  for (std::uint32_t i = 0; i < each.size(); ++i) each[i] = {i};
  const Trace all =
      with_tokens(trace_of(each), std::vector<double>(200, 1), std::vector<std::uint32_t>(200, 1));
  std::vector<std::uint64_t> at_first;
  for (const std::uint32_t replicas : {4U, 5U}) {
    options.replicas = replicas;
    const auto outcome = simulate_batches(all, options);
    ASSERT_TRUE(outcome);
    if (replicas == 4)
      for (const ReplicaOutcome& replica : outcome->replicas) at_first.push_back(replica.requests);
    else
      for (std::uint32_t i = 0; i < 4; ++i) EXPECT_LE(outcome->replicas[i].requests, at_first[i]) << i;
  }
}

// If this failed, tenants and adapters would be charged for what they did not cause.
TEST(BatchSim, GroupsSumToTheWhole) {
  Trace trace = fleet_trace(5000);
  std::vector<std::uint32_t> tenant;
  for (std::uint64_t i = 0; i < trace.requests; ++i) tenant.push_back(static_cast<std::uint32_t>(i % 3));
  trace = with_tenants(std::move(trace), std::move(tenant), 3);
  const auto outcome = simulate_batches(trace, fleet(2, Router::kLeastLoaded));
  ASSERT_TRUE(outcome);
  for (const auto& groups : {outcome->tenants, outcome->adapters}) {
    GroupOutcome sum;
    double waits = 0;
    for (const GroupOutcome& group : groups) {
      sum.requests += group.requests;
      sum.output_tokens += group.output_tokens;
      sum.disk.loads += group.disk.loads;
      sum.slot.bytes += group.slot.bytes;
      waits += group.first_token.mean * static_cast<double>(group.requests);
    }
    EXPECT_EQ(sum.requests, outcome->total.requests);
    EXPECT_EQ(sum.output_tokens, outcome->total.output_tokens);
    EXPECT_EQ(sum.disk.loads, outcome->total.disk.loads);
    EXPECT_EQ(sum.slot.bytes, outcome->total.slot.bytes);
    EXPECT_NEAR(waits / 5000, outcome->total.first_token.mean, 1e-9);
  }
}

// If this failed, a request for what cannot be simulated would be answered with figures.
TEST(BatchSim, RefusesWhatItCannotSimulate) {
  const Trace trace = with_tokens(trace_of({{0}}), {0}, {1});
  const auto code = [&trace](const BatchOptions& options) {
    const auto outcome = simulate_batches(trace, options);
    return outcome ? Errc{} : outcome.error().code;
  };
  EXPECT_EQ(code(options_of("lru", 1, 1)), Errc{});
  Trace without = trace;
  without.output_tokens = {};
  const auto no_tokens = simulate_batches(without, options_of("lru", 1, 1));
  ASSERT_FALSE(no_tokens);
  EXPECT_EQ(no_tokens.error().code, Errc::kInvalid);
  EXPECT_NE(no_tokens.error().message.find("output_tokens"), std::string::npos);
  EXPECT_EQ(code(options_of("vllm", 1, 1)), Errc::kInvalid);
  EXPECT_EQ(code(options_of("belady", 1, 1)), Errc::kInvalid);
  EXPECT_EQ(code(options_of("lru", 0, 1)), Errc::kInvalid);
  EXPECT_EQ(code(options_of("lru", 1, 1, 0)), Errc::kInvalid);
  const auto changed = [&](const auto& change) {
    BatchOptions options = options_of("lru", 1, 1);
    change(options);
    return code(options);
  };
  EXPECT_EQ(changed([](BatchOptions& o) { o.service.step.adapter_s = -1; }), Errc::kInvalid);
  EXPECT_EQ(changed([](BatchOptions& o) { o.service.slot.bytes_per_s = 0; }), Errc::kInvalid);
  EXPECT_EQ(changed([](BatchOptions& o) { o.max_num_batched_tokens = 5; }), Errc::kInvalid);
  EXPECT_EQ(changed([](BatchOptions& o) { o.replicas = 0; }), Errc::kInvalid);
  EXPECT_EQ(changed([](BatchOptions& o) { o.load_bound = 0.5; }), Errc::kInvalid);
  EXPECT_EQ(changed([](BatchOptions& o) { o.prefetch = o.loads_stall = true; }), Errc::kInvalid);
  const auto large = simulate_batches(with_tokens(trace_of({{0, 1}}), {0}, {1}), options_of("lru", 1, 2));
  ASSERT_TRUE(large);
  EXPECT_EQ(large->total.refused, 1U);
}

}  // namespace
}  // namespace loracle
