// Manifests, and fetching in parts.

#include "loracle/storage/fetch_adapter.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::FakeProvider;
using testing::files_in;
using testing::open_descriptors;

constexpr const char* kUri = "fake://bucket/a";

class FetchAdapterTest : public ::testing::Test {
 protected:
  FetchAdapterTest() {
    Rng rng(1);
    files_ = {{"adapter_config.json", "{}"},
              {"adapter_model.safetensors", testing::random_text(rng, 100'001)}};
    for (const auto& [name, bytes] : files_) provider_.put(std::string(kUri) + "/" + name, bytes);
    fs::create_directory(into());
  }
  [[nodiscard]] fs::path into() const { return folder_ / "into"; }
  [[nodiscard]] Result<Unit> fetch(const FetchAdapterOptions& options = {}) {
    fs::remove_all(into());
    fs::create_directory(into());
    const Result<AdapterManifest> manifest = adapter_manifest(provider_, kUri);
    if (!manifest) return fail(manifest.error());
    return fetch_adapter(provider_, kUri, *manifest, into().string(), options);
  }

  testing::TempDir folder_;
  FakeProvider provider_;
  std::map<std::string, std::string> files_;
};

// If this failed, a bucket's other files would be fetched, or an adapter would lack one of its own.
TEST_F(FetchAdapterTest, AManifestHasWhatAnAdapterIsMadeOf) {
  const std::string uri = kUri;
  for (const char* name : {"/README.md", "/adapter_model.bin", "/optimizer.pt", "/inner/adapter_config.json"})
    provider_.put(uri + name, "x");
  Result<AdapterManifest> manifest = adapter_manifest(provider_, uri);
  ASSERT_TRUE(manifest) << manifest.error().message;
  ASSERT_EQ(manifest->files.size(), 2U);
  EXPECT_EQ(manifest->files[0].name, "adapter_config.json");
  EXPECT_EQ(manifest->files[1].name, "adapter_model.safetensors");
  EXPECT_EQ(manifest->bytes, 100'003U);
  const std::string content = manifest->content;
  EXPECT_EQ(content.size(), 64U);
  EXPECT_EQ(adapter_manifest(provider_, uri + "//")->content, content);
  provider_.can_list = false;  // asked for each instead: the same answer
  EXPECT_EQ(adapter_manifest(provider_, uri)->content, content);
  EXPECT_EQ(provider_.stats, 3U);
  provider_.put(uri + "/new_embeddings.safetensors", "x");
  EXPECT_EQ(adapter_manifest(provider_, uri)->files.size(), 3U);
  EXPECT_NE(adapter_manifest(provider_, uri)->content, content);
  provider_.remove(uri + "/adapter_model.safetensors");
  EXPECT_EQ(adapter_manifest(provider_, uri)->files[1].name, "adapter_model.bin");
  provider_.remove(uri + "/adapter_model.bin");
  EXPECT_EQ(adapter_manifest(provider_, uri).error().code, Errc::kNotFound);
  provider_.can_list = true;
  EXPECT_NE(adapter_manifest(provider_, uri).error().message.find("adapter_model.safetensors"),
            std::string::npos);
  provider_.remove(uri + "/adapter_config.json");
  EXPECT_NE(adapter_manifest(provider_, uri).error().message.find("adapter_config.json"), std::string::npos);
  EXPECT_EQ(adapter_manifest(provider_, "fake://bucket/none").error().code, Errc::kNotFound);
}

// If this failed, two adapters whose server makes etags of time and size would be taken for each other.
TEST_F(FetchAdapterTest, ContentsOfDifferentUrisAreDifferent) {
  FakeProvider other;
  for (const auto& [name, bytes] : files_) {
    provider_.put("fake://bucket/b/" + name, bytes);
    other.put(std::string(kUri) + "/" + name, bytes);
  }
  EXPECT_NE(adapter_manifest(provider_, "fake://bucket/b")->content,
            adapter_manifest(provider_, kUri)->content);
  EXPECT_EQ(adapter_manifest(other, kUri)->content, adapter_manifest(provider_, kUri)->content);
  provider_.put(std::string(kUri) + "/adapter_config.json", "{}");
  EXPECT_NE(adapter_manifest(other, kUri)->content, adapter_manifest(provider_, kUri)->content)
      << "a new etag";
}

// If this failed, a fetched adapter would not be the one that lies there.
TEST_F(FetchAdapterTest, FetchesEveryByteWhateverTheParts) {
  provider_.put(std::string(kUri) + "/new_embeddings.safetensors", "");
  files_["new_embeddings.safetensors"] = "";
  for (const std::uint64_t part_bytes : {999ULL, 100'001ULL, 1ULL << 30U}) {
    for (const std::uint32_t at_once : {1U, 4U, 64U}) {
      FetchAdapterOptions options;
      options.part_bytes = part_bytes;
      options.parts_at_once = at_once;
      const Result<Unit> done = fetch(options);
      ASSERT_TRUE(done) << done.error().message;
      ASSERT_EQ(files_in(into()), files_);
    }
  }
  const Result<Unit> refused =
      fetch_adapter(provider_, kUri, *adapter_manifest(provider_, kUri), into().string());
  ASSERT_FALSE(refused) << "nothing is overwritten";
  EXPECT_EQ(refused.error().detail, EEXIST);
}

// If this failed, one slow connection would bound the pace of all.
TEST_F(FetchAdapterTest, PartsComeAtOnce) {
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  provider_.on_call = [&](std::string_view call, const std::string&) -> std::optional<Error> {
    if (call != "fetch") return std::nullopt;
    const int mine = ++now;
    for (int seen = most; mine > seen && !most.compare_exchange_weak(seen, mine);) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    --now;
    return std::nullopt;
  };
  FetchAdapterOptions options;
  options.part_bytes = 10'000;
  options.parts_at_once = 3;
  ASSERT_TRUE(fetch(options));
  EXPECT_EQ(most, 3);
}

// If this failed, an error of one part would be waited for by all others, or be lost.
TEST_F(FetchAdapterTest, TheFirstErrorEndsAllParts) {
  FetchAdapterOptions options;
  options.part_bytes = 1000;
  std::atomic<int> calls = 0;
  provider_.on_call = [&](std::string_view call, const std::string& uri) -> std::optional<Error> {
    if (call != "fetch") return std::nullopt;
    const int mine = ++calls;
    if (mine == 5) return Error{Errc::kIo, uri + ": went down", 503};
    if (mine > 5) std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the error is told first
    return std::nullopt;
  };
  const std::size_t before = open_descriptors();
  const Result<Unit> done = fetch(options);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kIo);
  EXPECT_EQ(done.error().detail, 503);
  EXPECT_LT(calls, 12) << "of 102 parts";
  EXPECT_EQ(open_descriptors(), before);
}

// If this failed, half of one version and half of another would be served as an adapter.
TEST_F(FetchAdapterTest, NeitherChangesNorCutsPass) {
  FetchAdapterOptions options;
  options.part_bytes = 10'000;
  std::atomic<int> parts = 0;
  provider_.on_call = [&](std::string_view call, const std::string& uri) -> std::optional<Error> {
    // Whoever asks for the fifth part is given the new version of it.
    if (call == "fetch" && uri.ends_with(".safetensors") && ++parts == 5)
      provider_.put(uri, std::string(100'001, 'n'));
    return std::nullopt;
  };
  const Result<Unit> mixed = fetch(options);
  ASSERT_FALSE(mixed);
  EXPECT_EQ(mixed.error().code, Errc::kCorrupt);
  provider_.on_call = nullptr;
  EXPECT_TRUE(fetch(options));
  provider_.shorten = [](std::uint64_t length) { return length - 1; };
  EXPECT_EQ(fetch(options).error().code, Errc::kCorrupt);
  provider_.shorten = [](std::uint64_t) { return std::uint64_t{0}; };
  EXPECT_EQ(fetch(options).error().code, Errc::kCorrupt);
}

// If this failed, a limit on threads would end the server in the middle of a download.
TEST_F(FetchAdapterTest, GoesOnWithTheThreadsThereAre) {
  pthread_attr_t usual{};
  pthread_attr_t huge{};
  ASSERT_EQ(::pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(::pthread_attr_init(&huge), 0);
  ASSERT_EQ(::pthread_attr_setstacksize(&huge, std::size_t{1} << 47U), 0);  // more than there are addresses
  ASSERT_EQ(::pthread_setattr_default_np(&huge), 0);
  FetchAdapterOptions options;
  options.part_bytes = 1000;
  const Result<Unit> done = fetch(options);
  ASSERT_EQ(::pthread_setattr_default_np(&usual), 0);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(files_in(into()), files_);
}

// If this failed, an adapter on a server that knows no ranges could not be fetched, or would be sent once for
// each of its parts.
TEST_F(FetchAdapterTest, WithoutRangesEachFileIsOnePart) {
  provider_.knows_ranges = false;
  FetchAdapterOptions options;
  options.part_bytes = 1000;
  const Result<Unit> done = fetch(options);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(files_in(into()), files_);
  EXPECT_LT(provider_.fetches, 12U) << "of 102 parts";
}

// If this failed, parts of two versions would be put together and be taken for an adapter.
TEST_F(FetchAdapterTest, WhatHasNoVersionIsNotFetched) {
  provider_.has_etags = false;
  const Result<AdapterManifest> refused = adapter_manifest(provider_, kUri);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kUnsupported);
  EXPECT_NE(refused.error().message.find("adapter_config.json"), std::string::npos);
}

// If this failed, a signed URL would be cut in the middle and its secret be shown, in an error about a file
// that nobody has asked for.
TEST_F(FetchAdapterTest, AUrlWithAQueryNamesNoAdapter) {
  for (const std::string end : {"?token=secret", "#secret"}) {
    const Result<AdapterManifest> refused = adapter_manifest(provider_, "https://host/adapters/a" + end);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kInvalid);
    EXPECT_EQ(refused.error().message.find("secret"), std::string::npos) << refused.error().message;
    EXPECT_NE(refused.error().message.find("https://host/adapters/a"), std::string::npos);
  }
  provider_.put("fake://bucket/what?/adapter_config.json", "{}");
  provider_.put("fake://bucket/what?/adapter_model.safetensors", "w");
  EXPECT_TRUE(adapter_manifest(provider_, "fake://bucket/what?")) << "in a key of S3 it is a letter";
}

// If this failed, servers that answer "forbidden" for what is not there could serve no adapter.
TEST_F(FetchAdapterTest, AForbiddenFileIsAnAbsentOneOnceTheConfigWasHad) {
  provider_.can_list = false;
  provider_.remove(std::string(kUri) + "/adapter_model.safetensors");
  provider_.put(std::string(kUri) + "/adapter_model.bin", "weights");
  std::string served = "adapter_model.bin";
  provider_.on_call = [&](std::string_view, const std::string& uri) -> std::optional<Error> {
    if (uri.ends_with("config.json") || uri.ends_with(served)) return std::nullopt;
    return Error{Errc::kIo, uri + ": forbidden", 403};
  };
  const Result<AdapterManifest> manifest = adapter_manifest(provider_, kUri);
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_EQ(manifest->files.size(), 2U);
  served = "nothing";
  const Result<AdapterManifest> without = adapter_manifest(provider_, kUri);
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().code, Errc::kNotFound);
  EXPECT_NE(without.error().message.find("403"), std::string::npos) << without.error().message;
  provider_.on_call = [&](std::string_view, const std::string& uri) -> std::optional<Error> {
    return Error{Errc::kIo, uri + ": forbidden", 403};
  };
  EXPECT_EQ(adapter_manifest(provider_, kUri).error().detail, 403) << "of the config it is an answer";
}

// If this failed, a URI that leads to a huge file would fill the disk.
TEST_F(FetchAdapterTest, RefusesWhatIsTooLargeBeforeItsFirstByte) {
  FetchAdapterOptions options;
  options.file_bytes_max = 100'000;
  const Result<Unit> refused = fetch(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kTooLarge);
  EXPECT_EQ(provider_.fetches, 0U);
  options = {};
  options.part_bytes = 0;
  EXPECT_EQ(fetch(options).error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace loracle
