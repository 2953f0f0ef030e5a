#pragma once
/// How far a share counted over one trace can be trusted: a confidence interval by batch means.
///
/// Uses are not independent: a bad hour is bad for all of its uses, so an interval that counts uses is far
/// too narrow (it holds the truth 1 time in 100 where it claims 95). The trace is cut into blocks, each long
/// enough that its share hardly depends on the one before, and the blocks' scatter tells how far their mean
/// may be off. A block is six regimes long or more (regimes.hpp); if neighbouring blocks are still alike
/// beyond chance, half as many are taken. With fewer than kBlocksMin there is no interval: then only the
/// range of equal parts is given, which promises nothing.
/// What it does not know: what the trace does not hold. Deterministic. O(stretches). Threads: none.
/// Sources: Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research 30(3),
/// 1982 (few long blocks); von Neumann, "Distribution of the ratio of the mean square successive difference
/// to the variance", Annals of Mathematical Statistics 12(4), 1941, as used by Fishman and Yarberry (1997);
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4 (Student's t).

#include <cstdint>
#include <span>

namespace loracle {

inline constexpr double kConfidence = 0.95;
inline constexpr double kBlockRegimes = 6;      // regimes in a block, at least
inline constexpr std::uint32_t kBlocksMin = 8;  // for an interval; and parts of a range

/// t such that a variable of Student's distribution lies within -t .. t with this probability.
/// REQUIRES: 0 < probability < 1, degrees > 0. O(degrees).
[[nodiscard]] double student_t(double probability, std::uint32_t degrees);

struct Interval {
  double low = 0;
  double high = 0;
  double confidence = 0;     // 0: a range, the least and the most of `blocks` equal parts
  std::uint32_t blocks = 0;  // 0: nothing is known

  friend bool operator==(const Interval&, const Interval&) = default;
};

/// Of the share sum(part) / sum(whole). `part`, `whole`: [stretches], part <= whole. `block_min`: stretches
/// in a block, at least. The interval is symmetric in the log-odds, so that it stays within 0 .. 1, and is
/// wider upwards for what is rare. Nothing is known of what never or always happened, or of fewer than
/// kBlocksMin stretches.
[[nodiscard]] Interval block_interval(std::span<const std::uint64_t> part,
                                      std::span<const std::uint64_t> whole, double block_min);

}  // namespace loracle
