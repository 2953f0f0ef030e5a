#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "loracle/sim/replay.hpp"
#include "loracle/sim/summary.hpp"

namespace loracle {
namespace {

NameColumn names(std::size_t count) {
  NameColumn column;
  std::vector<std::uint64_t> begin;
  std::vector<char> text;
  for (std::size_t i = 0; i <= count; ++i) begin.push_back(i);
  for (std::size_t i = 0; i < count; ++i) text.push_back(static_cast<char>('a' + i));
  column.begin = Column<std::uint64_t>(std::move(begin));
  column.text = Column<char>(std::move(text));
  return column;
}

Trace trace_of(const std::vector<std::uint32_t>& rows, std::size_t adapters) {
  std::vector<Row> uses;
  for (const std::uint32_t row : rows) uses.push_back(Row{row});
  Trace trace;
  trace.source = "hand";
  trace.requests = uses.size();
  trace.uses = Column<Row>(std::move(uses));
  trace.adapters.name = names(adapters);
  return trace;
}

// If this failed, adapters of unknown size would be free to keep, or described ones be counted as used.
TEST(UseStream, TakesSizesFromTheTraceAndOneForTheUnknown) {
  Trace trace = trace_of({0, 1, 0}, 4);
  trace.adapters.bytes = Column<std::uint64_t>(std::vector<std::uint64_t>{7, 0, 9, 0});
  const Result<UseStream> stream = make_use_stream(trace);
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_EQ(stream->rows, 4U);
  EXPECT_EQ(stream->distinct, 2U);
  EXPECT_EQ(stream->size, (std::vector<Bytes>{Bytes{7}, Bytes{1}, Bytes{9}, Bytes{1}}));
  trace.adapters.bytes = {};
  EXPECT_EQ(make_use_stream(trace)->size, std::vector<Bytes>(4, Bytes{1}));
}

// If this failed, a damaged trace would be replayed beyond the end of its columns.
TEST(UseStream, RefusesARowTheTraceDoesNotDescribe) {
  for (const Trace& trace :
       {trace_of({0, 1, 5}, 3), trace_of({0, 1, 3}, 0), trace_of({0, 0xFFFF'FFFFU}, 0)}) {
    const Result<UseStream> stream = make_use_stream(trace);
    ASSERT_FALSE(stream);
    EXPECT_EQ(stream.error().code, Errc::kCorrupt);
  }
  EXPECT_EQ(make_use_stream(trace_of({0, 1, 2, 1}, 0))->rows, 3U);
  EXPECT_EQ(make_use_stream(trace_of({}, 0))->rows, 0U);
}

// If this failed, byte totals of a replay would wrap around and a miss ratio by bytes mean nothing.
TEST(UseStream, RefusesSizesWhoseTotalCannotBeCounted) {
  Trace trace = trace_of({0, 1, 0}, 2);
  trace.adapters.bytes = Column<std::uint64_t>(std::vector<std::uint64_t>{1ULL << 63U, 1});
  const Result<UseStream> stream = make_use_stream(trace);
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code, Errc::kTooLarge);
  trace.adapters.bytes = Column<std::uint64_t>(std::vector<std::uint64_t>{(1ULL << 63U) - 1, 1});
  EXPECT_TRUE(make_use_stream(trace)) << "2^64 - 1 bytes are countable";
}

// If this failed, the clairvoyant policies would look into the wrong future.
TEST(UseStream, KnowsEachUsesNextUse) {
  constexpr std::uint32_t kNo = UseStream::kNoNextUse;
  Result<UseStream> stream = make_use_stream(trace_of({0, 1, 0, 2, 1, 0, 3}, 4));
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_TRUE(stream->next_use.empty());
  compute_next_uses(*stream);
  const std::vector<std::uint32_t> expected{2, 4, 5, kNo, kNo, kNo, kNo};
  EXPECT_EQ(std::vector<std::uint32_t>(stream->next_use.view().begin(), stream->next_use.view().end()),
            expected);
  Result<UseStream> empty = make_use_stream(trace_of({}, 2));
  compute_next_uses(*empty);
  EXPECT_TRUE(empty->next_use.empty());
}

// If this failed, the popularity chart would be out of order or count adapters nobody asked for.
TEST(Summary, PopularityIsDescendingAndLeavesOutTheUnused) {
  const Result<UseStream> stream = make_use_stream(trace_of({0, 1, 1, 2, 1, 2}, 5));
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_EQ(uses_per_row(*stream), (std::vector<std::uint64_t>{1, 3, 2, 0, 0}));
  EXPECT_EQ(popularity(*stream), (std::vector<std::uint64_t>{3, 2, 1}));
}

// If this failed, the plan would show a working set that is not the number of different adapters in a window.
TEST(Summary, WorkingSetCountsEachAdapterOnceAWindow) {
  Trace trace = trace_of({0, 1, 0, 1, 2, 0}, 3);
  trace.requests = 5;
  trace.use_begin =
      Column<std::uint64_t>(std::vector<std::uint64_t>{0, 2, 3, 3, 5, 6});  // the third needs none
  trace.arrival_s = Column<double>(std::vector<double>{12, 19.5, 20, 41, 49});
  const auto windows = working_set_over_time(trace, 10);
  ASSERT_TRUE(windows) << windows.error().message;
  const std::vector<WorkingSetWindow> expected{
      {10, 2, 3, 2, 2}, {20, 1, 0, 0, 0}, {30, 0, 0, 0, 0}, {40, 2, 3, 3, 1}};
  EXPECT_EQ(*windows, expected);
}

// If this failed, a mistyped window would fill the memory, or a trace without times be drawn against time.
TEST(Summary, WorkingSetRefusesWindowsThatMakeNoSense) {
  Trace trace = trace_of({0, 1}, 2);
  EXPECT_EQ(working_set_over_time(trace, 1).error().code, Errc::kInvalid);  // no times
  trace.arrival_s = Column<double>(std::vector<double>{0, 1e9});
  for (const double window_s : {0.0, -1.0, 1e-9, 1.0 / 0.0})
    EXPECT_EQ(working_set_over_time(trace, window_s).error().code, Errc::kInvalid) << window_s;
  EXPECT_EQ(working_set_over_time(trace, 5e8)->size(), 3U);
  EXPECT_TRUE(working_set_over_time(Trace{}, 1)->empty());
}

}  // namespace
}  // namespace loracle
