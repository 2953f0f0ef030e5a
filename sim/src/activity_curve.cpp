#include "loracle/sim/activity_curve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "busy_periods.hpp"
#include "curves_vectors.hpp"
#include "end_axis.hpp"
#include "loracle/core/check.hpp"
#include "running.hpp"

namespace loracle {
namespace {

using detail::BusyPeriods;
using detail::EndAxis;

constexpr AxisPlace kStays = EndAxis::kStays;

constexpr std::size_t kNearMax = 1U << 15U;  // rows whose columns a core's own cache holds
constexpr std::size_t kAheadPlace = 24;      // periods between the prefetch of a row's place and its begin
constexpr std::size_t kAheadWord = 8;        // the same for that place's word and its node

/// Arrivals by adapters in use, and how many of them need an idle one.
struct Arrivals {
  // [rows + 1 of each, by turns] of those that need no idle one, and of the others. Fewer than 2^32, so none
  // overflows.
  std::vector<std::uint32_t> at;

  explicit Arrivals(std::uint32_t rows) : at(2 * (std::size_t{rows} + 1), 0) {}

  void add(const BusyPeriods& periods) noexcept {
    auto begun = static_cast<std::uint32_t>(periods.carried());
    for (std::size_t x = 0; x < periods.size(); ++x) {
      const std::uint32_t before = std::exchange(begun, periods.begun_by()[x]);
      ++at[2U * (begun - periods.left_by()[x]) + (begun != before ? 1U : 0U)];
    }
  }
  [[nodiscard]] std::uint64_t needing_idle(std::size_t active) const noexcept { return at[2 * active + 1]; }
  /// [largest + 1]
  [[nodiscard]] std::vector<std::uint64_t> by_active() const {
    std::size_t end = at.size();
    while (end > 0 && at[end - 1] == 0) --end;
    std::vector<std::uint64_t> arrivals((end + 1) / 2);
    for (std::size_t active = 0; active < arrivals.size(); ++active)
      arrivals[active] = std::uint64_t{at[2 * active]} + at[2 * active + 1];
    return arrivals;
  }
};

/// What the pass over the periods of a block reads and writes.
struct Pass {
  const BatchStream& stream;
  BusyPeriods periods;
  EndAxis axis;
  std::vector<AxisPlace> place;        // [periods] of its end
  std::vector<std::uint32_t> hits_at;  // [rows + 1] uses of idle rows by distance; fewer than 2^32
  Arrivals arrivals;

  Pass(const Trace& trace, const BatchStream& batches, double traffic)
      : stream(batches),
        periods(trace, batches, traffic),
        axis(batches.uses.rows),
        hits_at(std::size_t{batches.uses.rows} + 1, 0),
        arrivals(batches.uses.rows) {}
};

/// Gives the periods that leave their places, in order.
void lay_out(Pass& pass) {
  pass.periods.order();
  const std::span<const std::uint32_t> in_order = pass.periods.in_order();
  pass.axis.reserve(in_order.size());
  pass.axis.hold(static_cast<AxisPlace>(in_order.size()));
  if (pass.place.size() < pass.periods.periods()) pass.place.resize(pass.periods.periods());
  for (const std::uint32_t period : pass.periods.staying()) pass.place[period] = kStays;
  AxisPlace next = pass.axis.now;
  for (const std::uint32_t period : in_order) pass.place[period] = next++;
  for (std::size_t period = 0; period < pass.periods.carried(); ++period)
    pass.axis.last[index_of(pass.periods.rows()[period])] = pass.place[period];
}

/// By vectors of kWidth bytes.
template <std::size_t kWidth, bool kOne>
[[gnu::always_inline]] inline void begin_periods(Pass& pass) noexcept {
  const std::span<const Row> rows = pass.periods.rows();
  const std::uint32_t* const begins = pass.periods.begins().data();
  const std::uint32_t* const left_by = pass.periods.left_by().data();
  const AxisPlace* const places = pass.place.data();
  std::uint32_t* const hits_at = pass.hits_at.data();
  EndAxis axis = std::move(pass.axis);  // here its counts can stay in registers
  const AxisPlace first = axis.now;
  const bool is_near = axis.last.size() <= kNearMax;
  const std::size_t periods = rows.size();
  for (std::size_t period = pass.periods.carried(); period < periods;) {
    axis.advance(first + left_by[begins[period]]);
    if (!is_near) {
      __builtin_prefetch(&axis.last[row_ahead(rows, period, kAheadPlace)], 1);
      axis.prefetch(axis.last[row_ahead(rows, period, kAheadWord)]);
    }
    std::size_t end = period + 1;  // of those that one request begins: all are looked up before any is taken
    if constexpr (!kOne) {
      while (end < periods && begins[end] == begins[period]) ++end;
      for (std::size_t i = period; i < end; ++i)
        if (const AxisPlace last = axis.last[index_of(rows[i])]; last != EndAxis::kUnused)
          ++hits_at[axis.distance(last)];
    }
    for (; period < end; ++period) {
      AxisPlace& at = axis.last[index_of(rows[period])];
      const AxisPlace last = std::exchange(at, places[period]);
      if (last == EndAxis::kUnused) {
        ++axis.distinct;
        continue;
      }
      LORACLE_DCHECK(last < axis.now);
      if constexpr (kOne) ++hits_at[axis.distance(last)];
      axis.take<kWidth>(last);
    }
  }
  axis.advance(first + static_cast<AxisPlace>(pass.periods.in_order().size()));
  pass.axis = std::move(axis);
}

template <std::size_t kWidth>
[[gnu::always_inline]] inline void begin_periods(Pass& pass) noexcept {
  if (pass.stream.batch_max == 1)
    begin_periods<kWidth, true>(pass);
  else
    begin_periods<kWidth, false>(pass);
}

void begin_portable(Pass& pass) noexcept { begin_periods<16>(pass); }
#if defined(__x86_64__)
[[gnu::target(LORACLE_TARGET_AVX2)]] void begin_avx2(Pass& pass) noexcept { begin_periods<32>(pass); }
[[gnu::target(LORACLE_TARGET_AVX512)]] void begin_avx512(Pass& pass) noexcept { begin_periods<64>(pass); }
#endif

void begin_periods(Pass& pass, Simd simd) noexcept {
  switch (usable(simd)) {
#if defined(__x86_64__)
    case Simd::kAvx512:
      return begin_avx512(pass);
    case Simd::kAvx2:
      return begin_avx2(pass);
#endif
    default:
      return begin_portable(pass);
  }
}

ActivityCurve curve_of(Pass pass, Simd simd) {
  while (pass.periods.next()) {
    lay_out(pass);
    begin_periods(pass, simd);
    pass.arrivals.add(pass.periods);
  }
  ActivityCurve curve;
  curve.requests = pass.stream.requests();
  curve.unknown_durations = pass.periods.unknown_durations();
  curve.uses = pass.stream.uses.uses.size();
  curve.compulsory_misses = pass.stream.uses.distinct;
  // In use when asked for: a hit wherever there is a slot.
  std::uint64_t misses = std::accumulate(pass.hits_at.begin(), pass.hits_at.end(), curve.compulsory_misses);
  curve.misses_at.push_back(curve.uses);
  for (std::size_t slots = 1; slots <= pass.stream.uses.distinct; ++slots)
    curve.misses_at.push_back(misses -= pass.hits_at[slots]);
  curve.arrivals_at = pass.arrivals.by_active();
  std::uint64_t waits = 0;
  for (std::size_t active = 0; active < curve.arrivals_at.size(); ++active)
    waits += pass.arrivals.needing_idle(active);
  for (std::size_t slots = 0; slots < curve.arrivals_at.size(); ++slots)
    curve.waits_at.push_back(waits -= pass.arrivals.needing_idle(slots));
  return curve;
}

Result<Unit> check(const Trace& trace, double traffic) {
  if (!(traffic > 0))
    return fail(Errc::kInvalid, fmt::format("traffic of {:g} times the trace's: must be above 0", traffic));
  return detail::check_times(trace);
}

Result<Unit> check(const Trace& trace, const BatchStream& stream, double traffic) {
  if (Result<Unit> ok = check(trace, traffic); !ok) return ok;
  if (stream.requests() > 0) return Unit{};
  return fail(Errc::kInvalid, fmt::format("{}: no request names an adapter: choose a mapping", trace.source));
}

std::uint64_t at_or_last(const std::vector<std::uint64_t>& column, std::uint64_t place) noexcept {
  return column.empty() ? 0 : column[std::min<std::uint64_t>(place, column.size() - 1)];
}

}  // namespace

std::uint64_t ActivityCurve::misses(std::uint64_t slots) const noexcept {
  return at_or_last(misses_at, slots);
}

std::uint64_t ActivityCurve::waits(std::uint64_t slots) const noexcept { return at_or_last(waits_at, slots); }

std::uint32_t ActiveAtArrival::active_quantile(double share) const noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(requests)));
  std::uint64_t seen = 0;
  for (std::size_t active = 0; active < arrivals_at.size(); ++active) {
    seen += arrivals_at[active];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return static_cast<std::uint32_t>(active);
  }
  return arrivals_at.empty() ? 0 : static_cast<std::uint32_t>(arrivals_at.size() - 1);
}

double ActiveAtArrival::active_mean() const noexcept {
  double sum = 0;
  for (std::size_t active = 0; active < arrivals_at.size(); ++active)
    sum += static_cast<double>(active) * static_cast<double>(arrivals_at[active]);
  return requests == 0 ? 0 : sum / static_cast<double>(requests);
}

bool has_activity(const Trace& trace) noexcept {
  const auto durations_s = trace.duration_s.view();
  return !trace.arrival_s.empty() && std::any_of(durations_s.begin(), durations_s.end(), detail::holds);
}

Result<ActivityCurve> activity_curve(const Trace& trace, double traffic) {
  if (Result<Unit> ok = check(trace, traffic); !ok) return fail(std::move(ok.error()));
  const Result<BatchStream> stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  return activity_curve(trace, *stream, traffic);
}

Result<ActivityCurve> activity_curve(const Trace& trace, const BatchStream& stream, double traffic,
                                     Simd simd) {
  if (Result<Unit> ok = check(trace, stream, traffic); !ok) return fail(std::move(ok.error()));
  return curve_of(Pass(trace, stream, traffic), simd);
}

Result<ActiveAtArrival> active_at_arrival(const Trace& trace, const BatchStream& stream, double traffic) {
  if (Result<Unit> ok = check(trace, stream, traffic); !ok) return fail(std::move(ok.error()));
  BusyPeriods periods(trace, stream, traffic);
  Arrivals arrivals(stream.uses.rows);
  while (periods.next()) {
    periods.count_left();
    arrivals.add(periods);
  }
  ActiveAtArrival seen;
  seen.requests = stream.requests();
  seen.unknown_durations = periods.unknown_durations();
  seen.arrivals_at = arrivals.by_active();
  return seen;
}

}  // namespace loracle
