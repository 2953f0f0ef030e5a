#pragma once
/// LHD (Least Hit Density): evicts the row that is expected to bring the fewest hits per byte and tick it
/// stays, as learnt from the ages at which rows like it were hit or evicted.
///
/// Formula: density(class, age) = sum of hits at later ages / sum over later ages of (time a row of that age
/// goes on to stay), from histograms of the ages at hits and at evictions, one pair a class; a row's class is
/// the logarithm of its last two ages at a hit. Rank = density / size; victim = argmin rank over `samples`
/// random rows (all, where there are no more than that) and the last 8 newcomers that looked worse than
/// recent victims. Every `period` uses the histograms decay by 0.9 and the densities are learnt anew. Some
/// rows (1 in 32, within 1 % of the space) are kept whatever their rank, so that what would have become of
/// the badly ranked is seen ("explorers"). Ages are ticks, coarsened to 2^shift ticks so that 200 times the
/// residents span the 20 000 age steps.
/// Cost: O(1) an insert, hit or remove, O(samples) an evict, O(classes * ages) = 320 000 steps every `period`
/// uses.
/// Memory: 36 bytes a row and 3.8 MB. No logarithm or exponential at run time: counts are equal on every
/// platform.
/// Differences from the paper: one application, so classes by age only.
/// From libCacheSim (and the authors' code): 1. it learns every 2^20 uses, hardly ever in a trace of
/// adapters, and we every 2^16; 2. its ages start at 1024 ticks a step and are fitted at the 5th and 25th
/// learning, ours at the first eviction and whenever they are off by a factor of 4; 3. it draws 8 rows at
/// first, we always `samples`, and below that number look at all. So counts differ, mostly downwards: 4 to 11
/// % fewer misses on Zipf(1.0) of 10 000 rows with 4 .. 1000 residents, -8 to +4 % on its sample trace. With
/// period=1048576: within 6 % of it.
/// Source: Beckmann, Chen, Cidon, "LHD: improving cache hit rate by maximizing hit density", NSDI 2018;
/// constants as in the authors' code, by way of libCacheSim 6d3d368.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "loracle/core/dense_map.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/sample.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Lhd {
 public:
  struct Config {
    std::uint64_t samples = 32;
    std::uint64_t period = std::uint64_t{1} << 16U;  // uses between two learnings
    std::uint64_t seed = 1;
    template <class V>
    void visit(V&& v) {
      v("samples", samples);
      v("period", period);
      v("seed", seed);
    }
  };
  static constexpr std::string_view kName = "lhd";
  static constexpr bool kClairvoyant = false;

  Lhd(std::uint32_t rows, Capacity capacity, const Config& config)
      : sampling_{config.samples, config.samples},
        period_(std::max<std::uint64_t>(1, config.period)),
        weigher_(capacity),
        explorer_budget_(kExplorerShare * static_cast<double>(weigher_.total())),
        resident_(rows),
        hits_(std::size_t{kClasses} * kAges),
        evictions_(std::size_t{kClasses} * kAges),
        density_(std::size_t{kClasses} * kAges),
        rng_(config.seed) {
    suspects_.fill(kNoRow);
    // Before anything is learnt: much used and young is good, about what GDSF would say.
    for (std::size_t c = 0; c < kClasses; ++c)
      for (std::size_t age = 0; age < kAges; ++age)
        density_[c * kAges + age] = static_cast<float>(c + kClasses + 1) / static_cast<float>(age + 1);
  }

  [[nodiscard]] bool contains(Row row) const noexcept { return resident_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }

  void on_insert(Row row, Tick now, const AdapterTable& table) noexcept {
    Stay stay;
    stay.age_class = class_of(stay);
    resident_.insert(row, stay);
    const bool explores = use(resident_[row], row, now, table);
    if (!explores && rank(resident_[row], row, now, table) < recent_victim_rank_)
      suspects_[next_suspect_++ % kSuspects] = row;
    tick();
  }

  void on_access(Row row, Tick now, const AdapterTable& table) noexcept {
    Stay& stay = resident_[row];
    const std::uint32_t age = age_of(stay, now);
    hits_[cell(stay, age)] += 1;
    end_exploring(stay);
    stay.age_before_last = stay.last_age;
    stay.last_age = static_cast<std::uint16_t>(age);
    stay.age_class = class_of(stay);
    static_cast<void>(use(stay, row, now, table));
    tick();
  }

  void on_remove(Row row) noexcept {
    end_exploring(resident_[row]);
    resident_.erase(row);
  }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick now, const AdapterTable& table, const Guard& guard) noexcept {
    if (!scaled_) {
      scaled_ = true;
      rescale();
    }
    const auto score = [&](const Stay& stay, Row row) -> double { return rank(stay, row, now, table); };
    Row victim = least_candidate(resident_, sampling_, rng_, guard, score);
    if (victim == kNoRow) return kNoRow;
    double victim_rank = score(resident_[victim], victim);
    for (const Row row : suspects_) {
      if (row == kNoRow || !resident_.contains(row) || guard.blocks(row)) continue;
      const double suspect_rank = score(resident_[row], row);
      if (suspect_rank >= victim_rank) continue;
      victim = row;
      victim_rank = suspect_rank;
    }
    recent_victim_rank_ = kDecay * recent_victim_rank_ + (1 - kDecay) * std::max(0.0, victim_rank);
    const Stay& stay = resident_[victim];
    evictions_[cell(stay, age_of(stay, now))] += 1;
    on_remove(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept { resident_.prefetch(row); }

 private:
  static constexpr std::uint32_t kClasses = 16;
  static constexpr std::uint16_t kAges = 20'000;
  static constexpr std::uint32_t kSuspects = 8;
  static constexpr std::uint32_t kExploreOneIn = 32;
  static constexpr std::uint32_t kExploreLearnings = 50;  // no explorers after so many learnings
  static constexpr double kExplorerShare = 0.01;
  static constexpr double kDecay = 0.9;
  static constexpr std::uint32_t kResidentsPerAge = 200;

  struct Stay {
    Tick last_use;
    std::uint64_t explorer_weight = 0;      // what it takes from the budget
    std::uint16_t last_age = 0;             // coarse age at the last hit; 0 before the first
    std::uint16_t age_before_last = kAges;  // at the hit before that; kAges before the first
    std::uint8_t age_class = 0;
    bool explores = false;
  };

  [[nodiscard]] static std::size_t cell(const Stay& stay, std::uint32_t age) noexcept {
    return std::size_t{stay.age_class} * kAges + age;
  }

  [[nodiscard]] std::uint32_t age_of(const Stay& stay, Tick now) const noexcept {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>((now - stay.last_use).value >> shift_, kAges - 1));
  }

  /// The number of doublings that take the last two ages to kAges; the most for a row that came back at once.
  [[nodiscard]] static std::uint8_t class_of(const Stay& stay) noexcept {
    std::uint32_t age = std::uint32_t{stay.last_age} + stay.age_before_last;
    if (age == 0) return kClasses - 1;
    std::uint8_t doublings = 0;
    for (; age < kAges && doublings < kClasses - 1; age *= 2) ++doublings;
    return doublings;
  }

  [[nodiscard]] double rank(const Stay& stay, Row row, Tick now, const AdapterTable& table) const noexcept {
    const std::uint32_t age = age_of(stay, now);
    if (age == kAges - 1) return -1;  // too old to be told apart
    const double density = static_cast<double>(density_[cell(stay, age)]);
    return density / static_cast<double>(std::max<std::uint64_t>(1, table.size_of(row).value)) +
           (stay.explores ? 1 : 0);
  }

  /// What a hit and an insertion have in common. True if the row was drawn to explore.
  [[nodiscard]] bool use(Stay& stay, Row row, Tick now, const AdapterTable& table) noexcept {
    stay.last_use = now;
    const bool drawn = rng_.below(kExploreOneIn) == 0;
    stay.explores = drawn && explorer_budget_ > 0 && learnings_ < kExploreLearnings;
    if (stay.explores) {
      stay.explorer_weight = weigher_.of(row, table);
      explorer_budget_ -= static_cast<double>(stay.explorer_weight);
    }
    return drawn;
  }

  void end_exploring(Stay& stay) noexcept {
    if (stay.explores) explorer_budget_ += static_cast<double>(stay.explorer_weight);
    stay.explores = false;
  }

  void tick() noexcept {
    if (++uses_ % period_ != 0) return;
    for (float& count : hits_) count *= static_cast<float>(kDecay);
    for (float& count : evictions_) count *= static_cast<float>(kDecay);
    if (scaled_) rescale();
    learn();
    ++learnings_;
  }

  /// Each class from its oldest age down: what is known about the later ages is a running sum.
  void learn() noexcept {
    for (std::size_t c = 0; c < kClasses; ++c) {
      const std::size_t first = c * kAges;
      double hits = static_cast<double>(hits_[first + kAges - 1]);
      double events = hits + static_cast<double>(evictions_[first + kAges - 1]);
      double lifetime = events;
      for (std::size_t age = kAges - 1; age-- > 0;) {
        hits += static_cast<double>(hits_[first + age]);
        events += static_cast<double>(hits_[first + age]) + static_cast<double>(evictions_[first + age]);
        lifetime += events;
        density_[first + age] = events > 1e-5 ? static_cast<float>(hits / lifetime) : 0.0F;
      }
    }
  }

  /// Sets the coarseness of ages from the number of residents, when it is far (a factor 4) from what it
  /// should be, and redraws the histograms to the new scale.
  void rescale() noexcept {
    int wanted = 0;
    while ((std::uint64_t{kResidentsPerAge} << wanted) < resident_.size()) ++wanted;
    const int delta = wanted - shift_;
    if (uses_ >= period_ && delta > -2 && delta < 2) return;
    shift_ = wanted;
    for (std::size_t c = 0; c < kClasses; ++c) {
      redraw(hits_.data() + c * kAges, delta);
      redraw(evictions_.data() + c * kAges, delta);
    }
  }

  static void redraw(float* counts, int delta) noexcept {
    if (delta > 0) {
      const std::size_t width = std::size_t{1} << delta;
      for (std::size_t to = 0; to + 1 < kAges; ++to) {
        float sum = 0;
        for (std::size_t from = to * width; from < std::min<std::size_t>((to + 1) * width, kAges - 1); ++from)
          sum += counts[from];
        counts[to] = sum;
      }
    } else if (delta < 0) {
      const std::size_t width = std::size_t{1} << -delta;
      for (std::size_t from = kAges / width; from + 1 < kAges; ++from) counts[kAges - 1] += counts[from];
      for (std::size_t to = kAges - 1; to-- > 0;) counts[to] = counts[to / width] / static_cast<float>(width);
    }
  }

  Sampling sampling_;
  std::uint64_t period_;
  Weigher weigher_;
  double explorer_budget_;
  DenseMap<Stay> resident_;
  std::vector<float> hits_;       // [classes, ages]  decayed counts
  std::vector<float> evictions_;  // [classes, ages]
  std::vector<float> density_;    // [classes, ages]
  Rng rng_;
  std::array<Row, kSuspects> suspects_{};
  std::uint32_t next_suspect_ = 0;
  double recent_victim_rank_ = 0;
  std::uint64_t uses_ = 0;
  std::uint32_t learnings_ = 0;
  int shift_ = 10;
  bool scaled_ = false;  // shift_ has been set from the number of residents
};
static_assert(EvictionPolicy<Lhd>);

}  // namespace loracle
