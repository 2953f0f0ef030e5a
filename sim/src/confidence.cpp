#include "loracle/sim/confidence.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

/// P(-t < T < t). Finite sums exist because degrees are whole.
double student_within(double t, std::uint32_t degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine = std::cos(angle);
  const bool is_odd = degrees % 2 == 1;
  double term = is_odd ? cosine : 1;
  double sum = degrees == 1 ? 0 : term;
  for (std::uint32_t i = is_odd ? 3 : 2; i < degrees; i += 2) {
    term *= cosine * cosine * (i - 1) / i;
    sum += term;
  }
  if (!is_odd) return std::sin(angle) * sum;
  return 2 / std::numbers::pi * (angle + std::sin(angle) * sum);
}

/// Parts and wholes summed over `blocks` spans of equal length (to one stretch).
struct Blocks {
  std::vector<double> part;
  std::vector<double> whole;

  Blocks(std::span<const std::uint64_t> parts, std::span<const std::uint64_t> wholes, std::uint32_t blocks)
      : part(blocks, 0), whole(blocks, 0) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::size_t block = i * blocks / parts.size();
      part[block] += static_cast<double>(parts[i]);
      whole[block] += static_cast<double>(wholes[i]);
    }
  }
};

/// True if neighbours are more alike than chance makes them 1 time in 10. `errors` sum to 0.
bool are_correlated(const std::vector<double>& errors) {
  constexpr double kNormal90 = 1.2816;  // P(Z < it) = 0.9
  double squares = 0;
  double steps = 0;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    squares += errors[i] * errors[i];
    if (i > 0) steps += (errors[i] - errors[i - 1]) * (errors[i] - errors[i - 1]);
  }
  if (!(squares > 0)) return false;
  const auto n = static_cast<double>(errors.size());
  return 1 - steps / (2 * squares) > kNormal90 * std::sqrt((n - 2) / (n * n - 1));
}

Interval range_of(const Blocks& parts) {
  Interval range{1, 0, 0, static_cast<std::uint32_t>(parts.part.size())};
  for (std::size_t i = 0; i < parts.part.size(); ++i) {
    const double share = parts.whole[i] > 0 ? parts.part[i] / parts.whole[i] : 0;
    range.low = std::min(range.low, share);
    range.high = std::max(range.high, share);
  }
  return range;
}

double from_log_odds(double log_odds) { return 1 / (1 + std::exp(-log_odds)); }

}  // namespace

double student_t(double probability, std::uint32_t degrees) {
  LORACLE_CHECK(probability > 0 && probability < 1 && degrees > 0);
  double low = 0;
  double high = 1;
  while (student_within(high, degrees) < probability) high *= 2;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (student_within(middle, degrees) < probability ? low : high) = middle;
  }
  return high;
}

Interval block_interval(std::span<const std::uint64_t> part, std::span<const std::uint64_t> whole,
                        double block_min) {
  LORACLE_CHECK(part.size() == whole.size());
  if (part.size() < kBlocksMin) return {};
  const auto parts = static_cast<double>(std::accumulate(part.begin(), part.end(), std::uint64_t{0}));
  const auto wholes = static_cast<double>(std::accumulate(whole.begin(), whole.end(), std::uint64_t{0}));
  if (!(parts > 0 && parts < wholes)) return {};
  const double share = parts / wholes;

  auto blocks = static_cast<std::uint32_t>(static_cast<double>(part.size()) / std::max(block_min, 1.0));
  for (; blocks >= kBlocksMin; blocks /= 2) {
    const Blocks cut(part, whole, blocks);
    std::vector<double> errors(blocks);
    double squares = 0;
    for (std::size_t i = 0; i < blocks; ++i) {
      errors[i] = (cut.part[i] - share * cut.whole[i]) * blocks / wholes;
      squares += errors[i] * errors[i];
    }
    if (are_correlated(errors)) continue;
    const double deviation = std::sqrt(squares / (blocks - 1) / blocks);  // of the mean of blocks
    const double reach = student_t(kConfidence, blocks - 1) * deviation / (share * (1 - share));
    const double log_odds = std::log(share / (1 - share));
    return {from_log_odds(log_odds - reach), from_log_odds(log_odds + reach), kConfidence, blocks};
  }
  return range_of(Blocks(part, whole, kBlocksMin));
}

}  // namespace loracle
