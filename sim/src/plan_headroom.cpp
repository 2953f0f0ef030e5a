#include "plan_headroom.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/traces/transform.hpp"
#include "plan_rules.hpp"

namespace loracle::detail {
namespace {

constexpr double kTrafficMost = 16;  // and, downwards, its inverse
constexpr double kTrafficPrecision = 1.045;
constexpr double kAdaptersMost = 4;
constexpr double kAdaptersPrecision = 1.1;
constexpr std::uint64_t kGrownRequestsMost = 2'000'000;  // beyond twice the adapters
constexpr std::uint64_t kRequestsMost = 5'000'000;       // beyond that nobody wants to wait for it
constexpr std::uint64_t kSeed = 1;

/// What is found at one place.
struct Found {
  std::uint32_t slots = 0;  // asked for
  bool off_target = false;
};

/// What requests ask for at once, by a floor of rule 1; and as many times more as rule 5 found today.
std::uint32_t slots_asked(const Plan& plan, std::uint32_t floor) {
  if (plan.floor_from != SlotsBound::kSimulation) return floor;
  const std::uint64_t today = floor_of(plan, plan.activity).slots;
  return static_cast<std::uint32_t>((std::uint64_t{floor} * plan.slots_floor + today - 1) / today);
}

/// Looks at places, several at a time, and remembers what it found. Deterministic.
class Places {
 public:
  using Look = std::function<Result<Found>(double)>;
  Places(const Plan& plan, Executor& executor, Look look)
      : slots_(plan.chosen.max_loras), executor_(&executor), look_(std::move(look)) {}

  [[nodiscard]] Result<Unit> look_at(const std::vector<double>& places) {
    std::vector<double> fresh;
    for (const double place : places)
      if (!found_.contains(place) && std::find(fresh.begin(), fresh.end(), place) == fresh.end())
        fresh.push_back(place);
    std::vector<Result<Found>> found(fresh.size(), fail(Errc::kInvalid, "not looked at"));
    executor_->run(fresh.size(), [&](std::size_t i) { found[i] = look_(fresh[i]); });
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      if (!found[i]) return fail(std::move(found[i].error()));
      found_[fresh[i]] = *found[i];
    }
    return Unit{};
  }
  /// REQUIRES: it was looked at.
  [[nodiscard]] const Found& at(double place) const {
    const auto found = found_.find(place);
    LORACLE_CHECK(found != found_.end());
    return found->second;
  }
  [[nodiscard]] bool waits_at(double place) const { return at(place).slots > slots_; }
  [[nodiscard]] bool holds_at(double place) const { return !waits_at(place) && !at(place).off_target; }

  /// The limit between a place that holds and one that does not.
  [[nodiscard]] Result<Unit> narrow(double low, double high, double precision, Breakpoint& limit) {
    const Result<Bracket> bracket =
        bisect(low, high, precision, [this](const std::vector<double>& places) -> Result<std::vector<bool>> {
          if (auto done = look_at(places); !done) return fail(std::move(done.error()));
          std::vector<bool> holds;
          holds.reserve(places.size());
          for (const double place : places) holds.push_back(holds_at(place));
          return holds;
        });
    if (!bracket) return fail(bracket.error());
    limit.limit = bracket->holds;
    limit.too_many_wait = waits_at(bracket->breaks);
    limit.off_target = at(bracket->breaks).off_target;
    return Unit{};
  }

 private:
  std::uint32_t slots_;
  Executor* executor_;
  Look look_;
  std::map<double, Found> found_;
};

Result<Unit> fill_traffic_limit(Plan& plan, const Trace& trace, const BatchStream& stream,
                                Executor& executor) {
  Places places(plan, executor, [&](double traffic) -> Result<Found> {
    const Result<ActiveAtArrival> activity = active_at_arrival(trace, stream, traffic);
    if (!activity) return fail(activity.error());
    return Found{slots_asked(plan, floor_of(plan, *activity).slots), false};
  });
  constexpr double kLeast = 1 / kTrafficMost;
  if (auto done = places.look_at({kLeast, 1, 2, kTrafficMost}); !done) return done;
  Breakpoint& limit = plan.traffic_limit;
  limit.most = kTrafficMost;
  limit.slots_at_twice = places.at(2).slots;
  limit.limit = places.holds_at(kTrafficMost) ? kTrafficMost : 0;
  limit.too_many_wait = limit.limit == 0;
  if (places.holds_at(kTrafficMost) || !places.holds_at(kLeast)) return Unit{};
  // What holds today is not said to hold at a little less.
  if (places.holds_at(2)) return places.narrow(2, kTrafficMost, kTrafficPrecision, limit);
  return places.holds_at(1) ? places.narrow(1, 2, kTrafficPrecision, limit)
                            : places.narrow(kLeast, 1, kTrafficPrecision, limit);
}

/// The chosen pair with so many times the adapters.
Result<Found> with_adapters(const Plan& plan, const Trace& trace, double times) {
  const Trace grown = with_more_adapters(trace, times - 1, kSeed);
  const NextUses next = knows_the_future(plan.tiers) ? NextUses::kKnown : NextUses::kUnknown;
  const Result<BatchStream> stream = make_batch_stream(grown, next);
  if (!stream) return fail(stream.error());
  const Result<ActiveAtArrival> activity = active_at_arrival(grown, *stream);
  if (!activity) return fail(activity.error());
  const std::array<std::uint32_t, 1> slots = {plan.chosen.max_loras};
  const std::array<std::uint32_t, 1> host = {plan.chosen.max_cpu_loras};
  InlineExecutor here;
  const Result<Grid> grid = sweep_grid(*stream, plan.tiers, slots, host, here);
  if (!grid) return fail(grid.error());
  Plan like = {};  // what a floor and a target are judged by
  like.active = plan.active;
  like.largest_request = plan.largest_request;
  like.max_wait_probability = plan.max_wait_probability;
  like.adapters = stream->uses.distinct;
  like.uses = stream->uses.uses.size();
  like.target_disk_loads = plan.target_disk_loads;
  return Found{slots_asked(plan, floor_of(like, *activity).slots), !meets_target(like, grid->at(0, 0))};
}

Result<Unit> fill_adapters_limit(Plan& plan, const Trace& trace, Executor& executor) {
  if (plan.requests > kRequestsMost) return Unit{};
  Breakpoint& limit = plan.adapters_limit;
  limit.most = static_cast<double>(plan.requests) * kAdaptersMost <= static_cast<double>(kGrownRequestsMost)
                   ? kAdaptersMost
                   : 2;
  limit.too_many_wait = plan.slots_floor > plan.chosen.max_loras;
  limit.off_target = !meets_target(plan, plan.chosen);
  limit.limit = 0;
  if (limit.too_many_wait || limit.off_target) return Unit{};
  Places places(plan, executor, [&](double times) { return with_adapters(plan, trace, times); });
  if (auto done = places.look_at({2, limit.most}); !done) return done;
  limit.slots_at_twice = places.at(2).slots;
  if (!places.holds_at(2)) return places.narrow(1, 2, kAdaptersPrecision, limit);
  if (!places.holds_at(limit.most)) return places.narrow(2, limit.most, kAdaptersPrecision, limit);
  limit.limit = limit.most;
  return Unit{};
}

}  // namespace

Result<Bracket> bisect(double low, double high, double precision,
                       const std::function<Result<std::vector<bool>>(const std::vector<double>&)>& holds_at) {
  LORACLE_CHECK(low > 0 && low < high && precision > 1);
  Bracket bracket{low, high};
  while (bracket.breaks / bracket.holds > precision) {
    const double step = std::cbrt(bracket.breaks / bracket.holds);
    const std::vector<double> places = {bracket.holds * step, bracket.holds * step * step};
    const Result<std::vector<bool>> holds = holds_at(places);
    if (!holds) return fail(holds.error());
    const auto first =
        static_cast<std::size_t>(std::find(holds->begin(), holds->end(), false) - holds->begin());
    if (first < places.size()) bracket.breaks = places[first];
    if (first > 0) bracket.holds = places[first - 1];
  }
  return bracket;
}

Result<Unit> fill_breakpoints(Plan& plan, const Trace& trace, const BatchStream& stream, Executor& executor) {
  if (!plan.active.known) return Unit{};
  if (auto done = fill_traffic_limit(plan, trace, stream, executor); !done) return done;
  return fill_adapters_limit(plan, trace, executor);
}

}  // namespace loracle::detail
