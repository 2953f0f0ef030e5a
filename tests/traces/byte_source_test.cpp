#include "../../traces/src/byte_source.hpp"

#include <gtest/gtest.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/memory_file.hpp"
#include "loracle/core/rng.hpp"
#include "support/shared_data.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::MemoryFile;
using testing::TempDir;

std::string gzipped(std::string_view text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, static_cast<uLong>(text.size())) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd_compressed(std::string_view text, int window_bits = 0) {
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  if (window_bits != 0) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_bits);
  std::string out(ZSTD_compressBound(text.size()), '\0');
  ZSTD_inBuffer in{text.data(), text.size(), 0};
  ZSTD_outBuffer target{out.data(), out.size(), 0};
  // Two calls, so that the size is not known at the start and the window stands in the header.
  ZSTD_inBuffer none{nullptr, 0, 0};
  EXPECT_FALSE(ZSTD_isError(ZSTD_compressStream2(context, &target, &in, ZSTD_e_continue)));
  EXPECT_EQ(ZSTD_compressStream2(context, &target, &none, ZSTD_e_end), 0U);
  ZSTD_freeCCtx(context);
  out.resize(target.pos);
  return out;
}

std::string xz_compressed(std::string_view text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, nullptr,
                                    reinterpret_cast<const std::uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

std::string compressed(std::string_view kind, std::string_view text) {
  if (kind == "gzip") return gzipped(text);
  if (kind == "zstd") return zstd_compressed(text);
  if (kind == "xz") return xz_compressed(text);
  return std::string(text);
}

/// Text that compresses badly, so that the compressed form is longer than a window too.
std::string noise(std::size_t bytes) {
  Rng rng(7);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(' ' + static_cast<char>(rng.below(90)));
  return text;
}

struct Outcome {
  std::string bytes;
  Error error;
  bool failed = false;
};
Outcome read_all(const std::string& path, std::size_t step = 65536) {
  Outcome outcome;
  Result<ByteSource> source = ByteSource::open(path);
  if (!source) return {"", source.error(), true};
  std::string part(step, '\0');
  for (;;) {
    const Result<std::size_t> got = source->read(part);
    if (!got) return {outcome.bytes, got.error(), true};
    outcome.bytes.append(part, 0, *got);
    if (*got < step) return outcome;
  }
}

class EveryCompression : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Formats, EveryCompression, ::testing::Values("plain", "gzip", "zstd", "xz"));
class RealCompression : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Formats, RealCompression, ::testing::Values("gzip", "zstd", "xz"));

// If this fails, a trace reads differently compressed than plain, or its name matters.
TEST_P(EveryCompression, GivesThePlainBytesWhateverTheNameSays) {
  const TempDir dir;
  const std::string text = noise(700'001);
  const std::string path = dir.write("trace.csv", compressed(GetParam(), text));
  for (const std::size_t step : {std::size_t{1} << 20U, std::size_t{65536}, std::size_t{777}}) {
    const Outcome outcome = read_all(path, step);
    EXPECT_FALSE(outcome.failed) << outcome.error.message;
    EXPECT_TRUE(outcome.bytes == text) << "in steps of " << step;
  }
  EXPECT_STREQ(ByteSource::open(path)->compression(), GetParam());
}

// If this fails, a file of no content is an error, or a compressed nothing is read as garbage.
TEST_P(EveryCompression, ReadsAnEmptyFileAsNothing) {
  const TempDir dir;
  const Outcome outcome = read_all(dir.write("empty", compressed(GetParam(), "")), 16);
  EXPECT_FALSE(outcome.failed) << outcome.error.message;
  EXPECT_EQ(outcome.bytes, "");
}

// If this fails, logs that were rotated with `cat a.gz b.gz` end after their first part.
TEST_P(RealCompression, ReadsConcatenatedStreamsToTheEnd) {
  const TempDir dir;
  const std::string one = noise(1000);
  const std::string path = dir.write(
      "x", compressed(GetParam(), one) + compressed(GetParam(), "") + compressed(GetParam(), "the end"));
  for (const std::size_t step : {1U, 1000U, 4096U}) {
    const Outcome outcome = read_all(path, step);
    EXPECT_FALSE(outcome.failed) << outcome.error.message;
    EXPECT_EQ(outcome.bytes, one + "the end");
  }
}

// If this fails, half a download counts as a whole trace.
TEST_P(RealCompression, RefusesEveryTruncation) {
  const std::string whole = compressed(GetParam(), noise(300));
  for (std::size_t length = 6; length < whole.size(); ++length) {
    const Outcome outcome = read_all(MemoryFile(whole.substr(0, length)).path());
    ASSERT_TRUE(outcome.failed) << length << " of " << whole.size();
    ASSERT_EQ(outcome.error.code, Errc::kCorrupt);
    ASSERT_NE(outcome.error.message.find("after " + std::to_string(length) + " bytes"), std::string::npos)
        << outcome.error.message;
  }
}

// If this fails, a second stream that was cut off is taken for the end.
TEST_P(RealCompression, RefusesATruncatedSecondStream) {
  const std::string one = compressed(GetParam(), "one");
  const std::string two = compressed(GetParam(), noise(200));
  for (std::size_t length = 1; length < two.size(); ++length) {
    const Outcome outcome = read_all(MemoryFile(one + two.substr(0, length)).path());
    ASSERT_TRUE(outcome.failed) << length << " of " << two.size();
    ASSERT_EQ(outcome.error.code, Errc::kCorrupt);
  }
}

// If this fails, a flipped bit goes by unseen although the format has a checksum for it.
TEST_P(RealCompression, RefusesDamagedData) {
  const TempDir dir;
  std::string bytes = compressed(GetParam(), noise(5000));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x10);
  const std::string path = dir.write("x", bytes);
  const Outcome outcome = read_all(path);
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.error.code, Errc::kCorrupt) << outcome.error.message;
  EXPECT_EQ(outcome.error.message.find(path), 0U) << outcome.error.message;
}

// If this fails, a caller that reads on after an error gets bytes from the middle of nowhere.
TEST(ByteSource, StaysFailedOnceItFailed) {
  const TempDir dir;
  const std::string whole = gzipped(noise(5000));
  Result<ByteSource> source = ByteSource::open(dir.write("x", whole.substr(0, whole.size() / 2)));
  ASSERT_TRUE(source);
  std::string part(1 << 16, '\0');
  ASSERT_FALSE(source->read(part));
  ASSERT_FALSE(source->read(part));
}

// If this fails, gzip files from tapes and block devices are refused, or rubbish behind a stream is ignored.
TEST(ByteSource, PassesOverZerosAfterGzipButNotOverRubbish) {
  const TempDir dir;
  const Outcome padded = read_all(dir.write("a", gzipped("text") + std::string(600'000, '\0')));
  EXPECT_FALSE(padded.failed) << padded.error.message;
  EXPECT_EQ(padded.bytes, "text");
  EXPECT_TRUE(read_all(dir.write("b", gzipped("text") + "rubbish")).failed);
  EXPECT_TRUE(read_all(dir.write("c", gzipped("text") + std::string(600'000, '\0') + "x")).failed);
}

// If this fails, files made by `zstd --long=27` cannot be read without a flag.
TEST(ByteSource, ReadsLongZstdWindows) {
  const TempDir dir;
  const std::string text = noise(3000);
  const Outcome outcome = read_all(dir.write("x", zstd_compressed(text, 27)));
  EXPECT_FALSE(outcome.failed) << outcome.error.message;
  EXPECT_EQ(outcome.bytes, text);
}

// If this fails, a file of a few bytes can make us allocate 2 GiB.
TEST(ByteSource, RefusesAZstdWindowOfTwoGibibytes) {
  const TempDir dir;
  std::string bytes = zstd_compressed(noise(3000), 27);
  ASSERT_EQ(bytes[5], static_cast<char>((27 - 10) << 3)) << "window descriptor";
  bytes[5] = static_cast<char>((31 - 10) << 3);
  const Outcome outcome = read_all(dir.write("x", bytes));
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.error.code, Errc::kTooLarge) << outcome.error.message;
}

// If this fails, output of pzstd, which begins with a skippable frame, is read as if it were plain.
TEST(ByteSource, ReadsZstdBehindASkippableFrame) {
  const TempDir dir;
  const std::string skippable("\x50\x2A\x4D\x18\x04\x00\x00\x00\x01\x02\x03\x04", 12);
  const Outcome outcome = read_all(dir.write("x", skippable + zstd_compressed("text")));
  EXPECT_FALSE(outcome.failed) << outcome.error.message;
  EXPECT_EQ(outcome.bytes, "text");
}

// If this fails, readers that map would see compressed bytes, or the mapping dies with the source.
TEST(ByteSource, MapsPlainFilesOnly) {
  const TempDir dir;
  ByteSource::Mapping mapping;
  {
    const Result<ByteSource> source = ByteSource::open(dir.write("plain", "hello"));
    ASSERT_TRUE(source);
    mapping = source->mapping();
  }
  EXPECT_EQ(std::string_view(mapping.bytes.data(), mapping.bytes.size()), "hello");
  EXPECT_TRUE(ByteSource::open(dir.write("gz", gzipped("hello")))->mapping().bytes.empty());
  EXPECT_TRUE(ByteSource::open(dir.write("empty", ""))->mapping().bytes.empty());
}

// If this fails, a typing mistake in a path is not told apart from a broken disk.
TEST(ByteSource, SaysWhyAFileCannotBeOpened) {
  const TempDir dir;
  const Result<ByteSource> absent = ByteSource::open((dir / "absent").string());
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, Errc::kNotFound);
  const Result<ByteSource> folder = ByteSource::open(dir.path().string());
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, Errc::kIo);
  EXPECT_EQ(folder.error().detail, EISDIR);
}

// If this fails, real published files of each kind cannot be read.
TEST(ByteSource, ReadsPublishedFiles) {
  LORACLE_SHARED_FILE(folder, "traces");
  const auto size_of = [&](const char* name) {
    const Outcome outcome = read_all((folder / name).string());
    EXPECT_FALSE(outcome.failed) << outcome.error.message;
    return outcome.bytes.size();
  };
  EXPECT_EQ(size_of("libcachesim/cloudPhysicsIO.oracleGeneral.zst"), 113'872U * 24);
  EXPECT_GT(size_of("cache2k/web12.trace.xz"), 0U);
  EXPECT_GT(size_of("azure_llm2023/AzureLLMInferenceTrace_conv.csv.gz"), 0U);
  EXPECT_GT(size_of("kvcache_tester/claude_code_sessions.tar.zst"), 0U);
}

}  // namespace
}  // namespace loracle
