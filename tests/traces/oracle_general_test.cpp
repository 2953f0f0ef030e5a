#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "../../traces/src/id_interner.hpp"
#include "../../traces/src/readers.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/traces/check_trace.hpp"
#include "same_trace.hpp"
#include "support/shared_data.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::TempDir;

void append_little_endian(std::string& bytes, std::uint64_t value, int width) {
  for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFFU);
}
std::string record(std::uint32_t time, std::uint64_t id, std::uint32_t size) {
  std::string bytes;
  append_little_endian(bytes, time, 4);
  append_little_endian(bytes, id, 8);
  append_little_endian(bytes, size, 4);
  append_little_endian(bytes, ~std::uint64_t{0}, 8);
  return bytes;
}

Result<Trace> read(const std::string& path, const ReadOptions& options = {}) {
  Result<ByteSource> source = ByteSource::open(path);
  if (!source) return fail(source.error());
  return read_oracle_general(*source, path, options);
}

/// 1000 records with strided, clustered and extreme ids.
std::string sample() {
  Rng rng(3);
  std::string bytes;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint64_t id =
        rng.below(2) == 0 ? std::uint64_t{rng.below(200)} * 4096 : ~std::uint64_t{rng.below(50)};
    bytes += record(i / 3, id, 100 + i);
  }
  return bytes;
}

// If this fails, fields are read from the wrong place, or ids above 2^63 lose their sign.
TEST(OracleGeneral, ReadsTimeIdAndFirstSize) {
  const TempDir dir;
  const auto trace = read(dir.write(
      "t", record(5, 18446744073709551615U, 70) + record(6, 0, 80) + record(6, 18446744073709551615U, 99)));
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->format, "oracleGeneral");
  EXPECT_EQ(trace->requests, 3U);
  EXPECT_EQ(trace->adapters.name[0], "18446744073709551615");
  EXPECT_EQ(trace->adapters.name[1], "0");
  testing::expect_same_column("uses", trace->uses, testing::rows_of({0, 1, 0}));
  testing::expect_same_column("arrival_s", trace->arrival_s, Column<double>(std::vector<double>{5, 6, 6}));
  testing::expect_same_column("bytes", trace->adapters.bytes,
                              Column<std::uint64_t>(std::vector<std::uint64_t>{70, 80}));
}

// If this fails, the mapped and the streamed path disagree.
TEST(OracleGeneral, ReadsTheSameFromACompressedFile) {
  const TempDir dir;
  std::string bytes;
  while (bytes.size() < 24 * 20'000) bytes += sample();
  // Time must not run backwards where the sample begins anew.
  for (std::size_t at = 0; at < bytes.size(); at += 24) bytes.replace(at, 4, std::string(4, '\1'));
  const std::string plain = dir.write("t", bytes);
  const std::string zipped = (dir / "t.gz").string();
  gzFile out = gzopen(zipped.c_str(), "wb1");
  ASSERT_EQ(gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
  gzclose(out);
  for (const std::uint64_t requests_max : {0U, 1U, 255U, 257U, 10'000U}) {
    ReadOptions options;
    options.requests_max = requests_max;
    const auto a = read(plain, options);
    const auto b = read(zipped, options);
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->requests, requests_max == 0 ? 20'000 : requests_max);
    testing::expect_same_requests(*a, *b);
    EXPECT_TRUE(check_trace(*a));
  }
}

// If this fails, a partly downloaded trace is read as a shorter one, or the message does not say where it
// ends.
TEST(OracleGeneral, RefusesPartOfARecord) {
  const TempDir dir;
  const std::string bytes = sample();
  for (const std::size_t cut : {1U, 12U, 23U}) {
    const std::string path = dir.write("t", bytes.substr(0, 24 * 10 + cut));
    const auto trace = read(path);
    ASSERT_FALSE(trace);
    EXPECT_EQ(trace.error().code, Errc::kCorrupt);
    EXPECT_NE(trace.error().message.find(path + ":11:"), std::string::npos) << trace.error().message;
    EXPECT_NE(trace.error().message.find("byte " + std::to_string(240 + cut)), std::string::npos);
  }
}

// If this fails, arrivals are not sorted although every reader of a Trace may rely on it.
TEST(OracleGeneral, RefusesTimeThatRunsBackwardsUnlessToldToSkip) {
  const TempDir dir;
  const std::string path = dir.write("t", record(5, 1, 1) + record(4, 2, 1) + record(5, 3, 1));
  const auto refused = read(path);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kCorrupt);
  EXPECT_EQ(refused.error().message.find(path + ":2: time 4 comes after time 5"), 0U)
      << refused.error().message;
  ReadOptions options;
  options.skip_bad_lines = true;
  const auto skipped = read(path, options);
  ASSERT_TRUE(skipped);
  EXPECT_EQ(skipped->requests, 2U);
  EXPECT_EQ(skipped->skipped_lines, 1U);
  EXPECT_EQ(skipped->adapters.name[1], "3");
}

// If this fails, an empty file is an error rather than an empty trace.
TEST(OracleGeneral, ReadsAnEmptyFileAsAnEmptyTrace) {
  const TempDir dir;
  const auto trace = read(dir.write("t", ""));
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 0U);
  EXPECT_EQ(trace->rows(), 0U);
  EXPECT_TRUE(check_trace(*trace));
}

// If this fails, two ids share a row or one id has two, at some size of the table.
TEST(IdInterner, AgreesWithAMapForStridesRunsAndNoise) {
  Rng rng(11);
  IdInterner interner;
  std::unordered_map<std::uint64_t, std::uint32_t> model;
  std::vector<std::uint64_t> batch;
  std::array<Row, IdInterner::kBatchMax> rows;
  std::uint64_t run = 0;
  for (int round = 0; round < 3000; ++round) {
    batch.clear();
    const std::uint32_t size = 1 + rng.below(IdInterner::kBatchMax);
    for (std::uint32_t i = 0; i < size; ++i) {
      switch (rng.below(4)) {
        case 0:
          batch.push_back(run += 4096);
          break;
        case 1:
          batch.push_back(rng.next());
          break;
        case 2:
          batch.push_back(std::uint64_t{rng.below(1000)} << 48U);
          break;
        default:
          batch.push_back(rng.below(50'000));
          break;
      }
    }
    std::size_t news = 0;
    interner.intern(batch, rows.data(), [&](std::size_t) { ++news; });
    const std::size_t before = model.size();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto found = model.emplace(batch[i], static_cast<std::uint32_t>(model.size())).first;
      ASSERT_EQ(index_of(rows[i]), found->second);
    }
    ASSERT_EQ(news, model.size() - before);
  }
  ASSERT_EQ(interner.ids().size(), model.size());
  for (std::uint32_t row = 0; row < model.size(); ++row) ASSERT_EQ(model.at(interner.ids()[row]), row);
}

// If this fails, libCacheSim's own sample is read differently than by libCacheSim (113,872 requests, 48,974
// objects).
TEST(OracleGeneral, ReadsLibCacheSimsSample) {
  LORACLE_SHARED_FILE(file, "traces/libcachesim/cloudPhysicsIO.oracleGeneral.zst");
  const auto trace = read(file.string());
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 113'872U);
  EXPECT_EQ(trace->rows(), 48'974U);
  EXPECT_EQ(trace->adapters.name[0], "42932745");
  EXPECT_EQ(trace->adapters.bytes[0], 512U);
  EXPECT_EQ(trace->arrival_s[113'871], 5'641'098);
  EXPECT_TRUE(check_trace(*trace));
}

}  // namespace
}  // namespace loracle
