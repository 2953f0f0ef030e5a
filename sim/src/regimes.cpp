#include "loracle/sim/regimes.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "loracle/sim/stretches.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kStretchesMin = 16;
constexpr std::uint32_t kStretchesMax = 4096;
constexpr std::uint64_t kRequestsMin = 128;  // in a stretch: some four a group
constexpr unsigned kGroupBits = 5;
constexpr std::size_t kGroups = std::size_t{1} << kGroupBits;
constexpr double kFalseAlarm = 0.01;  // of a whole trace without changes

using Counts = std::array<std::uint32_t, kGroups>;

/// Few rows have a group each.
std::size_t group_of(Row row, std::uint32_t rows) noexcept {
  if (rows <= kGroups) return index_of(row);
  return (index_of(row) * std::uint64_t{0x9E37'79B9'7F4A'7C15}) >> (64U - kGroupBits);
}

/// Log-likelihood of the counts under their own shares.
double likelihood(const Counts& counts) noexcept {
  double sum = 0;
  double all = 0;
  for (const std::uint32_t count : counts) {
    if (count > 1) sum += count * std::log(static_cast<double>(count));
    all += count;
  }
  return all > 0 ? sum - all * std::log(all) : 0;
}

/// Neighbouring spans of stretches that are merged until all differ.
class BottomUp {
 public:
  explicit BottomUp(const BatchStream& stream, std::uint32_t stretches)
      : counts_(stretches, Counts{}), likelihood_(stretches), excess_(stretches), spans_(stretches) {
    const std::uint64_t requests = stream.requests();
    for (std::uint32_t i = 0; i < stretches; ++i) {
      const std::uint64_t first = stream.begin[stretch_begin(i, requests, stretches)];
      const std::uint64_t last = stream.begin[stretch_begin(i + std::uint64_t{1}, requests, stretches)];
      for (const Row row : stream.uses.uses.view().subspan(first, last - first))
        ++counts_[i][group_of(row, stream.uses.rows)];
      likelihood_[i] = likelihood(counts_[i]);
      spans_[i] = i;
    }
    // Pairs of neighbouring spans: one of about stretches^3 / 6 triples of places.
    tail_ = std::log(std::pow(static_cast<double>(stretches), 3) / 6 / kFalseAlarm);
    for (std::size_t at = 0; at + 1 < spans_.size(); ++at) compare(at);
  }

  std::vector<std::uint32_t> merged() {
    while (spans_.size() > 1) {
      const auto least = std::min_element(spans_.begin(), spans_.end() - 1,
                                          [this](auto a, auto b) { return excess_[a] < excess_[b]; });
      if (excess_[*least] > 0) break;
      const auto at = static_cast<std::size_t>(least - spans_.begin());
      Counts& into = counts_[spans_[at]];
      const Counts& from = counts_[spans_[at + 1]];
      for (std::size_t group = 0; group < kGroups; ++group) into[group] += from[group];
      likelihood_[spans_[at]] = likelihood(into);
      spans_.erase(least + 1);
      if (at + 1 < spans_.size()) compare(at);
      if (at > 0) compare(at - 1);
    }
    return spans_;
  }

 private:
  /// By how much a span and the next differ more than chance allows.
  void compare(std::size_t at) noexcept {
    const std::uint32_t a = spans_[at];
    const std::uint32_t b = spans_[at + 1];
    Counts both = counts_[a];
    double groups = 0;
    for (std::size_t group = 0; group < kGroups; ++group) {
      both[group] += counts_[b][group];
      if (both[group] > 0) ++groups;
    }
    const double ratio = 2 * (likelihood_[a] + likelihood_[b] - likelihood(both));
    const double degrees = std::max(groups - 1, 0.0);
    excess_[a] = ratio - (degrees + 2 * std::sqrt(degrees * tail_) + 2 * tail_);
  }

  std::vector<Counts> counts_;        // [stretches] of the span that begins here
  std::vector<double> likelihood_;    // [stretches] likewise
  std::vector<double> excess_;        // [stretches] over the threshold, between this span and the next
  std::vector<std::uint32_t> spans_;  // first stretch of each, in order
  double tail_ = 0;
};

}  // namespace

double Regimes::length_mean() const noexcept {
  double squares = 0;
  for (std::size_t i = 0; i < begin.size(); ++i) {
    const double length = (i + 1 < begin.size() ? begin[i + 1] : stretches) - begin[i];
    squares += length * length;
  }
  return stretches == 0 ? 0 : squares / stretches;
}

std::uint32_t stretches_for(std::uint64_t requests) noexcept {
  const std::uint64_t wanted = requests / kRequestsMin;
  if (wanted < kStretchesMin) return 0;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, kStretchesMax));
}

Regimes find_regimes(const BatchStream& stream) {
  Regimes regimes;
  regimes.stretches = stretches_for(stream.requests());
  if (regimes.stretches > 0) regimes.begin = BottomUp(stream, regimes.stretches).merged();
  return regimes;
}

}  // namespace loracle
