#include "busy_periods.hpp"

#include <algorithm>
#include <cmath>

#include "curves_vectors.hpp"
#include "running.hpp"

namespace loracle::detail {
namespace {

/// What is in a cell is compared all at once, without a branch, if it is at most so much. Of arrivals there
/// is one in a cell on average, and one end in fifty meets more than four; of ends there are fewer.
constexpr std::size_t kArrivalProbes = 4;
constexpr std::size_t kEndProbes = 3;
constexpr std::size_t kCellsAnArrival = 2;  // for ends
/// Ends in a cell that are sorted by insertion. More come from a burst, or a pause of arrivals.
constexpr std::size_t kInsertedMax = 32;

constexpr std::size_t kNearMax = 1U << 14U;  // rows whose ends a core's own cache holds
constexpr std::size_t kAhead = 24;           // uses between the prefetch of a row and its use

/// `which` being 1 or 0. As a choice the compiler would make it a branch.
[[nodiscard, gnu::always_inline]] inline std::uint32_t one_of(std::uint32_t which, std::uint32_t of_1,
                                                              std::uint32_t of_0) noexcept {
  return of_0 ^ ((of_1 ^ of_0) & (0U - which));
}

/// The rows of a request of the stream. kOne: no request has several.
template <bool kOne>
[[nodiscard, gnu::always_inline]] inline std::span<const Row> rows_of(const BatchStream& stream,
                                                                      std::size_t request) {
  return kOne ? stream.uses.uses.view().subspan(request, 1) : stream.batch(request);
}

template <class T>
void grow(std::vector<T>& column, std::size_t size) {
  if (column.size() < size) column.resize(size);
}

}  // namespace

BusyPeriods::BusyPeriods(const Trace& trace, const BatchStream& stream, double traffic)
    : trace_(trace), stream_(stream), traffic_(traffic), latest_(stream.uses.rows) {}

std::uint32_t BusyPeriods::first_use(std::size_t arrival) const noexcept {
  const std::size_t request = first_ + arrival;
  return static_cast<std::uint32_t>(stream_.batch_max == 1 ? request : stream_.begin[request]);
}

bool BusyPeriods::next() {
  carry();
  first_ += size_;
  size_ = std::min<std::size_t>(stream_.requests() - first_,
                                std::clamp(2 * carried_, kArrivalsMin, kArrivalsMax));
  if (size_ == 0) return false;
  if (stream_.batch_max == 1)
    find_periods<true>();
  else
    find_periods<false>();
  return true;
}

void BusyPeriods::carry() {
  for (std::size_t kept = 0; kept < staying_.size(); ++kept) {  // to the front, in order
    const std::uint32_t period = staying_[kept];
    rows_[kept] = rows_[period];
    end_s_[kept] = end_s_[period];
    holder_[kept] = holder_[period];
    latest_[index_of(rows_[kept])].period = static_cast<std::uint32_t>(kept);
  }
  carried_ = staying_.size();
  staying_.clear();
}

/// `origin(request)` of the trace: a loop over what is next to each other takes a third of the time. Whether
/// an adapter is idle is a coin toss, so nothing branches on it.
template <bool kOne, class Origin>
void BusyPeriods::find_periods(Origin origin) {
  const std::span<const double> arrival_s = trace_.arrival_s.view();
  const std::span<const float> duration_s = trace_.duration_s.view();
  const std::span<const Row> uses = stream_.uses.uses.view();
  const bool is_near = latest_.size() <= kNearMax;
  Latest* const latest = latest_.data();
  Row* const rows = rows_.data();
  std::uint32_t* const begins = begins_.data();
  double* const ends_s = end_s_.data();
  std::uint32_t* const holders = holder_.data();
  std::uint32_t* const begun_by = begun_by_.data();
  double* const arrivals_s = arrival_s_.data();
  const double traffic = traffic_;
  const std::size_t first = first_;
  const std::size_t size = size_;
  auto next = static_cast<std::uint32_t>(carried_);
  std::uint32_t use = first_use(0);
  std::uint32_t unknown = 0;
  double now_s = now_s_;
  for (std::size_t x = 0; x < size; ++x) {
    const std::size_t request = origin(first + x);
    now_s = std::max(now_s, arrival_s[request]);
    arrivals_s[x] = now_s;
    unknown += holds(duration_s[request]) ? 0U : 1U;
    // In units of arrivals' time: that they come sooner or that all is held longer is the same.
    const double end_s = now_s + held_s(duration_s[request]) * traffic;
    for (const Row row : rows_of<kOne>(stream_, first + x)) {
      if (!is_near) __builtin_prefetch(&latest[row_ahead(uses, use, kAhead)], 1);
      Latest& at = latest[index_of(row)];
      const std::uint32_t is_idle = at.end_s <= now_s ? 1U : 0U;
      const std::uint32_t is_longest = end_s >= at.end_s ? 1U : 0U;
      const std::uint32_t period = one_of(is_idle, next, at.period);
      rows[next] = row;
      begins[next] = static_cast<std::uint32_t>(x);
      at.period = period;
      at.holder = one_of(is_longest, use, at.holder);
      at.end_s = std::max(at.end_s, end_s);
      holders[period] = at.holder;
      ends_s[period] = at.end_s;
      next += is_idle;
      ++use;
    }
    begun_by[x] = next;
  }
  periods_ = next;
  now_s_ = now_s;
  unknown_durations_ += unknown;
}

template <bool kOne>
void BusyPeriods::find_periods() {
  const bool is_last = first_ + size_ == stream_.requests();
  const std::size_t uses = (is_last ? stream_.uses.uses.size() : first_use(size_)) - first_use(0);
  const std::size_t most = carried_ + uses + 1;
  grow(rows_, most);
  grow(begins_, most);
  grow(end_s_, most);
  grow(holder_, most);
  grow(begun_by_, size_);
  arrivals_ = size_ + (is_last ? 0U : 1U);
  grow(arrival_s_, arrivals_ + kArrivalProbes);
  if (stream_.requests() == trace_.requests)
    find_periods<kOne>([](std::size_t request) { return request; });
  else
    find_periods<kOne>([this](std::size_t request) { return stream_.origin[request]; });
  if (!is_last) arrival_s_[size_] = std::max(now_s_, trace_.arrival_s[stream_.origin[first_ + size_]]);
  std::fill_n(arrival_s_.begin() + static_cast<std::ptrdiff_t>(arrivals_), kArrivalProbes,
              std::numeric_limits<double>::infinity());
}

/// In which of `cells` cells each time is. Rises with time, whatever the rounding: no earlier time is in a
/// later cell.
void BusyPeriods::find_cells(std::span<const double> times_s, std::size_t cells) {
  grow(cell_, times_s.size());
  const double begin_s = arrival_s_.front();
  double cells_per_s = static_cast<double>(cells - 1) / (arrival_s_[arrivals_ - 1] - begin_s);
  if (!std::isfinite(cells_per_s)) cells_per_s = 0;  // all at one time: one cell
  const auto last = static_cast<double>(cells - 1);
  std::uint32_t* const cell_of = cell_.data();
  for (std::size_t i = 0; i < times_s.size(); ++i) {
    const double cell = (times_s[i] - begin_s) * cells_per_s;
    const double within = cell > 0 ? cell : 0.0;  // so what is not a number is in the first
    cell_of[i] = static_cast<std::uint32_t>(static_cast<std::int32_t>(within < last ? within : last));
  }
}

void BusyPeriods::count_left() {
  find_cells(std::span(arrival_s_).first(arrivals_), arrivals_);
  before_cell_.assign(arrivals_ + 1, 0);
  for (std::size_t x = 0; x < arrivals_; ++x) ++before_cell_[cell_[x] + 1];
  for (std::size_t cell = 0; cell < arrivals_; ++cell) before_cell_[cell + 1] += before_cell_[cell];
  find_cells(std::span(end_s_).first(periods_), arrivals_);
  left_by_.assign(size_ + 1, 0);
  const auto last = static_cast<std::uint32_t>(arrivals_ - 1);
  const double* const arrival_s = arrival_s_.data();
  for (std::size_t period = 0; period < periods_; ++period) {
    const double end_s = end_s_[period];
    const std::uint32_t begin = before_cell_[cell_[period]];
    const std::uint32_t end = before_cell_[cell_[period] + 1];
    std::uint32_t leaves = begin;
    for (std::size_t i = 0; i < kArrivalProbes; ++i) leaves += arrival_s[begin + i] < end_s ? 1U : 0U;
    if (end - begin > kArrivalProbes) {
      const double* const first = std::lower_bound(arrival_s + begin, arrival_s + end, end_s);
      leaves = static_cast<std::uint32_t>(first - arrival_s);
    }
    if (arrival_s[leaves] == end_s && period >= carried_)  // held for no time, it is in use at that arrival
      leaves = std::max(leaves, begins_[period] + 1U);
    if (leaves > last)
      staying_.push_back(static_cast<std::uint32_t>(period));
    else
      ++left_by_[leaves];
  }
  for (std::size_t x = 0; x < size_; ++x) left_by_[x + 1] += left_by_[x];
}

void BusyPeriods::order() {
  const std::size_t cells = kCellsAnArrival * arrivals_;
  find_cells(std::span(end_s_).first(periods_), cells);
  const double last_s = arrival_s_[arrivals_ - 1];
  // Each cell's count two places on: its place is first the begin of its ends, then the begin of the next's.
  before_cell_.assign(cells + 3, 0);
  for (std::size_t period = 0; period < periods_; ++period) {
    if (!(end_s_[period] <= last_s)) cell_[period] = static_cast<std::uint32_t>(cells);  // it stays
    ++before_cell_[cell_[period] + 2];
  }
  std::uint32_t most = 0;
  for (std::size_t cell = 2; cell <= cells + 1; ++cell) {
    most = std::max(most, before_cell_[cell]);
    before_cell_[cell] += before_cell_[cell - 1];
  }
  grow(in_order_, periods_);
  grow(end_in_order_s_, periods_ + kEndProbes);
  for (std::size_t period = 0; period < periods_; ++period) {
    const std::uint32_t place = before_cell_[cell_[period] + 1]++;
    in_order_[place] = static_cast<std::uint32_t>(period);
    end_in_order_s_[place] = end_s_[period];
  }
  staying_.assign(in_order_.begin() + before_cell_[cells],
                  in_order_.begin() + static_cast<std::ptrdiff_t>(periods_));
  if (most > kInsertedMax) sort_crowds(cells);
  insert_ends();
  count_left_in_order(cells);
}

/// REQUIRES: they leave.
bool BusyPeriods::ends_before(std::uint32_t a, std::uint32_t b) const noexcept {
  return end_s_[a] != end_s_[b] ? end_s_[a] < end_s_[b] : holder_[a] < holder_[b];
}

void BusyPeriods::sort_crowds(std::size_t cells) {
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const std::uint32_t begin = before_cell_[cell];
    const std::uint32_t count = before_cell_[cell + 1] - begin;
    if (count <= kInsertedMax) continue;
    const std::span<std::uint32_t> crowd = std::span(in_order_).subspan(begin, count);
    std::sort(crowd.begin(), crowd.end(),
              [this](std::uint32_t a, std::uint32_t b) { return ends_before(a, b); });
    for (std::size_t i = 0; i < crowd.size(); ++i) end_in_order_s_[begin + i] = end_s_[crowd[i]];
  }
}

/// What is in another cell has its place already, so each goes back by a few places at most.
void BusyPeriods::insert_ends() {
  double* const ends_s = end_in_order_s_.data();
  std::uint32_t* const periods = in_order_.data();
  const std::size_t leaving = in_order().size();
  for (std::size_t i = 1; i < leaving; ++i) {
    const double end_s = ends_s[i];
    if (end_s > ends_s[i - 1]) continue;
    const std::uint32_t period = periods[i];
    std::size_t place = i;
    for (; place > 0 && end_s <= ends_s[place - 1] && ends_before(period, periods[place - 1]); --place) {
      ends_s[place] = ends_s[place - 1];
      periods[place] = periods[place - 1];
    }
    ends_s[place] = end_s;
    periods[place] = period;
  }
}

void BusyPeriods::count_left_in_order(std::size_t cells) {
  find_cells(std::span(arrival_s_).first(arrivals_), cells);
  grow(left_by_, size_ + 1);
  const std::size_t leaving = in_order().size();
  for (std::size_t i = leaving; i < leaving + kEndProbes; ++i)  // probed beyond the last, and never left
    end_in_order_s_[i] = std::numeric_limits<double>::infinity();
  const double* const ends_s = end_in_order_s_.data();
  const std::uint32_t* const periods = in_order_.data();
  for (std::size_t x = 0; x < arrivals_; ++x) {
    const double now_s = arrival_s_[x];
    const std::uint32_t begin = before_cell_[cell_[x]];
    const std::uint32_t end = before_cell_[cell_[x] + 1];
    std::uint32_t earlier = begin;
    std::uint32_t left = begin;
    for (std::size_t i = 0; i < kEndProbes; ++i) {
      earlier += ends_s[begin + i] < now_s ? 1U : 0U;
      left += ends_s[begin + i] <= now_s ? 1U : 0U;
    }
    if (end - begin > kEndProbes) {
      earlier = static_cast<std::uint32_t>(std::lower_bound(ends_s + begin, ends_s + end, now_s) - ends_s);
      left = static_cast<std::uint32_t>(std::upper_bound(ends_s + earlier, ends_s + end, now_s) - ends_s);
    }
    // Who ends now and arrives no earlier has not left: the last, for equal ends are in order of holders.
    if (earlier != left) {
      const std::uint32_t* const not_left =
          std::lower_bound(periods + earlier, periods + left, first_use(x),
                           [this](std::uint32_t period, std::uint32_t use) { return holder_[period] < use; });
      left = static_cast<std::uint32_t>(not_left - periods);
    }
    left_by_[x] = left;
  }
  if (arrivals_ == size_) left_by_[size_] = static_cast<std::uint32_t>(leaving);
}

}  // namespace loracle::detail
