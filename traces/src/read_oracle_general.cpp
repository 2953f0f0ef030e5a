/// libCacheSim's `oracleGeneral`: 24-byte little-endian records u32 time, u64 id, u32 size, i64 next.
/// Every object becomes an adapter: its name is the id in decimal, its bytes the size at its first request
/// (later sizes are ignored, so that an adapter has one size); arrival_s is `time`; `next` is ignored, since
/// whoever needs the next use computes it.
/// Cost: one pass, 12 bytes a request in the result; a plain file is mapped, a compressed one is streamed.
/// Errors: kCorrupt (a length that is no multiple of 24; time runs backwards; with skip_bad_lines
/// such records are left out and counted).
/// Source: libCacheSim, libCacheSim/traceReader/customizedReader/oracle/oracleGeneralBin.h (the layout).

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "huge_array.hpp"
#include "id_interner.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

static_assert(std::endian::native == std::endian::little, "records are read as they lie in the file");

constexpr std::size_t kRecordBytes = 24;
constexpr std::size_t kBatch = IdInterner::kBatchMax;

/// The columns of the trace while they grow.
class Builder {
 public:
  Builder(const std::string& path, const ReadOptions& options, std::uint64_t records_expected)
      : path_(path), options_(options) {
    reserve(records_expected);
  }

  [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
  [[nodiscard]] bool full() const noexcept {
    return options_.requests_max != 0 && requests_ >= options_.requests_max;
  }

  /// REQUIRES: a whole number of records.
  [[nodiscard]] Result<Unit> append(std::span<const char> bytes) {
    reserve(requests_ + bytes.size() / kRecordBytes);
    while (!bytes.empty() && !full()) {
      std::size_t count = std::min(bytes.size() / kRecordBytes, kBatch);
      if (options_.requests_max != 0) count = std::min<std::size_t>(count, options_.requests_max - requests_);
      const std::span<const char> batch = bytes.first(count * kRecordBytes);
      bytes = bytes.subspan(batch.size());
      if (auto done = append_batch(batch); !done) return done;
    }
    return Unit{};
  }

  [[nodiscard]] Trace finish() && {
    Trace trace;
    trace.source = path_;
    trace.format = "oracleGeneral";
    trace.mapping = "lora";
    trace.requests = requests_;
    trace.skipped_lines = skipped_;
    trace.uses = std::move(uses_).take(requests_);
    trace.arrival_s = std::move(arrival_s_).take(requests_);
    trace.adapters.bytes = Column<std::uint64_t>(std::move(sizes_));
    trace.adapters.name = names(interner_.ids());
    return trace;
  }

 private:
  void reserve(std::uint64_t requests) {
    uses_.reserve(requests);
    arrival_s_.reserve(requests);
  }

  [[nodiscard]] Result<Unit> append_batch(std::span<const char> batch) {
    std::array<std::uint64_t, kBatch> ids;
    std::array<std::uint32_t, kBatch> sizes;
    const std::size_t records = batch.size() / kRecordBytes;
    double* const arrival = arrival_s_.data() + requests_;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < records; ++i) {
      const char* const record = batch.data() + i * kRecordBytes;
      std::uint32_t time = 0;
      std::memcpy(&time, record, sizeof time);
      if (time < time_) {
        if (!options_.skip_bad_lines) return backwards(i, time);
        ++skipped_;
        continue;
      }
      time_ = time;
      arrival[kept] = time;
      std::memcpy(&ids[kept], record + 4, sizeof ids[kept]);
      std::memcpy(&sizes[kept], record + 12, sizeof sizes[kept]);
      ++kept;
    }
    interner_.intern(std::span<const std::uint64_t>(ids.data(), kept), uses_.data() + requests_,
                     [&](std::size_t i) { sizes_.push_back(sizes[i]); });
    requests_ += kept;
    if (interner_.ids().size() > std::size_t{0xFFFF'FFFFU} - 2 * kBatch) {
      return fail(Errc::kUnsupported,
                  fmt::format("{}: more than 4.29 billion different ids: split the trace", path_));
    }
    return Unit{};
  }

  [[nodiscard]] Result<Unit> backwards(std::size_t offset, std::uint32_t time) const {
    return fail(
        Errc::kCorrupt,
        fmt::format("{}:{}: time {} comes after time {}: sort the trace by time, or pass --skip-bad-lines",
                    path_, requests_ + skipped_ + offset + 1, time, time_));
  }

  [[nodiscard]] static NameColumn names(const std::vector<std::uint64_t>& ids) {
    if (ids.empty()) return {};
    constexpr std::size_t kDigitsMax = 20;
    HugeArray<std::uint64_t> begin(ids.size() + 1);
    HugeArray<char> text(ids.size() * kDigitsMax);
    char* end = text.data();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      end = std::to_chars(end, end + kDigitsMax, ids[i]).ptr;
      begin[i + 1] = static_cast<std::uint64_t>(end - text.data());
    }
    const auto text_bytes = static_cast<std::size_t>(end - text.data());
    return {std::move(begin).take(ids.size() + 1), std::move(text).take(text_bytes)};
  }

  const std::string& path_;
  const ReadOptions& options_;
  HugeArray<Row> uses_;
  HugeArray<double> arrival_s_;
  IdInterner interner_;
  std::vector<std::uint64_t> sizes_;  // [distinct ids]
  std::uint64_t requests_ = 0;
  std::uint64_t skipped_ = 0;
  std::uint32_t time_ = 0;
};

[[nodiscard]] tl::unexpected<Error> partial_record(const std::string& path, std::uint64_t records,
                                                   std::size_t rest) {
  return fail(
      Errc::kCorrupt,
      fmt::format("{}:{}: the file ends {} bytes into a record of {}, at byte {}: it is truncated, or not "
                  "oracleGeneral",
                  path, records + 1, rest, kRecordBytes, records * kRecordBytes + rest));
}

[[nodiscard]] Result<Trace> read_mapped(std::span<const char> bytes, const std::string& path,
                                        const ReadOptions& options) {
  std::uint64_t records = bytes.size() / kRecordBytes;
  const std::size_t rest = bytes.size() % kRecordBytes;
  if (options.requests_max != 0) records = std::min(records, options.requests_max);
  Builder builder(path, options, records);
  // Advice only: read ahead further, as every byte is used once and in order.
  ::madvise(const_cast<char*>(bytes.data()), bytes.size(), MADV_SEQUENTIAL);
  if (auto done = builder.append(bytes.first(bytes.size() - rest)); !done) return fail(done.error());
  if (rest != 0 && !builder.full()) return partial_record(path, bytes.size() / kRecordBytes, rest);
  return std::move(builder).finish();
}

[[nodiscard]] Result<Trace> read_streamed(ByteSource& source, const std::string& path,
                                          const ReadOptions& options) {
  Builder builder(path, options, 0);
  std::vector<char> window(kRecordBytes * kBatch * 32);
  std::uint64_t records = 0;
  while (!builder.full()) {
    const Result<std::size_t> got = source.read(window);
    if (!got) return fail(got.error());
    const std::size_t rest = *got % kRecordBytes;
    if (auto done = builder.append(std::span<const char>(window).first(*got - rest)); !done) {
      return fail(done.error());
    }
    records += *got / kRecordBytes;
    if (rest != 0 && !builder.full()) return partial_record(path, records, rest);
    if (*got < window.size()) break;
  }
  return std::move(builder).finish();
}

}  // namespace

Result<Trace> read_oracle_general(ByteSource& source, const std::string& path, const ReadOptions& options) {
  const ByteSource::Mapping mapped = source.mapping();
  return mapped.bytes.empty() ? read_streamed(source, path, options)
                              : read_mapped(mapped.bytes, path, options);
}

}  // namespace loracle
