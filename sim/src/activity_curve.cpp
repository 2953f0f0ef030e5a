#include "loracle/sim/activity_curve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "arrival_blocks.hpp"
#include "curves_vectors.hpp"
#include "end_axis.hpp"
#include "running.hpp"

namespace loracle {
namespace {

using detail::ArrivalBlocks;
using detail::EndAxis;

constexpr AxisPlace kStays = EndAxis::kStays;

constexpr std::size_t kNearMax = 1U << 15U;  // rows whose columns a core's own cache holds
constexpr std::size_t kAheadPlace = 32;      // uses between the prefetch of a row's place and its use
constexpr std::size_t kAheadWord = 12;       // the same for that place's word and its node

/// The rows of a request of the stream. kOne: no request has several.
template <bool kOne>
[[gnu::always_inline]] inline std::span<const Row> rows_of(const BatchStream& stream, std::size_t request) {
  return kOne ? stream.uses.uses.view().subspan(request, 1) : stream.batch(request);
}

/// At the begin of a block: those who run already leave now at a place that is known, or stay. A row's last
/// place is then that of the last of them. `place_of(member)` is that of its first use; `marks` are kept at
/// the places that rows hold, kStays apart.
/// REQUIRES: the rows that they hold are at kStays.
template <class PlaceOf, class Marks>
void settle(const ArrivalBlocks& blocks, const BatchStream& stream, std::vector<AxisPlace>& last,
            PlaceOf place_of, Marks& marks) {
  for (std::size_t member = 0; member < blocks.running_before(); ++member) {
    AxisPlace place = place_of(member);
    if (place == kStays) continue;
    for (const Row row : stream.batch(blocks.request(member))) {
      AxisPlace& row_last = last[index_of(row)];
      if (row_last == kStays || row_last < place) {
        if (row_last != kStays) marks.remove(row_last);
        marks.add(place);
        row_last = place;
      }
      place += Marks::kPlacesAUse;
    }
  }
  for (std::size_t member = 0; member < blocks.running_before(); ++member) {
    if (place_of(member) != kStays) continue;
    for (const Row row : stream.batch(blocks.request(member))) {
      AxisPlace& row_last = last[index_of(row)];
      if (row_last != kStays) marks.remove(row_last);
      row_last = kStays;
    }
  }
}

/// As the results have it: without the noughts at the end.
std::vector<std::uint64_t> trimmed(const std::vector<std::uint32_t>& histogram) {
  std::size_t size = histogram.size();
  while (size > 0 && histogram[size - 1] == 0) --size;
  return {histogram.begin(), histogram.begin() + static_cast<std::ptrdiff_t>(size)};
}

/// Adapters in use alone. A row is in use until the last arrival at which one of its holders leaves, so ends
/// need no order among themselves. Places are arrivals.
class InUse {
 public:
  InUse(const Trace& trace, const BatchStream& stream, double traffic)
      : stream_(stream),
        blocks_(trace, stream, traffic),
        last_(stream.uses.rows, 0),
        arrivals_at_(std::size_t{stream.uses.rows} + 1, 0) {}

  [[nodiscard]] ActiveAtArrival seen() {
    while (blocks_.next()) {
      blocks_.find_leaves();
      idle_at_.assign(blocks_.size() + 2, 0);
      settle(
          blocks_, stream_, last_, [this](std::size_t member) { return place_of(member); }, *this);
      if (stream_.batch_max == 1)
        arrivals<true>();
      else
        arrivals<false>();
      active_ -= idle_at_[blocks_.size()];
    }
    ActiveAtArrival seen;
    seen.requests = stream_.requests();
    seen.unknown_durations = blocks_.unknown_durations();
    seen.arrivals_at = trimmed(arrivals_at_);
    return seen;
  }

  // The marks of `settle`: rows that become idle.
  static constexpr AxisPlace kPlacesAUse = 0;
  void add(AxisPlace place) noexcept { ++idle_at_[place - blocks_.first()]; }
  void remove(AxisPlace place) noexcept { --idle_at_[place - blocks_.first()]; }

 private:
  [[nodiscard]] AxisPlace place_of(std::size_t member) const noexcept {
    const std::uint32_t leaves = blocks_.leaves()[member];
    return leaves > blocks_.size() ? kStays : static_cast<AxisPlace>(blocks_.first() + leaves);
  }

  template <bool kOne>
  void arrivals() {
    const auto first = static_cast<AxisPlace>(blocks_.first());
    const auto stays = static_cast<AxisPlace>(blocks_.size() + 1);
    std::uint32_t active = active_;
    for (AxisPlace x = 0; x < blocks_.size(); ++x) {
      const AxisPlace now = first + x;
      active -= x == 0 ? 0U : idle_at_[x];
      const AxisPlace place = place_of(blocks_.running_before() + x);
      for (const Row row : rows_of<kOne>(stream_, now)) {
        AxisPlace& last = last_[index_of(row)];
        const bool is_idle = last <= now;
        active += is_idle ? 1U : 0U;
        // Without a branch, for which way it goes is a coin toss: nobody reads what is written at 0.
        --idle_at_[is_idle ? 0U : std::min(last - first, stays)];
        last = std::max(last, place);
        ++idle_at_[std::min(last - first, stays)];
      }
      ++arrivals_at_[active];
    }
    active_ = active;
  }

  const BatchStream& stream_;
  ArrivalBlocks blocks_;
  std::vector<AxisPlace> last_;             // [rows] from which arrival on it is idle; 0: it is
  std::vector<std::uint32_t> idle_at_;      // [size + 2] rows that become idle, by arrival of the block
  std::vector<std::uint32_t> arrivals_at_;  // [rows + 1] fewer than 2^32, so none overflows
  std::uint32_t active_ = 0;
};

/// What the pass over the arrivals of a block reads and writes.
struct Pass {
  const BatchStream& stream;
  ArrivalBlocks blocks;
  EndAxis axis;
  std::vector<AxisPlace> place;   // [members] of its first use
  std::vector<AxisPlace> now_at;  // [size + 1] where `now` stands at each arrival
  // [rows + 1] each; fewer than 2^32, so none overflows:
  std::vector<std::uint32_t> hits_at;     // uses of idle rows by distance
  std::vector<std::uint32_t> needs_idle;  // requests by adapters in use, of those that need an idle one ..
  std::vector<std::uint32_t> needs_none;  // .. and of the others

  Pass(const Trace& trace, const BatchStream& batches, double traffic)
      : stream(batches),
        blocks(trace, batches, traffic),
        axis(batches.uses.rows),
        hits_at(std::size_t{batches.uses.rows} + 1, 0),
        needs_idle(hits_at.size(), 0),
        needs_none(hits_at.size(), 0) {}
};

/// Gives those that leave their places, in order.
template <bool kOne>
void lay_out(Pass& pass) {
  pass.blocks.order();
  const auto uses_of = [&pass](std::size_t member) {
    return kOne ? 1U : static_cast<AxisPlace>(pass.stream.batch(pass.blocks.request(member)).size());
  };
  const std::span<const std::uint32_t> in_order = pass.blocks.in_order();
  std::uint64_t uses = 0;
  for (const std::uint32_t member : in_order) uses += uses_of(member);
  pass.axis.reserve(uses);
  pass.place.resize(pass.blocks.members());
  for (const std::uint32_t member : pass.blocks.staying()) pass.place[member] = kStays;
  AxisPlace next = pass.axis.now;
  for (const std::uint32_t member : in_order) {
    pass.place[member] = next;
    next += uses_of(member);
  }
  pass.now_at.resize(pass.blocks.left_by().size());
  for (std::size_t x = 0; x < pass.now_at.size(); ++x) {
    const std::uint32_t left = pass.blocks.left_by()[x];
    pass.now_at[x] = kOne ? pass.axis.now + left : left < in_order.size() ? pass.place[in_order[left]] : next;
  }
  settle(
      pass.blocks, pass.stream, pass.axis.last, [&pass](std::size_t member) { return pass.place[member]; },
      pass.axis);
}

/// By vectors of kWidth bytes.
template <std::size_t kWidth, bool kOne>
[[gnu::always_inline]] inline void arrivals(Pass& pass) noexcept {
  const BatchStream& stream = pass.stream;
  const std::span<const Row> uses = stream.uses.uses.view();
  const std::size_t first = pass.blocks.first();
  const std::size_t size = pass.blocks.size();
  const AxisPlace* const now_at = pass.now_at.data();
  const AxisPlace* const places = pass.place.data() + pass.blocks.running_before();
  std::uint32_t* const hits_at = pass.hits_at.data();
  std::uint32_t* const needs_idle_at = pass.needs_idle.data();
  std::uint32_t* const needs_none_at = pass.needs_none.data();
  EndAxis axis = std::move(pass.axis);  // here its counts can stay in registers
  const bool is_near = axis.last.size() <= kNearMax;
  const auto prefetch = [&](std::size_t use) {
    if (is_near) return;
    __builtin_prefetch(&axis.last[row_ahead(uses, use, kAheadPlace)], 1);
    axis.prefetch(axis.last[row_ahead(uses, use, kAheadWord)]);
  };
  for (std::size_t x = 0; x < size; ++x) {
    axis.advance(now_at[x]);
    AxisPlace place = places[x];
    bool needs_idle = false;
    if constexpr (kOne) {
      prefetch(first + x);
      const Row row = uses[first + x];
      const AxisPlace last = axis.last[index_of(row)];
      needs_idle = last < axis.now || last == EndAxis::kUnused;
      if (last < axis.now) {
        ++hits_at[axis.distance(last)];
        axis.take_idle<kWidth>(row, last, place);
      } else {
        axis.take_other(row, last, place);
      }
    } else {  // all are looked up before any is taken
      std::size_t use = stream.begin[first + x];
      const std::span<const Row> rows = stream.batch(first + x);
      for (const Row row : rows) {
        prefetch(use++);
        const AxisPlace last = axis.last[index_of(row)];
        needs_idle |= last < axis.now || last == EndAxis::kUnused;
        if (last < axis.now) ++hits_at[axis.distance(last)];
      }
      for (const Row row : rows) {
        const AxisPlace last = axis.last[index_of(row)];
        if (last < axis.now)
          axis.take_idle<kWidth>(row, last, place);
        else
          axis.take_other(row, last, place);
        if (place != kStays) ++place;
      }
    }
    ++(needs_idle ? needs_idle_at : needs_none_at)[axis.active()];
  }
  axis.advance(now_at[size]);
  pass.axis = std::move(axis);
}

template <std::size_t kWidth>
[[gnu::always_inline]] inline void arrivals(Pass& pass) noexcept {
  if (pass.stream.batch_max == 1)
    arrivals<kWidth, true>(pass);
  else
    arrivals<kWidth, false>(pass);
}

void arrivals_portable(Pass& pass) noexcept { arrivals<16>(pass); }
#if defined(__x86_64__)
[[gnu::target(LORACLE_TARGET_AVX2)]] void arrivals_avx2(Pass& pass) noexcept { arrivals<32>(pass); }
[[gnu::target(LORACLE_TARGET_AVX512)]] void arrivals_avx512(Pass& pass) noexcept { arrivals<64>(pass); }
#endif

void arrivals(Pass& pass, Simd simd) noexcept {
  switch (usable(simd)) {
#if defined(__x86_64__)
    case Simd::kAvx512:
      return arrivals_avx512(pass);
    case Simd::kAvx2:
      return arrivals_avx2(pass);
#endif
    default:
      return arrivals_portable(pass);
  }
}

ActivityCurve curve_of(Pass pass, Simd simd) {
  while (pass.blocks.next()) {
    if (pass.stream.batch_max == 1)
      lay_out<true>(pass);
    else
      lay_out<false>(pass);
    arrivals(pass, simd);
  }
  ActivityCurve curve;
  curve.requests = pass.stream.requests();
  curve.unknown_durations = pass.blocks.unknown_durations();
  curve.uses = pass.stream.uses.uses.size();
  curve.compulsory_misses = pass.stream.uses.distinct;
  // In use when asked for: a hit wherever there is a slot.
  std::uint64_t misses = std::accumulate(pass.hits_at.begin(), pass.hits_at.end(), curve.compulsory_misses);
  curve.misses_at.push_back(curve.uses);
  for (std::size_t slots = 1; slots <= pass.stream.uses.distinct; ++slots)
    curve.misses_at.push_back(misses -= pass.hits_at[slots]);
  std::uint64_t waits = std::accumulate(pass.needs_idle.begin(), pass.needs_idle.end(), std::uint64_t{0});
  for (std::size_t active = 0; active < pass.needs_idle.size(); ++active)
    pass.needs_none[active] += pass.needs_idle[active];
  curve.arrivals_at = trimmed(pass.needs_none);
  for (std::size_t slots = 0; slots < curve.arrivals_at.size(); ++slots)
    curve.waits_at.push_back(waits -= pass.needs_idle[slots]);
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
  return InUse(trace, stream, traffic).seen();
}

}  // namespace loracle
