#include "loracle/traces/ltr.hpp"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "fuzz/ltr_seal.hpp"
#include "fuzz/memory_file.hpp"
#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/generate.hpp"
#include "same_trace.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::full_trace;
using testing::ltr_sealed;
using testing::MemoryFile;
using testing::TempDir;

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string written(const TempDir& dir, const Trace& trace) {
  const std::string path = (dir / "t.ltr").string();
  const auto done = write_ltr(trace, path);
  EXPECT_TRUE(done) << done.error().message;
  return bytes_of(path);
}

void expect_round_trip(const Trace& trace) {
  const TempDir dir;
  const std::string path = (dir / "t.ltr").string();
  ASSERT_TRUE(write_ltr(trace, path));
  const auto opened = open_ltr(path);
  ASSERT_TRUE(opened) << opened.error().message;
  testing::expect_same_trace(*opened, trace);
  const auto verified = verify_ltr(path);
  EXPECT_TRUE(verified) << verified.error().message;
}

// If this fails, a converted trace is not the trace that was converted.
TEST(Ltr, GivesBackEveryColumn) { expect_round_trip(full_trace()); }

// If this fails, a trace without optional columns gains or loses some.
TEST(Ltr, GivesBackATraceOfUsesAlone) {
  Trace trace;
  trace.requests = 3;
  trace.uses = testing::rows_of({0, 1, 0});
  trace.adapters.name = testing::names_of({"", "b"});
  expect_round_trip(trace);
}

// If this fails, a trace of nothing cannot be stored.
TEST(Ltr, GivesBackAnEmptyTrace) { expect_round_trip(Trace{}); }

// If this fails, the mapping dies with something the Trace does not hold.
TEST(Ltr, StaysReadableAfterTheFileIsReplacedAndRemoved) {
  const TempDir dir;
  const std::string path = (dir / "t.ltr").string();
  ASSERT_TRUE(write_ltr(full_trace(), path));
  const auto trace = open_ltr(path);
  ASSERT_TRUE(trace);
  ASSERT_TRUE(write_ltr(Trace{}, path));
  std::filesystem::remove(path);
  testing::expect_same_trace(*trace, full_trace());
}

// If this fails, the file layout changed without a new version number. The value is XXH3-64 of the file of
// `full_trace`, as first written by version 1.
TEST(Ltr, KeepsVersionOneAsItIs) {
  const TempDir dir;
  const std::string bytes = written(dir, full_trace());
  EXPECT_EQ(bytes.size(), 1548U);
  EXPECT_EQ(XXH3_64bits(bytes.data(), bytes.size()), 10307346979884664719ULL);
}

// If this fails, a flipped bit on the disk becomes a wrong answer.
TEST(Ltr, RefusesEveryByteCorrupted) {
  const TempDir dir;
  const std::string whole = written(dir, full_trace());
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int flip : {1 << at % 8, 0xFF}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const MemoryFile file(bytes);
      const auto trace = read_ltr(file.path());
      ASSERT_FALSE(trace) << "byte " << at << " of " << whole.size();
      ASSERT_EQ(trace.error().message.find(file.path()), 0U) << trace.error().message;
      (void)open_ltr(file.path());  // may accept damaged contents, must survive them
    }
  }
}

// If this fails, a copy that was interrupted is opened, and reading it ends in a bus error.
TEST(Ltr, RefusesEveryTruncationAtOpening) {
  const TempDir dir;
  const std::string whole = written(dir, full_trace());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const MemoryFile file(whole.substr(0, length));
    const auto trace = open_ltr(file.path());
    ASSERT_FALSE(trace) << length << " of " << whole.size();
    ASSERT_EQ(trace.error().code, Errc::kCorrupt);
  }
  EXPECT_FALSE(open_ltr(dir.write("long.ltr", whole + '\0')));
}

// If this fails, a file made by someone else, checksums and all, can make us read outside its columns.
TEST(Ltr, RefusesOrBearsEveryByteChangedUnderGoodChecksums) {
  const TempDir dir;
  const std::string whole = written(dir, full_trace());
  ASSERT_EQ(ltr_sealed(whole), whole);
  for (std::size_t at = 16; at < whole.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const MemoryFile file(ltr_sealed(bytes));
      const auto trace = read_ltr(file.path());
      if (!trace) continue;
      // What was let in must keep every promise; the sums make sure that each name is touched.
      ASSERT_TRUE(check_trace(*trace)) << "byte " << at;
      std::size_t sum = 0;
      for (std::uint32_t row = 0; row < trace->rows(); ++row) sum += trace->adapters.name[row].size();
      ASSERT_EQ(sum, trace->adapters.name.text.size());
    }
  }
}

// If this fails, a row out of range passes because its checksum is right.
TEST(Ltr, RefusesARowOutOfRangeUnderGoodChecksums) {
  const TempDir dir;
  Trace trace;
  trace.requests = 1;
  trace.uses = testing::rows_of({0});
  trace.adapters.name = testing::names_of({"a"});
  std::string bytes = written(dir, trace);
  const std::size_t uses_at = 64 + 32 * 3 + 32;  // three sections, aligned to 64
  ASSERT_EQ(bytes.substr(uses_at, 4), std::string(4, '\0'));
  bytes[uses_at] = 1;
  const auto read = read_ltr(dir.write("bad.ltr", ltr_sealed(bytes)));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kCorrupt);
  EXPECT_NE(read.error().message.find("row 1 of 1"), std::string::npos) << read.error().message;
}

// If this fails, an old loracle reads a file of a new one as something it is not.
TEST(Ltr, RefusesALaterVersion) {
  const TempDir dir;
  std::string bytes = written(dir, full_trace());
  bytes[8] = 2;
  const auto trace = open_ltr(dir.write("later.ltr", ltr_sealed(bytes)));
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().code, Errc::kUnsupported);
}

// If this fails, a text file with the wrong name gives a message about checksums.
TEST(Ltr, SaysWhenAFileIsNoLtrAtAll) {
  const TempDir dir;
  const auto trace = open_ltr(dir.write("t.ltr", "{\"adapter\":\"a\"}\n"));
  ASSERT_FALSE(trace);
  EXPECT_NE(trace.error().message.find("not an .ltr file"), std::string::npos) << trace.error().message;
  EXPECT_EQ(open_ltr((dir / "absent.ltr").string()).error().code, Errc::kNotFound);
}

// If this fails, a trace that breaks its promises is stored, and refused only when it is needed.
TEST(Ltr, RefusesToWriteABrokenTraceAndLeavesTheOldFile) {
  const TempDir dir;
  const std::string path = (dir / "t.ltr").string();
  ASSERT_TRUE(write_ltr(full_trace(), path));
  const auto refuses = [&](auto break_it) {
    Trace trace = full_trace();
    break_it(trace);
    const auto done = write_ltr(trace, path);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::kInvalid);
  };
  refuses([](Trace& t) { t.uses = testing::rows_of({0, 1, 0, 4, 1, 0, 2}); });
  refuses([](Trace& t) { t.uses = testing::rows_of({1, 0, 0, 2, 1, 0, 2}); });
  refuses([](Trace& t) { t.requests = 4; });
  refuses([](Trace& t) { t.requests = std::numeric_limits<std::uint64_t>::max(); });
  refuses([](Trace& t) {
    t.use_begin = Column<std::uint64_t>(std::vector<std::uint64_t>{0, 5, 1, 3, 6, 7});
  });
  refuses([](Trace& t) { t.arrival_s = Column<double>(std::vector<double>{1, 0, 2, 3, 4}); });
  refuses([](Trace& t) { t.arrival_s = Column<double>(std::vector<double>{0, 1, 2, 3, HUGE_VAL}); });
  refuses([](Trace& t) { t.arrival_s = Column<double>(std::vector<double>{0, 1}); });
  refuses([](Trace& t) { t.duration_s = Column<float>(std::vector<float>{0, 0, -1, 0, 0}); });
  refuses([](Trace& t) { t.tenant = Column<std::uint32_t>(std::vector<std::uint32_t>{0, 2, 0, 0, 0}); });
  refuses([](Trace& t) { t.adapters.rank = Column<std::uint16_t>(std::vector<std::uint16_t>{8}); });
  refuses([](Trace& t) { t.adapters.name.text = t.adapters.name.text.first(3); });
  const auto kept = read_ltr(path);
  ASSERT_TRUE(kept);
  testing::expect_same_trace(*kept, full_trace());
}

// If this fails, a failed or finished write leaves partial files beside the target.
TEST(Ltr, LeavesNothingBesideTheFile) {
  const TempDir dir;
  ASSERT_TRUE(write_ltr(full_trace(), (dir / "t.ltr").string()));
  const auto done = write_ltr(full_trace(), (dir / "no folder/t.ltr").string());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kIo);
  std::filesystem::create_directory(dir / "taken.ltr");
  EXPECT_FALSE(write_ltr(full_trace(), (dir / "taken.ltr").string()));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"t.ltr", "taken.ltr"}));
}

// If this fails, sizes above one page, or columns of one page exactly, are misplaced.
TEST(Ltr, GivesBackALargerGeneratedTrace) {
  GenerateOptions options;
  options.requests = 100'003;
  options.adapters = 3001;
  options.duration_s_mean = 1;
  options.input_tokens_mean = 100;
  const auto trace = generate(options);
  ASSERT_TRUE(trace);
  expect_round_trip(*trace);
}

}  // namespace
}  // namespace loracle
