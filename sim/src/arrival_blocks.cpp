#include "arrival_blocks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "running.hpp"

namespace loracle::detail {
namespace {

/// What is in a cell is compared all at once, without a branch, if it is at most so much. Of arrivals there
/// is one in a cell on average, and one end in fifty meets more than four; of ends there are halves.
constexpr std::size_t kArrivalProbes = 4;
constexpr std::size_t kEndProbes = 3;
constexpr std::size_t kCellsAnArrival = 2;  // for ends
/// Ends in a cell that are sorted by insertion. More come from a burst, or a pause of arrivals.
constexpr std::size_t kInsertedMax = 32;

}  // namespace

ArrivalBlocks::ArrivalBlocks(const Trace& trace, const BatchStream& stream, double traffic)
    : trace_(trace), stream_(stream), traffic_(traffic) {}

bool ArrivalBlocks::next() {
  drop_those_that_left();
  first_ += size_;
  size_ = std::min<std::size_t>(stream_.requests() - first_,
                                std::clamp(2 * running_before_, kArrivalsMin, kArrivalsMax));
  if (size_ == 0) return false;
  read_arrivals();
  return true;
}

void ArrivalBlocks::drop_those_that_left() {
  running_.resize(std::max(running_.size(), staying_.size()));
  for (std::size_t kept = 0; kept < staying_.size(); ++kept) {  // to the front, in order
    running_[kept] = request(staying_[kept]);
    end_s_[kept] = end_s_[staying_[kept]];
  }
  running_before_ = staying_.size();
  staying_.clear();
}

/// `origin(request)` of the trace: a loop over what is next to each other takes a third of the time.
template <class Origin>
void ArrivalBlocks::read_arrivals_by(Origin origin) {
  const std::span<const double> arrival_s = trace_.arrival_s.view();
  const std::span<const float> duration_s = trace_.duration_s.view();
  double* const now_s = arrival_s_.data();
  double* const end_s = end_s_.data() + running_before_;
  const double traffic = traffic_;
  std::uint32_t unknown = 0;
  for (std::size_t x = 0; x < size_; ++x) {
    const std::size_t request = origin(first_ + x);
    now_s[x] = arrival_s[request];
    unknown += holds(duration_s[request]) ? 0U : 1U;
    // In units of arrivals' time: that they come sooner or that all is held longer is the same.
    end_s[x] = now_s[x] + held_s(duration_s[request]) * traffic;
  }
  unknown_durations_ += unknown;
}

void ArrivalBlocks::read_arrivals() {
  end_s_.resize(members());
  const bool is_last = first_ + size_ == stream_.requests();
  arrivals_ = size_ + (is_last ? 0U : 1U);
  arrival_s_.resize(arrivals_ + kArrivalProbes);
  if (stream_.requests() == trace_.requests)
    read_arrivals_by([](std::size_t request) { return request; });
  else
    read_arrivals_by([this](std::size_t request) { return stream_.origin[request]; });
  if (!is_last) arrival_s_[size_] = trace_.arrival_s[stream_.origin[first_ + size_]];
  std::fill_n(arrival_s_.begin() + static_cast<std::ptrdiff_t>(arrivals_), kArrivalProbes,
              std::numeric_limits<double>::infinity());
}

/// In which of `cells` cells each time is. Rises with time, whatever the rounding: no earlier time is in a
/// later cell.
void ArrivalBlocks::find_cells(std::span<const double> times_s, std::size_t cells) {
  cell_.resize(times_s.size());
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

void ArrivalBlocks::find_leaves() {
  find_cells(std::span(arrival_s_).first(arrivals_), arrivals_);
  before_cell_.assign(arrivals_ + 1, 0);
  for (const std::uint32_t cell : cell_) ++before_cell_[cell + 1];
  for (std::size_t cell = 0; cell < arrivals_; ++cell) before_cell_[cell + 1] += before_cell_[cell];
  find_cells(end_s_, arrivals_);
  leaves_.resize(members());
  const auto last = static_cast<std::uint32_t>(arrivals_ - 1);
  const double* const arrival_s = arrival_s_.data();
  const double last_s = arrival_s[last];
  for (std::size_t member = 0; member < members(); ++member) {
    const double end_s = end_s_[member];
    const std::uint32_t begin = before_cell_[cell_[member]];
    const std::uint32_t end = before_cell_[cell_[member] + 1];
    std::uint32_t leaves = begin;
    for (std::size_t i = 0; i < kArrivalProbes; ++i) leaves += arrival_s[begin + i] < end_s ? 1U : 0U;
    if (end - begin > kArrivalProbes) {
      const double* const first = std::lower_bound(arrival_s + begin, arrival_s + end, end_s);
      leaves = static_cast<std::uint32_t>(first - arrival_s);
    }
    if (member >= running_before_)  // after its own arrival, even if it ends with it
      leaves = std::max(leaves, static_cast<std::uint32_t>(member - running_before_ + 1));
    if (!(end_s <= last_s) || leaves > last) {
      leaves = static_cast<std::uint32_t>(size_ + 1);
      staying_.push_back(static_cast<std::uint32_t>(member));
    }
    leaves_[member] = leaves;
  }
}

void ArrivalBlocks::order() {
  const std::size_t cells = kCellsAnArrival * arrivals_;
  find_cells(end_s_, cells);
  const double last_s = arrival_s_[arrivals_ - 1];
  // Each cell's count two places on: its place is first the begin of its ends, then the begin of the next's.
  before_cell_.assign(cells + 3, 0);
  for (std::size_t member = 0; member < members(); ++member) {
    if (!(end_s_[member] <= last_s)) cell_[member] = static_cast<std::uint32_t>(cells);  // it stays
    ++before_cell_[cell_[member] + 2];
  }
  std::uint32_t most = 0;
  for (std::size_t cell = 2; cell <= cells + 1; ++cell) {
    most = std::max(most, before_cell_[cell]);
    before_cell_[cell] += before_cell_[cell - 1];
  }
  in_order_.resize(members());
  end_in_order_s_.resize(members() + kEndProbes);
  for (std::size_t member = 0; member < members(); ++member) {
    const std::uint32_t place = before_cell_[cell_[member] + 1]++;
    in_order_[place] = static_cast<std::uint32_t>(member);
    end_in_order_s_[place] = end_s_[member];
  }
  leaving_ = before_cell_[cells];
  staying_.assign(in_order_.begin() + leaving_, in_order_.end());
  if (most > kInsertedMax) sort_crowds(cells);
  insert_ends();
  count_left(cells);
}

void ArrivalBlocks::sort_crowds(std::size_t cells) {
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const std::uint32_t begin = before_cell_[cell];
    const std::uint32_t count = before_cell_[cell + 1] - begin;
    if (count <= kInsertedMax) continue;
    const std::span<std::uint32_t> crowd = std::span(in_order_).subspan(begin, count);
    std::stable_sort(crowd.begin(), crowd.end(),
                     [this](std::uint32_t a, std::uint32_t b) { return end_s_[a] < end_s_[b]; });
    for (std::size_t i = 0; i < crowd.size(); ++i) end_in_order_s_[begin + i] = end_s_[crowd[i]];
  }
}

/// What is in another cell has its place already, so each goes back by a few places at most.
void ArrivalBlocks::insert_ends() {
  double* const ends_s = end_in_order_s_.data();
  std::uint32_t* const in_order = in_order_.data();
  for (std::size_t i = 1; i < leaving_; ++i) {
    const double end_s = ends_s[i];
    if (!(end_s < ends_s[i - 1])) continue;
    const std::uint32_t member = in_order[i];
    std::size_t place = i;
    do {
      ends_s[place] = ends_s[place - 1];
      in_order[place] = in_order[place - 1];
      --place;
    } while (place > 0 && end_s < ends_s[place - 1]);
    ends_s[place] = end_s;
    in_order[place] = member;
  }
}

void ArrivalBlocks::count_left(std::size_t cells) {
  find_cells(std::span(arrival_s_).first(arrivals_), cells);
  left_by_.resize(size_ + 1);
  for (std::size_t i = leaving_; i < leaving_ + kEndProbes; ++i)  // probed beyond the last, and never left
    end_in_order_s_[i] = std::numeric_limits<double>::infinity();
  const double* const ends_s = end_in_order_s_.data();
  const std::uint32_t* const in_order = in_order_.data();
  for (std::size_t x = 0; x < arrivals_; ++x) {
    const double now_s = arrival_s_[x];
    const std::uint32_t begin = before_cell_[cell_[x]];
    const std::uint32_t end = before_cell_[cell_[x] + 1];
    std::uint32_t left = begin;
    for (std::size_t i = 0; i < kEndProbes; ++i) left += ends_s[begin + i] <= now_s ? 1U : 0U;
    if (end - begin > kEndProbes)
      left = static_cast<std::uint32_t>(std::upper_bound(ends_s + begin, ends_s + end, now_s) - ends_s);
    // Who ends now and arrives no earlier has not left: the last, for equal ends are in order of arrival.
    const auto arriving = static_cast<std::uint32_t>(running_before_ + x);
    if (left > 0 && in_order[left - 1] >= arriving) {
      const auto equal = std::lower_bound(ends_s, ends_s + left, now_s) - ends_s;
      left = static_cast<std::uint32_t>(std::lower_bound(in_order + equal, in_order + left, arriving) -
                                        in_order);
    }
    left_by_[x] = left;
  }
  if (arrivals_ == size_) left_by_[size_] = static_cast<std::uint32_t>(leaving_);
}

}  // namespace loracle::detail
