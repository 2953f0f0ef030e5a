#pragma once
/// A long synthetic stream of uses with known miss counts: independent Zipf(1) draws from one splitmix64
/// stream, sizes log-uniform in 10 .. 500 MB from another, rows numbered by first appearance. Equal
/// arguments, equal stream. The golden counts for (10,000 ids, 20 M requests, seed 7) and (1 M ids, 20 M
/// requests, seed 42) come from libCacheSim 6d3d368 run on the same traces (sha256 of their oracleGeneral
/// form 26a76fc7... and 7c297d89...).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/replay.hpp"

namespace loracle::testing {

[[nodiscard]] inline UseStream zipf_stream(std::uint32_t ids, std::uint64_t requests, std::uint64_t seed) {
  constexpr std::size_t kGuide = std::size_t{1} << 20U;  // narrows each search to a few candidates
  std::vector<double> cumulative(ids);
  double sum = 0;
  for (std::uint32_t i = 0; i < ids; ++i) cumulative[i] = sum += 1.0 / (i + 1.0);
  std::vector<std::uint32_t> guide(kGuide + 1);
  std::uint32_t reached = 0;
  for (std::size_t g = 0; g <= kGuide; ++g) {
    const double target = sum * static_cast<double>(g) / static_cast<double>(kGuide);
    while (reached < ids - 1 && cumulative[reached] < target) ++reached;
    guide[g] = reached;
  }

  std::uint64_t state = seed;
  std::vector<Row> row_of(ids, kNoRow);
  std::vector<std::uint32_t> id_of;
  std::vector<Row> uses(requests);
  for (Row& use : uses) {
    const double u = static_cast<double>(splitmix64(state) >> 11U) * 0x1p-53;
    const auto g = static_cast<std::size_t>(u * static_cast<double>(kGuide));
    const auto first = cumulative.begin() + guide[g];
    const auto last = cumulative.begin() + std::min<std::ptrdiff_t>(ids, guide[g + 1] + std::ptrdiff_t{1});
    const auto id = std::min<std::size_t>(
        ids - 1, static_cast<std::size_t>(std::lower_bound(first, last, u * sum) - cumulative.begin()));
    if (row_of[id] == kNoRow) {
      row_of[id] = Row{static_cast<std::uint32_t>(id_of.size())};
      id_of.push_back(static_cast<std::uint32_t>(id));
    }
    use = row_of[id];
  }

  std::vector<Bytes> size_of_id(ids);
  std::uint64_t size_state = seed ^ 0xABCDEFU;
  for (Bytes& size : size_of_id) {
    static_cast<void>(splitmix64(size_state));  // the id itself, which rows stand in for
    const double u = static_cast<double>(splitmix64(size_state) >> 11U) * 0x1p-53;
    size = Bytes{static_cast<std::uint64_t>(10e6 * std::pow(50.0, u))};
  }

  UseStream stream;
  stream.rows = static_cast<std::uint32_t>(id_of.size());
  stream.distinct = stream.rows;
  for (const std::uint32_t id : id_of) stream.size.push_back(size_of_id[id]);
  stream.uses = Column<Row>(std::move(uses));
  compute_next_uses(stream);
  return stream;
}

}  // namespace loracle::testing
