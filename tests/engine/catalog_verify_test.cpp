// SHA-256 of adapters' files: what tells a damaged adapter from a sound one.

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "engine/catalog_fakes.hpp"
#include "loracle/engine/catalog.hpp"
#include "loracle/engine/digest.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::ChangingFiles;
using testing::inspect_fake;
using testing::kNow;
using testing::open_storage;
using testing::put_adapter;
using testing::TempDir;

constexpr std::string_view kDigestOfNothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr std::string_view kDigestOfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
// FIPS 180-4's third example: a million times the letter a.
constexpr std::string_view kDigestOfMillion =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

// Digests would not compare with those of `sha256sum` and model hubs.
TEST(Digest, IsSha256AsOthersPrintIt) {
  EXPECT_EQ(sha256_hex(""), kDigestOfNothing);
  EXPECT_EQ(sha256_hex("abc"), kDigestOfAbc);
  const TempDir dir;
  EXPECT_EQ(digest_file(posix_files(), dir.write("empty", ""))->sha256, kDigestOfNothing);
  EXPECT_EQ(digest_file(posix_files(), dir.write("abc", "abc"))->sha256, kDigestOfAbc);
  EXPECT_EQ(digest_file(posix_files(), dir.write("million", std::string(1'000'000, 'a')))->sha256,
            kDigestOfMillion);
  EXPECT_EQ(digest_file(posix_files(), dir / "none").error().code, Errc::kNotFound);
}

// A file larger than the buffer would be digested only in part.
TEST(Digest, ReadsEveryByteOfALargeFile) {
  const TempDir dir;
  std::string bytes((3U << 20U) + 17, 'x');
  const std::string whole = digest_file(posix_files(), dir.write("f", bytes))->sha256;
  EXPECT_EQ(whole, sha256_hex(std::as_bytes(std::span(bytes))));
  for (const std::size_t at : {std::size_t{0}, std::size_t{1} << 20U, bytes.size() - 1}) {
    bytes[at] = 'y';
    EXPECT_NE(digest_file(posix_files(), dir.write("f", bytes))->sha256, whole) << at;
    bytes[at] = 'x';
  }
}

class VerifyFiles : public ::testing::Test {
 protected:
  VerifyFiles() : catalog_(std::move(*open_storage(":memory:"))) {
    put_adapter(files_, "/lora/a");
    const Result<ScanResult> found = scan(files_, {"/lora", {}, 1, kNow, {}}, inspect_fake);
    EXPECT_TRUE(found && catalog_.apply(*found));
  }
  CatalogRecord record() { return *catalog_.find("a"); }
  void record_digest() {
    const Verification first = verify_files(files_, record());
    ASSERT_EQ(first.verdict, FilesVerdict::kRecorded);
    ASSERT_TRUE(catalog_.set_digest({1}, 1, first.digest).has_value());
  }

  ChangingFiles files_;
  Catalog catalog_;
};

// Sound adapters would be reported, or never get a digest to be held against.
TEST_F(VerifyFiles, TheFirstReadIsRecordedAndLaterOnesAgree) {
  record_digest();
  EXPECT_EQ(record().digest.config, sha256_hex(std::as_bytes(std::span("r=8", 3))));
  EXPECT_EQ(verify_files(files_, record()).verdict, FilesVerdict::kIntact);
}

// Bit rot would be served as weights.
TEST_F(VerifyFiles, OtherBytesUnderTheSameStampAreDamage) {
  record_digest();
  const FileStat before = files_.stat_at("/lora/a/adapter_model.safetensors");
  files_.write("/lora/a/adapter_model.safetensors", "wEights");
  files_.stat_at("/lora/a/adapter_model.safetensors") = before;
  const Verification verification = verify_files(files_, record());
  EXPECT_EQ(verification.verdict, FilesVerdict::kDamaged);
  EXPECT_NE(verification.reason.find("adapter_model.safetensors"), std::string::npos);
}

// A republished adapter would be called damaged, or a lost one intact.
TEST_F(VerifyFiles, ChangedMissingAndUnreadableFilesAreToldApart) {
  record_digest();
  const CatalogRecord known = record();
  files_.fail_under = "/lora/a/adapter_model";
  EXPECT_EQ(verify_files(files_, known).verdict, FilesVerdict::kUnreadable);
  files_.fail_under.clear();
  files_.clock_ns += 1'000'000'000;
  files_.write("/lora/a/adapter_config.json", "r=9");
  EXPECT_EQ(verify_files(files_, known).verdict, FilesVerdict::kChanged);
  files_.remove("/lora/a/adapter_model.safetensors");
  EXPECT_EQ(verify_files(files_, known).verdict, FilesVerdict::kMissing);
}

}  // namespace
}  // namespace loracle
