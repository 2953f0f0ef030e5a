#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/engine/digest.hpp"
#include "loracle/engine/run_on_threads.hpp"
#include "loracle/storage/provider.hpp"
#include "storage/address_ranges.hpp"
#include "storage/loopback_server.hpp"
#include "storage/object_checksum.hpp"
#include "storage/part_digests.hpp"
#include "storage/retry.hpp"
#include "storage/storage_uri.hpp"
#include "storage/unique_fd.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

bool is_private(const char* text) {
  sockaddr_in four{};
  four.sin_family = AF_INET;
  if (::inet_pton(AF_INET, text, &four.sin_addr) == 1) {
    sockaddr any{};
    std::memcpy(&any, &four, sizeof any);
    return is_private_address(any);
  }
  sockaddr_storage storage{};
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  EXPECT_EQ(::inet_pton(AF_INET6, text, &six.sin6_addr), 1) << text;
  std::memcpy(&storage, &six, sizeof six);
  EXPECT_FALSE(text_of_address(reinterpret_cast<const sockaddr&>(storage)).empty());
  return is_private_address(reinterpret_cast<const sockaddr&>(storage));
}

// If this failed, a sound copy would be called corrupt when it is next verified, or a damaged one sound.
TEST(PartDigests, AreTheFilesWhateverTheOrderOfTheirParts) {
  const testing::TempDir folder;
  Rng rng(5);
  for (int round = 0; round < 30; ++round) {
    std::vector<std::string> texts;
    std::vector<UniqueFd> files;
    std::vector<int> descriptors;
    std::vector<FilePart> parts;
    for (std::size_t i = 0; i < 1 + rng.below(4); ++i) {
      std::string text(rng.below(4) == 0 ? 0 : rng.below(600'000), '\0');
      for (char& c : text) c = static_cast<char>(rng.below(256));
      const std::string path = folder.write(std::to_string(i), text);
      files.emplace_back(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      descriptors.push_back(files.back().get());
      for (std::uint64_t at = 0; at < text.size();) {
        const std::uint64_t length = std::min<std::uint64_t>(1 + rng.below(200'000), text.size() - at);
        parts.push_back({i, at, length});
        at += length;
      }
      texts.push_back(std::move(text));
    }
    std::vector<std::size_t> order(parts.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = i;
      std::swap(order[i], order[rng.below(static_cast<std::uint32_t>(i + 1))]);
    }
    PartDigests digests(descriptors, parts);
    run_on_threads(order.size(), 3, [&](std::size_t i) { digests.came(order[i]); });
    const Result<std::vector<std::string>> found = digests.finish();
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_EQ(found->size(), texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ((*found)[i], sha256_hex(texts[i])) << i;
  }
}

// If this failed, a file that cannot be read again would get a digest all the same.
TEST(PartDigests, AFileThatEndsEarlyIsAnError) {
  const testing::TempDir folder;
  const std::string path = folder.write("short", "abc");
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  const int descriptors[] = {file.get()};
  const FilePart parts[] = {{0, 0, 4}};
  PartDigests digests(descriptors, parts);
  digests.came(0);
  const Result<std::vector<std::string>> found = digests.finish();
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Errc::kIo);
}

// If this failed, a URL could lead into the cluster, to this machine, or to the cloud's metadata; or public
// servers could not be reached.
TEST(AddressRanges, TellPrivateFromPublic) {
  for (const char* const text : {"0.0.0.0",
                                 "0.255.255.255",
                                 "10.0.0.1",
                                 "10.255.255.255",
                                 "100.64.0.1",
                                 "100.100.100.200",
                                 "100.127.255.255",
                                 "127.0.0.1",
                                 "127.255.255.254",
                                 "169.254.169.254",
                                 "172.16.0.1",
                                 "172.31.255.255",
                                 "192.0.0.192",
                                 "192.0.2.1",
                                 "192.88.99.1",
                                 "192.168.1.1",
                                 "198.18.0.1",
                                 "198.19.255.255",
                                 "198.51.100.1",
                                 "203.0.113.1",
                                 "224.0.0.1",
                                 "240.0.0.1",
                                 "255.255.255.255",
                                 "::",
                                 "::1",
                                 "::127.0.0.1",
                                 "::ffff:127.0.0.1",
                                 "::ffff:10.1.2.3",
                                 "::ffff:169.254.169.254",
                                 "64:ff9b::7f00:1",
                                 "64:ff9b::a00:1",
                                 "64:ff9b:1::1",
                                 "100::1",
                                 "2001::1",
                                 "2001:db8::1",
                                 "2002:7f00:1::",
                                 "2002:a9fe:a9fe::",
                                 "3fff::1",
                                 "fc00::1",
                                 "fd00:ec2::254",
                                 "fe80::1",
                                 "febf::1",
                                 "fec0::1",
                                 "ff02::1"})
    EXPECT_TRUE(is_private(text)) << text;
  for (const char* const text :
       {"1.1.1.1",        "8.8.8.8",         "9.255.255.255",     "11.0.0.0",       "100.63.255.255",
        "100.128.0.0",    "126.255.255.255", "128.0.0.1",         "169.253.1.1",    "169.255.0.1",
        "172.15.255.255", "172.32.0.1",      "192.0.1.1",         "192.167.1.1",    "192.169.1.1",
        "198.17.1.1",     "198.20.1.1",      "223.255.255.255",   "::ffff:8.8.8.8", "64:ff9b::808:808",
        "2002:808:808::", "2600::1",         "2a00:1450:4001::1", "2606:4700::1111"})
    EXPECT_FALSE(is_private(text)) << text;
  sockaddr odd{};
  odd.sa_family = AF_UNIX;
  EXPECT_TRUE(is_private_address(odd));
}

// If this failed, clients that failed together would come back together, or wait for hours, or never give up.
TEST(Backoff, GrowsIsCappedAndGivesUp) {
  RetryOptions options;
  options.attempts_max = 8;
  options.first_delay_ms = 100;
  options.delay_ms_max = 1'000;
  std::set<std::uint32_t> first;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Backoff backoff(options, seed);
    std::uint32_t cap = 100;
    for (int attempt = 1; attempt < 8; ++attempt) {
      const auto delay = backoff.next_delay_ms();
      ASSERT_TRUE(delay);
      EXPECT_LE(*delay, std::min(cap, 1'000U));
      if (attempt == 1) first.insert(*delay);
      cap *= 2;
    }
    EXPECT_FALSE(backoff.next_delay_ms());
    EXPECT_EQ(backoff.attempts(), 8U);
  }
  EXPECT_GT(first.size(), 20U) << "no jitter";
  Backoff told(options, 1);
  EXPECT_GE(*told.next_delay_ms(700), 700U) << "the server said how long";
  EXPECT_LE(*told.next_delay_ms(50'000), 1'000U) << "but not for hours";
}

// If this failed, long downloads over a bad line would be given up, or a trickle would go on for ever.
TEST(Backoff, OnlyRealProgressStartsAnew) {
  RetryOptions options;
  options.attempts_max = 2;
  Backoff backoff(options, 1);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(backoff.next_delay_ms());
    backoff.progress(1U << 20U);
  }
  EXPECT_TRUE(backoff.next_delay_ms());
  backoff.progress(1'000);
  EXPECT_FALSE(backoff.next_delay_ms());
}

// If this failed, a checksum over pieces of any size would differ from the one over the whole, and good
// downloads would be thrown away.
TEST(ObjectChecksum, DoesNotDependOnThePieces) {
  const std::string bytes = testing::noise(10'000, 5);
  const auto span = std::as_bytes(std::span(bytes));
  for (const ChecksumKind kind : {ChecksumKind::kSha256, ChecksumKind::kSha1, ChecksumKind::kMd5,
                                  ChecksumKind::kCrc64Nvme, ChecksumKind::kCrc32c, ChecksumKind::kCrc32}) {
    const auto whole = make_checksum(kind);
    whole->add(span);
    const std::string expected = whole->finish();
    for (const std::size_t piece : {1U, 3U, 7U, 8U, 9U, 4'096U}) {
      const auto pieces = make_checksum(kind);
      for (std::size_t at = 0; at < span.size(); at += piece)
        pieces->add(span.subspan(at, std::min(piece, span.size() - at)));
      EXPECT_EQ(pieces->finish(), expected) << name_of(kind) << " in pieces of " << piece;
    }
  }
}

// If this failed, every large object that was uploaded in parts would be called damaged.
TEST(ObjectChecksum, ChecksumsOfChecksumsAreNotUsed) {
  EXPECT_FALSE(checksum_of_object({{"x-amz-checksum-crc32", "y/Q5Jg==-3"}}));
  EXPECT_FALSE(
      checksum_of_object({{"x-amz-checksum-crc32", "y/Q5Jg=="}, {"x-amz-checksum-type", "COMPOSITE"}}));
  EXPECT_TRUE(
      checksum_of_object({{"x-amz-checksum-crc32", "y/Q5Jg=="}, {"x-amz-checksum-type", "FULL_OBJECT"}}));
  EXPECT_FALSE(checksum_of_object({{"etag", "\"25f9e794323b453885f5181f1b624d0b\""}}));
}

// If this failed, signatures in URLs would be written into logs.
TEST(StorageUri, ShowsNoSecrets) {
  EXPECT_EQ(shown_uri("https://u:p@host/a/b?sig=s#f"), "https://host/a/b");
  EXPECT_EQ(shown_uri("https://host?sig=s"), "https://host");
  EXPECT_EQ(shown_uri("s3://bucket/a?b#c"), "s3://bucket/a?b#c");
  EXPECT_EQ(shown_uri("/srv/a?b"), "/srv/a?b");
}

// If this failed, keys with blanks, plus signs or other scripts could not be read.
TEST(StorageUri, EncodesEverythingButTheUnreserved) {
  EXPECT_EQ(percent_encoded("aZ09-._~/ +%\xC3\xBC", true), "aZ09-._~/%20%2B%25%C3%BC");
  EXPECT_EQ(percent_encoded("a/b", false), "a%2Fb");
  EXPECT_EQ(parse_s3_uri("s3://b/a%20b?c#d")->key, "a%20b?c#d");
  EXPECT_EQ(parse_s3_uri("s3://b")->key, "");
}

// If this failed, a URI would go to a provider that reads it as something else.
TEST(ProviderOf, ChoosesByScheme) {
  const auto file = make_file_storage({});
  HttpStorageOptions http;
  const auto https = make_http_storage("https", http);
  ASSERT_TRUE(file && https);
  const std::array<StorageProvider*, 2> providers = {file->get(), https->get()};
  EXPECT_EQ(provider_of(providers, "/srv/a").value(), file->get());
  EXPECT_EQ(provider_of(providers, "relative/a").value(), file->get());
  EXPECT_EQ(provider_of(providers, "file:///srv/a").value(), file->get());
  EXPECT_EQ(provider_of(providers, "https://host/a").value(), https->get());
  const auto none = provider_of(providers, "gs://bucket/a");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kUnsupported);
  EXPECT_NE(none.error().message.find("file:// https://"), std::string::npos) << none.error().message;
}

}  // namespace
}  // namespace loracle
