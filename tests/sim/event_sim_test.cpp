#include "loracle/sim/event_sim.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/traces/generate.hpp"
#include "sim/event_twin.hpp"
#include "sim/plan_traces.hpp"
#include "support/sanitized.hpp"

namespace loracle {
namespace {

using testing::skewed_trace;
using testing::trace_of;

// Under sanitizers a tenth of the requests has to do, and proves a tenth of the digits.
constexpr auto kShrink = testing::all_or_few<std::uint32_t>(1, 10);
constexpr double kTolerance = testing::all_or_few(0.01, 0.05);

double exponential(Rng& rng, double mean) {
  return -mean * std::log((static_cast<double>(rng.next() >> 11U) + 1) / 9007199254740993.0);
}

Trace timed(Trace trace, std::vector<double> arrival_s, std::vector<float> held_s) {
  trace.arrival_s = Column<double>(std::move(arrival_s));
  trace.duration_s = Column<float>(std::move(held_s));
  return trace;
}

EventOptions options_of(const char* tiers, std::uint32_t max_loras, std::uint32_t max_cpu_loras) {
  EventOptions options;
  options.tiers.tiers = tiers;
  options.tiers.max_loras = max_loras;
  options.tiers.max_cpu_loras = max_cpu_loras;
  options.max_num_seqs = 1U << 20U;
  return options;
}

// If this failed, waits would be those of another scheduler than the one that is planned for.
TEST(EventSim, PassesThoseWhoCannotStart) {
  // One slot. a holds it 0 to 10 s, b comes at 1 s; a again at 2 s shares the slot and keeps it until 12 s.
  const Trace trace = timed(trace_of({{0}, {1}, {0}}), {0, 1, 2}, {10, 5, 10});
  const auto outcome = simulate_events(trace, options_of("lru", 1, 1));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->requests, 3U);
  EXPECT_EQ(outcome->waited_for_slot, 1U);
  EXPECT_DOUBLE_EQ(outcome->slot_wait.max, 11);
  EXPECT_EQ(outcome->waiting_max, 1U);
  EXPECT_EQ(outcome->counts.gpu_hits, 1U);
  // With one seat, a's second request stands behind b.
  EventOptions one_seat = options_of("lru", 2, 2);
  one_seat.max_num_seqs = 1;
  const auto seated = simulate_events(trace, one_seat);
  ASSERT_TRUE(seated);
  EXPECT_DOUBLE_EQ(seated->slot_wait.max, 13);  // 2 s to 15 s
  EXPECT_EQ(seated->waited_for_slot, 0U);
  EXPECT_EQ(seated->waited_for_seat, 2U);
}

// If this failed, a load would be paid twice by those who wait for it together, or not at all.
TEST(EventSim, LoadsTakeTimeAndAreShared) {
  // a is asked for at 0 s, again at 1 s while it is loaded (2 s from disk, 1 s into its slot).
  const Trace trace = timed(trace_of({{0}, {0}, {0}}), {0, 1, 9}, {1, 1, 1});
  EventOptions options = options_of("lru", 1, 1);
  options.disk.latency_s = 2;
  options.slot.latency_s = 1;
  const auto outcome = simulate_events(trace, options);
  ASSERT_TRUE(outcome);
  EXPECT_DOUBLE_EQ(outcome->load_wait.max, 3);
  EXPECT_DOUBLE_EQ(outcome->load_wait.mean, (3.0 + 2.0 + 0.0) / 3);
  EXPECT_EQ(outcome->shared_loads, 1U);
  EXPECT_EQ(outcome->counts.disk_loads, 1U);
  // Two loads at once share the way: the second is done when both are.
  Trace two = timed(trace_of({{0}, {1}}), {0, 0}, {1, 1});
  two.adapters.bytes = Column<std::uint64_t>(std::vector<std::uint64_t>{100, 100});
  EventOptions narrow = options_of("lru", 2, 2);
  narrow.slot.bytes_per_s = 50;
  const auto both = simulate_events(two, narrow);
  ASSERT_TRUE(both);
  EXPECT_DOUBLE_EQ(both->load_wait.mean, 3);  // 2 s and 4 s
  // A load that stalls is waited for by everybody.
  narrow.loads_stall = true;
  const auto stalled = simulate_events(two, narrow);
  ASSERT_TRUE(stalled);
  EXPECT_DOUBLE_EQ(stalled->stalled_s, 4);
  EXPECT_DOUBLE_EQ(stalled->delay.max, 4);
}

// If this failed, requests before time 0 would wait for a server that nothing keeps busy.
TEST(EventSim, TheClockMayBeginAnywhere) {
  for (const bool loads_stall : {false, true}) {
    EventOptions options = options_of("lru", 2, 3);
    options.disk.latency_s = 2;
    options.slot.latency_s = 1;
    options.loads_stall = loads_stall;
    options.tiers.pins = {Row{2}};
    const auto at = [&options](double begin_s) {
      const std::vector<double> arrival_s = {begin_s, begin_s + 0.5, begin_s + 1, begin_s + 9, begin_s + 9};
      return simulate_events(timed(trace_of({{0}, {2}, {0}, {1}, {0}}), arrival_s, {1, 1, 1, 1, 1}), options);
    };
    const auto expected = at(64);
    ASSERT_TRUE(expected);
    for (const double begin_s : {-64.0, -4.0, 0.0}) EXPECT_EQ(*at(begin_s), *expected) << begin_s;
  }
}

class Starts final : public StartWatch {
 public:
  void on_start(const StartedRequest& request) noexcept override {
    ++requests;
    slot_wait_s += request.slot_wait_s;
    load_wait_s += request.load_wait_s;
    for (const StartedUse& use : request.uses) uses.push_back(use);
  }
  std::uint64_t requests = 0;
  double slot_wait_s = 0;
  double load_wait_s = 0;
  std::vector<StartedUse> uses;
};

// If this failed, looking on would change what happens, or tell of something else.
TEST(EventSim, TellsWhereAdaptersWereFound) {
  // a from disk (2 s, then 1 s into its slot), again while that lasts; b from disk takes its slot; a from
  // host memory.
  const Trace trace = timed(trace_of({{0}, {0}, {1}, {0}}), {0, 1, 10, 20}, {1, 1, 1, 1});
  Starts starts;
  EventOptions options = options_of("lru", 1, 2);
  options.disk.latency_s = 2;
  options.slot.latency_s = 1;
  options.starts = &starts;
  ASSERT_TRUE(simulate_events(trace, options));
  ASSERT_EQ(starts.uses.size(), 4U);
  const std::vector<std::pair<Place, double>> wanted = {
      {Place::kDisk, 3}, {Place::kDevice, 2}, {Place::kDisk, 3}, {Place::kHost, 1}};
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(starts.uses[i].found, wanted[i].first) << i;
    EXPECT_DOUBLE_EQ(starts.uses[i].load_s, wanted[i].second) << i;
  }
  for (const char* tiers : {"lru", "sieve/gdsf"}) {
    for (const bool stall : {false, true}) {
      const Trace busy = skewed_trace(5, 40, 3000, 4);
      EventOptions plain = options_of(tiers, 6, 12);
      plain.disk.latency_s = 0.5;
      plain.slot.latency_s = 0.1;
      plain.loads_stall = stall;
      Starts told;
      EventOptions watched = plain;
      watched.starts = &told;
      const auto one = simulate_events(busy, plain);
      const auto two = simulate_events(busy, watched);
      ASSERT_TRUE(one && two);
      EXPECT_EQ(*one, *two);
      EXPECT_EQ(told.requests, one->requests - one->refused);
      EXPECT_NEAR(told.slot_wait_s / static_cast<double>(told.requests), one->slot_wait.mean, 1e-4);
      EXPECT_NEAR(told.load_wait_s / static_cast<double>(told.requests), one->load_wait.mean, 1e-4);
      const auto found = [&told](Place place) {
        return static_cast<std::uint64_t>(
            std::count_if(told.uses.begin(), told.uses.end(),
                          [place](const StartedUse& use) { return use.found == place; }));
      };
      EXPECT_EQ(found(Place::kDevice), one->counts.gpu_hits);
      EXPECT_EQ(found(Place::kDisk), one->counts.disk_loads);
    }
  }
}

// If this failed, tiers that exclude one another would pay for what costs nothing, and not for what does.
TEST(EventSim, ChargesLoadsByTheirWay) {
  // One slot, exclusive: b comes from the origin by disk and slot, a moves down; a comes back by slot alone.
  const Trace trace = timed(trace_of({{0}, {1}, {0}}), {0, 10, 20}, {1, 1, 1});
  for (const bool stall : {false, true}) {
    EventOptions options = options_of("lru", 1, 1);
    options.tiers.boundary = Boundary::kExclusive;
    options.disk.latency_s = 2;
    options.slot.latency_s = 1;
    options.loads_stall = stall;
    const auto outcome = simulate_events(trace, options);
    ASSERT_TRUE(outcome);
    EXPECT_DOUBLE_EQ(outcome->load_wait.mean, (3.0 + 3.0 + 1.0) / 3) << stall;
  }
}

// If this failed, a server that stands still while it loads would look as if it had too few slots.
TEST(EventSim, AServerThatStandsStillIsNoLackOfSlots) {
  const Trace trace = timed(trace_of({{0}, {1}}), {0, 1}, {1, 1});
  EventOptions options = options_of("lru", 2, 2);
  options.slot.latency_s = 4;
  options.loads_stall = true;
  const auto outcome = simulate_events(trace, options);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->waited_for_slot, 0U);
  EXPECT_EQ(outcome->slot_wait.max, 0);
  EXPECT_DOUBLE_EQ(outcome->load_wait.max, 7);  // b: 1 s to 4 s, then its own until 8 s
}

// If this failed, the simulation in time would decide otherwise than the engine and the replay.
TEST(EventSim, DecidesAsAReplayWhereNothingTakesTime) {
  for (const char* tiers : {"lru", "sieve/gdsf", "s3fifo/lru"}) {
    Trace trace = skewed_trace(3, 60, 3000);
    trace.duration_s = Column<float>(std::vector<float>(trace.requests, 0.0F));
    EventOptions options = options_of(tiers, 6, 20);
    const auto outcome = simulate_events(trace, options);
    ASSERT_TRUE(outcome) << outcome.error().message;
    const auto stream = make_batch_stream(trace);
    const auto replayed = replay_tiers(*stream, options.tiers);
    ASSERT_TRUE(replayed);
    EXPECT_EQ(outcome->decision_log_hash, replayed->decision_log_hash) << tiers;
    EXPECT_EQ(outcome->counts, replayed->counts);
    EXPECT_EQ(outcome->delay.max, 0);
  }
}

struct RandomCase {
  Trace trace;
  EventOptions options;
};

/// Few adapters and slots, times that often coincide: each rule of the simulation meets the others.
RandomCase random_case(std::uint64_t seed) {
  Rng rng(seed);
  const std::uint32_t adapters = 2 + rng.below(9);
  const std::uint32_t several = rng.below(3) * 30;  // per cent of requests that name more than one
  std::vector<std::vector<std::uint32_t>> requests(150);
  std::vector<double> arrival_s;
  std::vector<float> held_s;
  double now_s = 0;
  for (auto& request : requests) {
    if (rng.below(20) > 0) request.push_back(rng.below(1 + rng.below(adapters)));
    while (!request.empty() && request.size() < 5 && rng.below(100) < several)
      request.push_back(rng.below(adapters));
    arrival_s.push_back(now_s += 0.5 * rng.below(4));
    held_s.push_back(static_cast<float>(0.5 * rng.below(12)));
  }
  RandomCase made;
  made.trace = timed(trace_of(requests), std::move(arrival_s), std::move(held_s));
  EventOptions& options = made.options;
  options.tiers.tiers = std::vector<const char*>{"lru", "sieve/gdsf", "lru/fifo"}[rng.below(3)];
  options.tiers.max_loras = 1 + rng.below(5);
  options.tiers.max_cpu_loras = options.tiers.max_loras + rng.below(4);
  if (rng.below(4) == 0) options.tiers.boundary = Boundary::kExclusive;
  options.max_num_seqs = rng.below(3) == 0 ? 1 + rng.below(5) : 1U << 20U;
  const std::uint32_t rows = made.trace.rows();
  for (std::uint32_t pins = rng.below(options.tiers.max_loras); pins-- > 0;)
    options.tiers.pins.push_back(Row{rng.below(rows)});
  if (rng.below(3) == 0) {
    std::vector<std::uint64_t> bytes;
    for (std::uint32_t row = 0; row < rows; ++row) bytes.push_back(1 + rng.below(9));
    made.trace.adapters.bytes = Column<std::uint64_t>(std::move(bytes));
    options.tiers.gpu_memory = Bytes{std::uint64_t{9} * options.tiers.max_loras};  // any pins fit
    options.tiers.cpu_memory = Bytes{std::uint64_t{9} * options.tiers.max_loras + rng.below(20)};
    if (options.tiers.pins.empty()) options.tiers.gpu_memory = Bytes{std::uint64_t{4} + rng.below(30)};
  }
  if (rng.below(2) == 0) options.slot = {0.25 * rng.below(3), rng.below(2) == 0 ? 8.0 : 1e9};
  if (rng.below(2) == 0) options.disk = {0.5 * rng.below(3), rng.below(2) == 0 ? 4.0 : 1e9};
  options.loads_stall = rng.below(4) == 0;
  return made;
}

// If this failed, who waits would be found fast, and wrong.
TEST(EventSim, EqualsANaiveScanOfTheQueue) {
  constexpr std::uint64_t kCases = 3000 / kShrink;
  std::uint64_t waited = 0;
  std::uint64_t refused = 0;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RandomCase one = random_case(seed);
    const auto outcome = simulate_events(one.trace, one.options);
    ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.error().message;
    const EventOutcome naive = testing::EventTwin(one.trace, one.options).run();
    ASSERT_EQ(outcome->decision_log_hash, naive.decision_log_hash) << "seed " << seed;
    ASSERT_EQ(outcome->waited_for_slot, naive.waited_for_slot) << "seed " << seed;
    ASSERT_EQ(outcome->waited_for_seat, naive.waited_for_seat) << "seed " << seed;
    ASSERT_EQ(outcome->shared_loads, naive.shared_loads) << "seed " << seed;
    ASSERT_EQ(outcome->delay, naive.delay) << "seed " << seed;
    ASSERT_EQ(*outcome, naive) << "seed " << seed;
    waited += naive.waited_for_slot + naive.waited_for_seat;
    refused += naive.refused;
  }
  EXPECT_GT(waited, kCases * 10) << "the cases are to be crowded";
  EXPECT_GT(refused, kCases / 10);
}

// If this failed, a request that pins leave no room for would be in no count at all.
TEST(EventSim, RefusesWhatPinsLeaveNoRoomFor) {
  const Trace trace = timed(trace_of({{0}, {1, 2}, {1}}), {0, 1, 2}, {1, 1, 1});
  EventOptions options = options_of("lru", 2, 3);
  options.tiers.pins = {Row{0}};
  const auto outcome = simulate_events(trace, options);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->refused, 1U);
  EXPECT_EQ(outcome->waited_for_slot, 0U);
  EXPECT_EQ(outcome->counts.refused_uses, 2U);
  // A pin named twice takes one slot: b finds the other.
  const Trace three = timed(trace_of({{0}, {1}, {2}}), {0, 1, 2}, {1, 5, 1});
  options.tiers.max_loras = 3;
  options.tiers.pins = {Row{0}, Row{0}};
  const auto twice = simulate_events(three, options);
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->waited_for_slot, 0U);
}

// If this failed, traces built by hand would be simulated beyond the ends of the columns.
TEST(EventSim, RowsNeedNoNames) {
  Trace trace = timed(trace_of({{0}, {1}, {0, 1}}), {0, 1, 2}, {3, 3, 3});
  const auto named = simulate_events(trace, options_of("lru", 1, 2));
  trace.adapters.name = {};
  const auto nameless = simulate_events(trace, options_of("lru", 1, 2));
  ASSERT_TRUE(named && nameless);
  EXPECT_EQ(*nameless, *named);
}

// If this failed, every wait that the planner prints would be off: Erlang's formula for slots without reuse.
TEST(EventSim, WaitsAsErlangSays) {
  constexpr std::uint32_t kRequests = 1'000'000 / kShrink;
  constexpr std::uint32_t kSlots = 4;
  constexpr double kLoad = 2.4;  // erlangs
  Rng rng(11);
  std::vector<std::vector<std::uint32_t>> requests(kRequests);
  std::vector<double> arrival_s(kRequests);
  std::vector<float> held_s(kRequests);
  double now_s = 0;
  for (std::uint32_t i = 0; i < kRequests; ++i) {
    requests[i] = {i % 100'000};  // by then long gone
    arrival_s[i] = now_s += exponential(rng, 1);
    held_s[i] = static_cast<float>(exponential(rng, kLoad));
  }
  const Trace trace = timed(trace_of(requests), std::move(arrival_s), std::move(held_s));
  const auto outcome = simulate_events(trace, options_of("lru", kSlots, kSlots));
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
  EXPECT_NEAR(static_cast<double>(outcome->waited_for_slot) / kRequests, wait_probability,
              kTolerance * wait_probability);
  EXPECT_NEAR(outcome->slot_wait.mean, mean_wait_s, 2 * kTolerance * mean_wait_s);
}

// If this failed, requests that arrive while their adapter is loaded would be counted as served at once.
TEST(EventSim, DelayedHitsCostWhatTheFormulaSays) {
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
  const Trace trace = timed(trace_of(requests), std::move(arrival_s), std::vector<float>(kRequests, 0.0F));
  EventOptions options = options_of("lru", 30, kAdapters);
  options.slot.latency_s = kLoadS;
  const auto outcome = simulate_events(trace, options);
  ASSERT_TRUE(outcome);
  const double misses = static_cast<double>(outcome->counts.host_to_device_loads) / kRequests;
  const double rate_each = kRate / kAdapters;
  const double expected_s = misses * (kLoadS + rate_each * kLoadS * kLoadS / 2);
  EXPECT_NEAR(outcome->load_wait.mean, expected_s, kTolerance * expected_s);
  EXPECT_EQ(outcome->waited_for_slot, 0U);
}

// If this failed, the trap would look harmless: five per cent misses, and requests that wait for minutes.
TEST(EventSim, ShowsTheWaitsOfTooFewSlots) {
  struct Case {
    double held_s;
    std::uint32_t slots;
    double wait_low;
    double wait_high;
    double p99_low_s;
    double p99_high_s;
  };
  // Figures of another simulation of the same traffic: .130 and 0.56 s; .482 and 5.1 s; .700 and 28 s; .0005.
  for (const Case& one : {Case{0.5, 4, 0.11, 0.15, 0.4, 0.8}, Case{2, 8, 0.43, 0.54, 3.5, 7},
                          Case{6, 16, 0.62, 0.78, 18, 45}, Case{6, 32, 0, 0.003, 0, 0.1}}) {
    GenerateOptions zipf;
    zipf.generator = "zipf";
    zipf.requests = 100'000;
    zipf.adapters = 200;
    zipf.alpha = 0.9;
    zipf.rate_rps = 4;
    zipf.duration_s_mean = one.held_s;
    const auto trace = generate(zipf);
    ASSERT_TRUE(trace);
    const auto outcome = simulate_events(*trace, options_of("lru", one.slots, 200));
    ASSERT_TRUE(outcome);
    const double waited = static_cast<double>(outcome->waited_for_slot) / 100'000;
    EXPECT_GE(waited, one.wait_low) << one.held_s << " s, " << one.slots;
    EXPECT_LE(waited, one.wait_high) << one.held_s << " s, " << one.slots;
    EXPECT_GE(outcome->slot_wait.p99, one.p99_low_s) << one.held_s << " s, " << one.slots;
    EXPECT_LE(outcome->slot_wait.p99, one.p99_high_s) << one.held_s << " s, " << one.slots;
  }
}

// If this failed, a mistake in the question would be answered with numbers.
TEST(EventSim, RefusesWhatItCannotAnswer) {
  const Trace untimed = trace_of({{0}});
  EXPECT_EQ(simulate_events(untimed, options_of("lru", 1, 1)).error().code, Errc::kInvalid);
  const Trace trace = timed(trace_of({{0}}), {0}, {1});
  EXPECT_EQ(simulate_events(trace, options_of("vllm", 1, 1)).error().code, Errc::kInvalid);
  EXPECT_EQ(simulate_events(trace, options_of("belady", 1, 1)).error().code, Errc::kInvalid);
  EXPECT_EQ(simulate_events(trace, options_of("lru", 0, 1)).error().code, Errc::kInvalid);
  EventOptions no_rate = options_of("lru", 1, 1);
  no_rate.slot.bytes_per_s = 0;
  EXPECT_EQ(simulate_events(trace, no_rate).error().code, Errc::kInvalid);
  const auto large = simulate_events(timed(trace_of({{0, 1}}), {0}, {1}), options_of("lru", 1, 2));
  ASSERT_TRUE(large);
  EXPECT_EQ(large->refused, 1U);
}

}  // namespace
}  // namespace loracle
