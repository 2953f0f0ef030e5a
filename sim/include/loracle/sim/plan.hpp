#pragma once
/// Answers `--max-loras M --max-cpu-loras C` for a trace, with the evidence.
///
/// Durations are known where requests have one. Of those without (0 or missing) a few hold no slot: up to
/// 1 % of the requests, or max_wait_probability if that is less. More are taken to hold theirs as long as
/// others do (with_assumed_durations of transform.hpp), if 30 requests say how long; else waits are unknown.
///
/// The rule (first form):
///  1. Floor. Slots must hold the largest request. Where durations are known, at most max_wait_probability
///     of the requests may find more adapters in use than there are slots, and slots must outnumber those in
///     use on average: below that, requests wait for a slot however good the hit ratio looks. (Stricter than
///     "all slots busy" of activity_curve.hpp, which the tables show: who waits makes others wait.)
///  2. Limits. M slots fit the GPU memory given for LoRA; C adapters fit the host memory even when they are
///     the largest C of the trace (vLLM counts adapters, not bytes). C >= M.
///  3. Target. For each M that is left, C is the smallest that keeps disk loads *beyond the first use of each
///     adapter* within the target share of uses. First uses are left out: no size removes them. Where no C
///     reaches the target, the smallest C with the fewest disk loads stands in and the verdict says so.
///  4. Knee. A further slot is taken only if the loads it saves are worth its memory, on the lower convex
///     hull of the curve: where the trace has times, if they take `slot_worth_time` of the server's time or
///     more, at `slot_load_s` each; else, if they are `slot_worth` per use or more. Ties: fewer slots.
///  5. Waits. Where durations are known, the chosen pair is simulated in time (event_sim.hpp; the tiers asked
///     for, or lru/lru where those are vLLM's own or know the future). If more than max_wait_probability of
///     the requests wait for a slot, the floor rises to the next slot count of the grid at which few enough
///     do, found by doubling and halving steps, and the choice is made again from there. Where no slots
///     within the limits do, the plan is infeasible.
/// Objective kCost (plan_costs.hpp) takes the cheapest pair that meets every constraint instead of 3 to 5.
///
/// Where durations are known, how far traffic and adapters may grow until the chosen pair no longer holds is
/// found by bisection (Breakpoint: by the floor of rule 1 and the target of rule 3), and the slot counts of
/// the advisory table are simulated too: who waits for a slot, the delay by slots and loads, and the hits and
/// loads themselves. What it does not model: batches that slow each other down; and in the grid a slot held
/// by a running request is evictable. What the chosen pair does has confidence intervals where the trace
/// holds enough regimes of popularity (confidence.hpp); the choice itself takes the trace to be typical.
/// Deterministic: equal inputs, equal Plan, whatever the executor. No clock. Cost: one pass for an lru/lru
/// grid, one replay a cell for others; policies x sizes replays for the curves; where durations are known,
/// some ten to thirty simulations and as many light passes. Threads: none but the executor's. Errors:
/// kInvalid (option; trace without any adapter use), kNotFound (model, module, policy), kTooLarge (not even
/// one slot or one adapter fits the memory given), and those of replay and sweep_grid.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/sim/activity_curve.hpp"
#include "loracle/sim/calibration.hpp"
#include "loracle/sim/confidence.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/grid.hpp"
#include "loracle/sim/model_geometry.hpp"
#include "loracle/sim/plan_charts.hpp"
#include "loracle/sim/plan_costs.hpp"
#include "loracle/sim/service_model.hpp"
#include "loracle/sim/stretches.hpp"
#include "loracle/sim/what_if.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct PlanOptions {
  std::string model;                   // table name or config.json; empty: memory is not computed
  std::string targets = "auto";        // see target_modules()
  std::string dtype = "auto";          // of the adapters as served
  std::uint32_t max_lora_rank = 0;     // 0: the smallest vLLM accepts for the trace's largest; 16 if unknown
  Bytes gpu_memory = Bytes::max();     // for LoRA slots
  Bytes host_memory = Bytes::max();    // for adapters
  double target_disk_loads = 0.01;     // per use, beyond first uses
  double max_wait_probability = 0.01;  // share of requests that may wait for a slot: rules 1 and 5
  double slot_worth_time = 0.0005;     // share of the server's time that one more slot must save
  double slot_load_s = 0.008;          // host memory into a slot; a figure of the literature for 8B models
  double disk_load_s = 0.1;            // disk into host memory: 84 MB at 840 MB/s
  ChangeOptions changes;               // what the what-ifs take for granted; the trace says has_tenants
  bool slot_load_given = false;        // by hand: it stands, whatever a calibration says
  bool disk_load_given = false;        // likewise
  std::optional<Calibration> calibration;  // of loads; without one the plan says UNCALIBRATED
  double slot_worth = 0.0025;     // loads per use that one more slot must save, where there are no times
  std::string tiers = "lru/lru";  // device/host policies, or "vllm": see sweep_grid
  std::vector<std::string> policies = {"lru",  "sieve", "s3fifo",   "arc",   "lfu",
                                       "gdsf", "slru",  "wtinylfu", "belady"};
  CostOptions costs;                        // prices, objective, SLO, the GPU's memory, other engines
  std::uint32_t current_max_loras = 0;      // what the server runs with today; 0: not said
  std::uint32_t current_max_cpu_loras = 0;  // likewise; 0: as many as slots, vLLM's default
  bool what_ifs = true;    // false: no what_ifs, traffic_limit, adapters_limit, most of a plan's time
  std::string trace_note;  // what was done to the trace: "folded onto 1 h"; repeated in every output
  std::string reproduce;   // the command line; repeated in every output
};

enum class PlanVerdict : std::uint8_t {
  kMeetsTarget,
  kMissesTarget,  // the best that fits the limits
  kInfeasible,    // fewer slots fit than requests need at once: they wait, or are refused
};
/// "meets_target", "misses_target", "infeasible".
[[nodiscard]] const char* name_of(PlanVerdict verdict) noexcept;

/// Where the time of a load is from; the worst first.
enum class LoadTimesFrom : std::uint8_t {
  kAssumed,  // a guess
  kGiven,    // by hand
  kCalibrated,
};
/// "uncalibrated", "given", "calibrated".
[[nodiscard]] const char* name_of(LoadTimesFrom from) noexcept;

/// What keeps max_loras from being another: why not fewer, or why not more.
enum class SlotsBound : std::uint8_t {
  kLargestRequest,  // it needs so many at once
  kQuantile,        // with fewer, too many requests find more adapters in use than there are slots
  kMean,            // with fewer, there are fewer than are in use on average
  kSimulation,      // with fewer, too many requests wait, simulated
  kWorth,           // one more saves too little
  kGpuMemory,       // no more fit
  kHostMemory,      // no more adapters fit there, and those in slots are there too
  kAxisEnd,         // the grid looks no further
  kEveryAdapter,    // all have one
  kCost,            // of the pairs that meet every constraint it is the cheapest, or the nearest to them
};
/// "largest_request", "quantile", "mean", "simulation", "worth", "gpu_memory", "host_memory", "axis_end",
/// "every_adapter", "cost".
[[nodiscard]] const char* name_of(SlotsBound bound) noexcept;

/// Distinct adapters in use at once, as arriving requests find it, their own included.
struct ActiveAdapters {
  bool known = false;  // durations are in the trace, or for enough requests to take the others' from
  double mean = 0;
  std::uint32_t p50 = 0;
  std::uint32_t p99 = 0;
  std::uint32_t p999 = 0;
  std::uint32_t max = 0;
};

/// A line of an advisory table.
struct AdvisoryRow {
  GridCell cell;
  GridCell served;         // its counts simulated, where slots in use are not evictable; else those of `cell`
  bool simulated = false;  // `served` is, for the plan's tiers
  Bytes slot_memory{};     // 0 when unknown
  Bytes host_memory{};     // 0 when unknown
  bool chosen = false;
  bool current = false;          // what the server runs with today
  double wait_probability = -1;  // requests that find all slots busy (activity_curve.hpp); < 0: unknown
  double waited = -1;            // requests that wait for a slot, simulated (event_sim.hpp); < 0: unknown
  double delay_p99_s = -1;       // of slots and loads, simulated; < 0: unknown
  bool below_floor = false;
  bool over_limit = false;
  bool too_many_wait = false;       // more than max_wait_probability of the requests, simulated
  bool meets_target = false;        // of disk loads, in the grid
  std::optional<MonthlyCost> cost;  // if there are prices
};

/// What the server runs with today, judged like any other pair. The choice does not depend on it.
struct CurrentSetting {
  bool known = false;
  std::uint32_t max_loras = 0;      // as given
  std::uint32_t max_cpu_loras = 0;  // as given
  AdvisoryRow row;                  // its cell counts no more slots and adapters than the trace has adapters
};

/// One policy ruling one tier of the chosen size alone.
/// `refuses`: here it let some adapters bypass the cache, which a tier that serves requests must not do. So
/// its misses are a little too good, can even be below Belady's (who always admits), and it is never the best
/// of a gap.
struct PolicyRow {
  std::string policy;
  bool clairvoyant = false;
  bool refuses = false;
  std::uint64_t device_misses = 0;  // at max_loras
  std::uint64_t host_misses = 0;    // at max_cpu_loras
  bool refuses_by_bytes = false;    // in the replays of the byte gaps
  Bytes device_bytes{};             // loaded; 0 where the gap is not known
  Bytes host_bytes{};               // likewise
};

/// How far LRU is from optimal at one size, and which policy that refuses nothing comes nearest.
struct PolicyGap {
  std::uint32_t entries = 0;
  std::uint64_t lru = 0;
  std::uint64_t best = 0;
  std::uint64_t belady = 0;
  std::uint64_t bound = 0;  // below every policy, those that refuse too: miss_bounds of bounds.hpp
  std::string best_policy;
  bool policy_matters = false;  // the best closes >= 10 % of the gap, and that is >= 0.5 % of uses
};

/// The same by bytes loaded, where adapters differ in size: what a load takes grows with its bytes. One tier
/// ruled by each policy alone, request order, requests holding nothing. Slots count adapters. Host memory
/// here counts bytes: as many as the largest max_cpu_loras adapters take, so more small ones fit.
struct ByteGap {
  bool known = false;
  Bytes capacity = Bytes::max();  // of host memory; max for slots
  Bytes first_uses{};             // no size and no policy saves them
  Bytes lru{};
  Bytes best{};
  Bytes bound{};  // cost_bounds of bounds.hpp
  std::string best_policy;
  bool policy_matters = false;  // the best closes >= 10 % of the gap, and that is >= 0.5 % of bytes used
};

/// The chosen pair under a change of traffic, adapters or loads, simulated.
struct WhatIf {
  std::string change;               // "twice the traffic"
  bool fits = false;                // a slot and an adapter; else the rest is unknown
  std::uint32_t max_loras = 0;      // fewer than chosen, if that many no longer fit
  std::uint32_t max_cpu_loras = 0;  // likewise
  double gpu_hits = 0;              // share of uses
  double disk_loads = 0;            // share of uses, beyond first uses
  double waited = 0;                // share of requests that wait for a slot
  double delay_p99_s = 0;
  bool too_many_wait = false;
  bool meets_target = false;  // of disk loads; and nothing is refused
};

/// How far something may grow until the chosen pair no longer holds, by bisection: to some 4 % of the
/// traffic, 8 % of the adapters. Unknown too where PlanOptions::what_ifs is false.
struct Breakpoint {
  double limit = -1;           // times today's; 0: not even at the least that was looked at; < 0: unknown
  double most = 0;             // that was looked at; if that is the limit, it holds there too
  bool too_many_wait = false;  // just beyond the limit more slots are asked for than chosen
  bool off_target = false;     // just beyond it disk loads are off target
  std::uint32_t slots_at_twice = 0;  // that twice as much asks for; 0: unknown
};

/// How far the chosen pair's figures can be trusted.
struct Certainty {
  std::uint64_t regimes = 0;    // of popularity, in the trace; 0: too few requests to look for them
  double regime_requests = 0;   // length of the one that a request falls in, on average
  double regime_s = -1;         // the same in time; < 0: unknown
  std::vector<double> changes;  // [regimes - 1] seconds from the first arrival, or index of the request
  std::uint32_t blocks = 0;     // that the trace has, of kBlockRegimes regimes each
  Interval misses;              // share of uses that do not hit a slot
  Interval disk_loads;          // share of uses, beyond first uses
  Interval waited;              // share of requests, simulated
};

/// What the chosen pair did in a stretch of the trace (stretches.hpp), simulated if it was.
struct ServedStretch {
  double begin = 0;  // seconds from the first arrival, or index of the request
  StretchCounts counts;
};

struct PolicyCurve {
  std::string policy;
  bool clairvoyant = false;
  std::vector<std::uint64_t> misses;    // [curve_entries]
  std::vector<std::uint64_t> bypasses;  // [curve_entries]
};

struct RankCount {
  std::uint64_t rank = 0;  // 1: the most used adapter
  std::uint64_t uses = 0;
};
struct DistanceBin {
  std::uint64_t low = 0;  // stack distances low .. high
  std::uint64_t high = 0;
  std::uint64_t uses = 0;
};
struct WorkingSetPoint {
  double begin = 0;  // seconds from the first arrival, or index of the use
  std::uint64_t distinct = 0;
  std::uint64_t uses = 0;
};

struct Plan {
  // what was asked
  std::string source, format, mapping, trace_note, reproduce;
  std::string targets, dtype, tiers;
  Bytes gpu_memory_given = Bytes::max();  // for slots, by the option
  Bytes gpu_memory_limit = Bytes::max();  // that, or less where the server has less beside the weights
  Bytes host_memory_limit = Bytes::max();
  double target_disk_loads = 0;
  double max_wait_probability = 0;
  double slot_worth_time = 0;
  double slot_load_s = 0;  // of an adapter of mean size
  double disk_load_s = 0;  // likewise
  LoadChannel slot_load;   // what the simulation counts for each
  LoadChannel disk_load;
  LoadTimesFrom slot_load_from = LoadTimesFrom::kAssumed;
  LoadTimesFrom disk_load_from = LoadTimesFrom::kAssumed;
  double load_bytes_min = 0;  // of the adapters in use; 0: unknown
  double load_bytes_max = 0;
  std::optional<Calibration> calibration;
  double slot_worth = 0;
  CostOptions cost_options;
  ChangeOptions changes;

  // what the trace is
  std::uint64_t requests = 0;
  std::uint64_t requests_with_adapter = 0;
  std::uint64_t requests_with_several = 0;
  std::uint64_t skipped_lines = 0;
  std::uint64_t uses = 0;
  std::uint64_t adapters = 0;         // distinct ones used = first uses
  std::uint32_t largest_request = 0;  // adapters
  double span_s = -1;                 // < 0: the trace has no times
  bool has_whole_arrivals = false;    // all of them, in seconds from the first one on
  ActiveAdapters active;
  ActivityCurve activity;               // empty where they are not known
  std::uint64_t unknown_durations = 0;  // requests with an adapter, if others have a duration
  std::uint64_t assumed_durations = 0;  // of those: taken to hold it as long as others do; all or none
  double duration_median_s = -1;        // of requests with an adapter and a duration; < 0: none has one

  // what things weigh
  bool has_model = false;
  ModelGeometry model;
  std::vector<LinearModule> modules;  // targeted
  std::uint32_t max_lora_rank = 0;
  std::uint32_t largest_rank = 0;  // of adapters in the trace; 0: unknown
  bool rank_known = false;         // from the trace
  bool rank_given = false;         // by the option
  std::uint32_t element_bytes = 0;
  Bytes slot_bytes{};  // one slot; 0 when unknown
  bool host_bytes_known = false;
  std::vector<Bytes> host_bytes;  // [adapters + 1] of the i largest together; empty when unknown

  // what to do
  PlanVerdict verdict = PlanVerdict::kMeetsTarget;
  GridCell chosen;
  std::uint32_t slots_floor = 1;  // one more than slots_limit: even that many leave too many waiting
  SlotsBound floor_from = SlotsBound::kLargestRequest;  // of the first four
  std::uint32_t slots_limit = 0;                        // that fit, and that the grid looked at
  SlotsBound limit_from = SlotsBound::kEveryAdapter;    // of the last four but one
  SlotsBound chosen_from = SlotsBound::kWorth;          // what bound chosen.max_loras
  double waited = -1;  // requests that wait for a slot at `chosen`, simulated; < 0: unknown
  std::uint32_t host_limit = 0;
  std::optional<GridCell> enough;     // infeasible or off target: the fewest slots that do, were there room;
                                      // by cost, not of a plan that is off target
  std::string flags;                  // "--enable-lora --max-loras 8 ..."
  std::string reason;                 // one sentence
  Breakpoint traffic_limit;           // the same adapters, asked for more often
  Breakpoint adapters_limit;          // more adapters, with traffic of their own
  std::vector<AdvisoryRow> by_slots;  // at the chosen max_cpu_loras (or the smallest allowed)
  std::vector<AdvisoryRow> by_host;   // at the chosen max_loras
  PlanMemory memory;                  // beside that of slots and adapters above
  PlanCosts costs;
  CurrentSetting current;
  std::vector<WhatIf> what_ifs;  // the first: nothing changes; empty without durations, or if not asked for

  // the evidence
  Certainty certainty;
  std::vector<ServedStretch>
      served;  // at `chosen`, at most kServedMax; empty where there are too few requests
  Grid grid;
  GridCell vllm;  // vLLM's own caches, defects included, at the chosen sizes
  std::vector<PolicyRow> policies;
  PolicyGap device_gap;
  PolicyGap host_gap;
  Bytes bytes_used{};  // each use's adapter; 0 where sizes are unknown or all the same
  ByteGap device_byte_gap;
  ByteGap host_byte_gap;  // not known either where all adapters fit
  std::vector<std::uint32_t> curve_entries;
  std::vector<PolicyCurve> curves;        // the policies, at curve_entries
  std::vector<std::uint64_t> lru_misses;  // [adapters + 1]
  std::vector<RankCount> popularity;      // every rank up to 100, then every few per cent
  std::vector<DistanceBin> distances;
  double window = 0;  // of the working set: seconds, or uses where there are no times
  std::vector<WorkingSetPoint> working_set;
  PlanCharts charts;                  // what is drawn beside the tables
  bool is_short = false;              // a target stands on fewer than ten requests or uses
  std::vector<std::string> cautions;  // why the advice may not be worth taking; mostly empty
  std::vector<std::string> assumptions;
  std::vector<std::string> limits;  // when the advice is wrong
};

/// Stretches of a plan's `served`.
inline constexpr std::size_t kServedMax = 200;

[[nodiscard]] Result<Plan> make_plan(const Trace& trace, const PlanOptions& options, Executor& executor);

/// Disk loads that are not the first use of an adapter, per use.
[[nodiscard]] double excess_disk_loads(const Plan& plan, const GridCell& cell) noexcept;

/// Nothing is refused, and disk loads stay within the target.
[[nodiscard]] bool meets_target(const Plan& plan, const GridCell& cell) noexcept;

/// For a terminal: at most 100 columns.
[[nodiscard]] std::string plan_text(const Plan& plan);
/// Schema "loracle.plan/1": see sim/README.md. One line a top-level member; the grid as columns and rows.
[[nodiscard]] std::string plan_json(const Plan& plan);
/// The same as one table, section,row,column,value: see sim/README.md.
[[nodiscard]] std::string plan_csv(const Plan& plan);

}  // namespace loracle
