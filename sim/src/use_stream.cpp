#include <algorithm>
#include <string>

#include "loracle/sim/replay.hpp"

namespace loracle {
namespace {

/// True if the bytes that the uses ask for, all together, can be counted in 64 bits.
bool bytes_countable(const UseStream& stream) {
  constexpr std::uint64_t kMost = Bytes::max().value;
  Bytes largest{1};
  for (const Bytes size : stream.size) largest = std::max(largest, size);
  const std::span<const Row> uses = stream.uses.view();
  if (uses.empty() || largest.value <= kMost / uses.size()) return true;
  std::uint64_t left = kMost;
  for (const Row row : uses) {
    const std::uint64_t size = stream.size[index_of(row)].value;
    if (size > left) return false;
    left -= size;
  }
  return true;
}

}  // namespace

Result<UseStream> make_use_stream(const Trace& trace) {
  // Two values are taken: one says that there is no next use, one that there was no use yet (1-based times).
  const std::span<const Row> uses = trace.uses.view();
  if (uses.size() > UseStream::kNoNextUse - std::uint64_t{1}) {
    return fail(Errc::kTooLarge, trace.source + ": " + std::to_string(uses.size()) +
                                     " uses; at most 4294967294 can be replayed: cut the trace");
  }
  // A trace built by hand may describe no adapters; dense rows are then fewer than the uses.
  const std::uint64_t rows_max = trace.rows() != 0 ? trace.rows() : uses.size();
  std::uint64_t rows = trace.rows();
  for (const Row row : uses) rows = std::max<std::uint64_t>(rows, index_of(row) + 1);
  if (rows > rows_max) {
    return fail(Errc::kCorrupt, trace.source + ": a request names adapter " + std::to_string(rows - 1) +
                                    " but there are only " + std::to_string(rows_max));
  }
  UseStream stream;
  stream.uses = trace.uses;
  stream.rows = static_cast<std::uint32_t>(rows);
  std::vector<std::uint8_t> used(rows, 0);
  for (const Row row : uses) used[index_of(row)] = 1;
  stream.distinct = static_cast<std::uint32_t>(std::count(used.begin(), used.end(), std::uint8_t{1}));
  stream.size.assign(rows, Bytes{1});
  const std::span<const std::uint64_t> bytes = trace.adapters.bytes.view();
  for (std::size_t row = 0; row < std::min<std::size_t>(bytes.size(), rows); ++row)
    if (bytes[row] != 0) stream.size[row] = Bytes{bytes[row]};
  if (!bytes_countable(stream)) {
    return fail(Errc::kTooLarge, trace.source +
                                     ": the bytes its requests ask for exceed 2^64: look for an "
                                     "adapter of absurd size in the trace or its catalog");
  }
  return stream;
}

void compute_next_uses(UseStream& stream) {
  constexpr std::size_t kAhead = 32;  // uses between the prefetch of a row's entry and its use
  const std::span<const Row> uses = stream.uses.view();
  std::vector<std::uint32_t> upcoming(stream.rows, UseStream::kNoNextUse);  // [rows] first use after this one
  std::vector<std::uint32_t> next_use(uses.size());
  for (std::size_t i = uses.size(); i-- > 0;) {
    if (i >= kAhead) __builtin_prefetch(&upcoming[index_of(uses[i - kAhead])], 1);
    std::uint32_t& row_upcoming = upcoming[index_of(uses[i])];
    next_use[i] = row_upcoming;
    row_upcoming = static_cast<std::uint32_t>(i);
  }
  stream.next_use = Column<std::uint32_t>(std::move(next_use));
}

}  // namespace loracle
