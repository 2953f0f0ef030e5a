#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/traces/generate.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/write.hpp"
#include "same_trace.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::full_trace;
using testing::TempDir;

std::string jsonl_of(const Trace& trace) {
  std::string text;
  const auto done = write_jsonl(trace, [&](std::span<const char> bytes) -> Result<Unit> {
    text.append(bytes.data(), bytes.size());
    return Unit{};
  });
  EXPECT_TRUE(done) << done.error().message;
  return text;
}

void expect_round_trip(const Trace& trace) {
  const TempDir dir;
  const std::string path = (dir / "t.jsonl").string();
  ASSERT_TRUE(write_jsonl(trace, path));
  ReadOptions options;
  options.format = "jsonl";
  const auto read = read_trace(path, options);
  ASSERT_TRUE(read) << read.error().message;
  testing::expect_same_requests(*read, trace);
}

// If this fails, the documented lines are not what is written.
TEST(WriteJsonl, WritesTheDocumentedLines) {
  Trace trace;
  trace.requests = 3;
  trace.uses = testing::rows_of({0, 0, 1});
  trace.use_begin = Column<std::uint64_t>(std::vector<std::uint64_t>{0, 1, 1, 3});
  trace.arrival_s = Column<double>(std::vector<double>{0, 0.25, 0.3});
  trace.adapters.name = testing::names_of({"sql", "a\"\\\x01"});
  trace.adapters.rank = Column<std::uint16_t>(std::vector<std::uint16_t>{16, 0});
  EXPECT_EQ(jsonl_of(trace),
            "{\"type\":\"adapter\",\"adapter\":\"sql\",\"rank\":16}\n"
            "{\"type\":\"adapter\",\"adapter\":\"a\\\"\\\\\\u0001\"}\n"
            "{\"arrival_s\":0,\"adapter\":\"sql\"}\n"
            "{\"arrival_s\":0.25}\n"
            "{\"arrival_s\":0.3,\"adapter\":[\"sql\",\"a\\\"\\\\\\u0001\"]}\n");
}

// If this fails, export and import lose or change something.
TEST(WriteJsonl, IsReadBackEqual) {
  Trace trace = full_trace();
  trace.arrival_s = Column<double>(std::vector<double>{0, 0, 0.1, 0.1, 1e9 / 3});
  expect_round_trip(trace);
}

// If this fails, the same holds only for small traces.
TEST(WriteJsonl, IsReadBackEqualWhenGenerated) {
  GenerateOptions options;
  options.requests = 20'000;
  options.duration_s_mean = 0.7;
  options.input_tokens_mean = 300;
  options.output_tokens_mean = 50;
  const auto trace = generate(options);
  ASSERT_TRUE(trace);
  expect_round_trip(*trace);
}

// If this fails, some number is not the number that was written.
TEST(WriteJsonl, WritesNumbersThatReadBackEqual) {
  Rng rng(4);
  Trace trace;
  trace.requests = 5000;
  std::vector<double> arrival_s;
  std::vector<float> duration_s;
  for (int i = 0; i < 5000; ++i) {
    arrival_s.push_back(std::ldexp(rng.uniform(), static_cast<int>(rng.below(60)) - 30));
    duration_s.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(rng.below(0x7F80'0000U))));
  }
  std::sort(arrival_s.begin(), arrival_s.end());
  trace.uses = Column<Row>(std::vector<Row>(5000, Row{0}));
  trace.adapters.name = testing::names_of({"a"});
  trace.arrival_s = Column<double>(std::move(arrival_s));
  trace.duration_s = Column<float>(std::move(duration_s));
  expect_round_trip(trace);
}

// If this fails, a full disk or a closed pipe goes unnoticed.
TEST(WriteJsonl, StopsAtTheSinksError) {
  int calls = 0;
  const auto done = write_jsonl(full_trace(), [&](std::span<const char>) -> Result<Unit> {
    ++calls;
    return fail(Errc::kIo, "full", 28);
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().detail, 28);
  EXPECT_EQ(calls, 1);
  std::FILE* const full = std::fopen("/dev/full", "w");
  if (full == nullptr) GTEST_SKIP() << "no /dev/full here";
  const auto refused = write_jsonl(full_trace(), full);
  std::fclose(full);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kIo);
}

// If this fails, a name that JSON cannot hold makes a file that no reader accepts.
TEST(WriteJsonl, RefusesNamesThatAreNotUtf8) {
  Trace trace;
  trace.adapters.name = testing::names_of({"ok", "\xFF"});
  const TempDir dir;
  const auto done = write_jsonl(trace, (dir / "t.jsonl").string());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kInvalid);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace loracle
