#pragma once
/// Memory and money in a plan: what is asked of it, and what it says.
///
/// Objective kCost, instead of rules 3 to 5 of plan.hpp: of all pairs of the grid that fit the memory limits,
/// leave room for a KV cache, lie at or above the slots' floor and meet the target of disk loads, the
/// cheapest is taken at which, simulated, at most max_wait_probability of the requests wait for a slot and at
/// most max_slo_misses are delayed by slots and loads for longer than the SLO, both at the upper limit of the
/// confidence interval (at the share itself where the trace is too short for one: the plan says which). The
/// pairs are simulated from the cheapest on; those with neither more slots nor more host memory than one that
/// failed are passed over. Where none will do, the one that exceeds its limits by the least factor stands in,
/// the verdict says so, and so does what bound. Nothing is relaxed.
/// Costs take loads from the grid, where requests hold nothing, so that all pairs are priced alike: those
/// beyond first uses scaled to a month, and each adapter's first once.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "loracle/core/units.hpp"
#include "loracle/sim/confidence.hpp"
#include "loracle/sim/costs.hpp"
#include "loracle/sim/grid.hpp"
#include "loracle/sim/prices.hpp"

namespace loracle {

enum class Objective : std::uint8_t { kHits, kCost };
/// "hits", "cost".
[[nodiscard]] const char* name_of(Objective objective) noexcept;

struct CostOptions {
  std::optional<Prices> prices;  // without them no money is shown
  Objective objective = Objective::kHits;
  double slo_s = std::numeric_limits<double>::infinity();  // of delays by slots and loads; infinite: none
  double max_slo_misses = 0.01;                            // share of requests
  Bytes gpu_memory{};                                      // of the server's GPUs together; 0: unknown
  double gpu_utilization = 0.9;                            // vLLM's --gpu-memory-utilization
  Bytes model_weights{};                                   // 0: as the model's layers say, 2 bytes an element
  std::string kv_dtype = "auto";
  std::vector<std::string> engines;  // whose settings text and page show; empty: all
};

/// Errors: kInvalid, with the flag that is missing or wrong; kNotFound (engine).
[[nodiscard]] Result<Unit> check_cost_options(const CostOptions& options, bool has_model);

/// Adapters of one rank.
struct RankShare {
  std::uint32_t rank = 0;  // 0: unknown
  std::uint64_t adapters = 0;
  std::uint64_t uses = 0;
};

struct PlanMemory {
  Bytes kv_token{};              // KV cache of one token; 0: unknown
  Bytes weights{};               // of the base model; 0: unknown
  Bytes kv_pool{};               // for KV cache and slots together; 0: unknown
  Bytes disk{};                  // all adapters used; 0: unknown
  std::vector<Bytes> pinned;     // [adapters + 1] by vLLM for the i largest together; empty: unknown
  std::vector<RankShare> ranks;  // ascending: the trace's mixture
};

/// A share of requests held against what is allowed.
struct ServiceLevel {
  double share = -1;  // < 0: not asked, or unknown
  Interval interval;
  double limit = 1;

  /// The upper limit of the interval; the share itself where there is none.
  [[nodiscard]] double upper() const noexcept { return interval.confidence > 0 ? interval.high : share; }
  [[nodiscard]] bool is_met() const noexcept { return upper() <= limit; }
};

/// What no pair meets.
enum class Constraint : std::uint8_t {
  kNone,
  kGpuMemory,
  kHostMemory,
  kDiskTarget,
  kNothingLeft,  // slots would take the whole KV pool, or loads all of the time
  kWaits,
  kSlo,
  kSearch,  // so many pairs were simulated that the search was given up
};
/// "none", "gpu_memory", "host_memory", "disk_target", "nothing_left", "waits", "slo", "search".
[[nodiscard]] const char* name_of(Constraint constraint) noexcept;

/// How the objective kCost came out.
struct CostChoice {
  bool asked = false;
  Constraint binding = Constraint::kNone;  // kNone: the pair meets every constraint
  std::uint64_t options = 0;               // pairs that are left before any is simulated
  std::uint32_t simulated = 0;
  ServiceLevel waits;  // of the chosen pair, or of the nearest
  ServiceLevel late;   // delayed for longer than the SLO
};

/// The chosen pair's cost with one price a fifth lower and higher.
struct Sensitivity {
  PriceInput input = PriceInput::kGpuHour;
  Money part{};  // of the total, that this price is in
  Money less{};
  Money more{};
  Money today_less{};  // likewise of today's pair; 0 where it is not told
  Money today_more{};
};
inline constexpr std::uint32_t kSensitivityPercent = 20;

struct TodayCost {
  GridCell cell;
  double waited = -1;  // simulated; < 0: unknown
  MonthlyCost cost;
};

struct PlanCosts {
  MonthlyCost chosen;                      // meaningless without prices
  std::optional<TodayCost> today;          // if today's sizes were given
  std::vector<Sensitivity> sensitivities;  // of the two prices that the largest parts of the total hang on
  CostChoice choice;
};

}  // namespace loracle
