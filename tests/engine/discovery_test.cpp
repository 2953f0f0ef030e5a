// What a scan finds, refuses and passes over; and that names cannot leave their directory.

#include "loracle/engine/discovery.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/catalog_fakes.hpp"
#include "loracle/engine/catalog.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::ChangingFiles;
using testing::inspect_fake;
using testing::kNow;
using testing::names_in;
using testing::open_storage;
using testing::put_adapter;
using testing::TempDir;

ScanOptions lora(unsigned threads = 1) { return {"/lora", {}, threads, kNow, {}}; }

// An adapter would not be served, or one that cannot be served would be offered.
TEST(Discovery, FindsTheSoundListsTheBadAndPassesOverTheRest) {
  ChangingFiles files;
  put_adapter(files, "/lora/good");
  put_adapter(files, "/lora/refused", "bad");
  put_adapter(files, "/lora/.hidden");
  files.write("/lora/torch/adapter_config.json", "r=4");
  files.write("/lora/torch/adapter_model.bin", "w");
  files.write("/lora/no-weights/adapter_config.json", "r=4");
  files.write("/lora/no-config/adapter_model.safetensors", "w");
  files.write("/lora/no-config-torch/adapter_model.bin", "w");
  files.write("/lora/notes/README.md", "hello");
  files.make_directory("/lora/empty");
  files.write("/lora/adapter_config.json", "r=1");  // a file beside the adapters
  files.make_other("/lora/pipe");
  const Result<ScanResult> result = scan(files, lora(), inspect_fake);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(names_in(result->found), "good torch");
  EXPECT_EQ(names_in(result->rejected), "no-config no-config-torch no-weights refused");
  EXPECT_EQ(result->passed_over, 2U);
  EXPECT_TRUE(result->unchanged.empty());
  for (const Rejection& rejection : result->rejected) {
    EXPECT_EQ(rejection.directory, "/lora/" + rejection.name);
    EXPECT_TRUE(rejection.reason.starts_with(rejection.directory)) << rejection.reason;
  }
  EXPECT_NE(result->rejected[0].reason.find("no adapter_config.json"), std::string::npos);
  EXPECT_EQ(result->found[1].facts.format, WeightFormat::kTorchZip);
  EXPECT_EQ(result->found[0].facts.rank, 8U);
}

// Two runs over the same files would deal out different ids.
TEST(Discovery, TheNumberOfThreadsDoesNotShow) {
  ChangingFiles files;
  for (int i = 0; i < 300; ++i) {
    const std::string rank = "r=" + std::to_string(1 + i % 7);
    put_adapter(files, "/lora/a" + std::to_string(i), i % 11 == 0 ? "bad" : rank);
  }
  const Result<ScanResult> one = scan(files, lora(1), inspect_fake);
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(one->shapes.size(), 7U);
  for (const unsigned threads : {0U, 2U, 8U, 64U}) {
    const Result<ScanResult> many = scan(files, lora(threads), inspect_fake);
    ASSERT_TRUE(many.has_value());
    EXPECT_EQ(names_in(many->found), names_in(one->found));
    EXPECT_EQ(many->rejected, one->rejected);
    ASSERT_EQ(many->shapes.size(), one->shapes.size());
    for (std::size_t i = 0; i < one->shapes.size(); ++i) {
      EXPECT_EQ(many->shapes[i].digest, one->shapes[i].digest);
      EXPECT_EQ(many->shapes[i].modules, one->shapes[i].modules);
    }
    for (std::size_t i = 0; i < one->found.size(); ++i) EXPECT_EQ(many->found[i].shape, one->found[i].shape);
  }
}

// A mistyped path would look like a storage where everything is gone, and everything would vanish.
TEST(Discovery, ARootThatCannotBeListedIsAnError) {
  ChangingFiles files;
  EXPECT_EQ(scan(files, lora(), inspect_fake).error().code, Errc::kNotFound);
  files.make_directory("/lora");
  EXPECT_TRUE(scan(files, lora(), inspect_fake)->found.empty());
  files.fail_under = "/lora";
  EXPECT_EQ(scan(files, lora(), inspect_fake).error().code, Errc::kIo);
}

// Different shapes would share a row and plans be made for wrong sizes.
TEST(Discovery, ShapesDifferByEveryPartOfAModule) {
  AdapterFiles adapter;
  adapter.modules = {{"m", 8, 64, 32, 1, {}, {}}};
  const std::string digest = shape_of(adapter).digest;
  EXPECT_EQ(digest.size(), 64U);
  adapter.modules[0].scaling = 2;
  EXPECT_EQ(shape_of(adapter).digest, digest) << "scaling is no part of the shape";
  for (const LoraModule& other :
       {LoraModule{"n", 8, 64, 32, 1, {}, {}}, LoraModule{"m", 9, 64, 32, 1, {}, {}},
        LoraModule{"m", 8, 65, 32, 1, {}, {}}, LoraModule{"m", 8, 64, 33, 1, {}, {}},
        LoraModule{"m", 8, 32, 64, 1, {}, {}}}) {
    adapter.modules = {other};
    EXPECT_NE(shape_of(adapter).digest, digest);
  }
}

// A crafted name would reach outside the root, or forge lines of logs and listings.
TEST(Discovery, NamesThatCouldEscapeOrForgeAreRefused) {
  using namespace std::string_literals;
  const std::vector<std::string> bad = {""s,
                                        "."s,
                                        ".."s,
                                        "../x"s,
                                        "a/b"s,
                                        "/abs"s,
                                        "nul\0name"s,
                                        "line\nfeed"s,
                                        "tab\t"s,
                                        "\x1b[31mred"s,
                                        "del\x7f"s,
                                        "c1\xc2\x85"s,
                                        ".hidden"s,
                                        "latin\xe9"s,
                                        "cut\xe2\x82"s,
                                        "overlong\xc0\xaf"s,
                                        "overlong\xe0\x80\xaf"s,
                                        "surrogate\xed\xa0\x80"s,
                                        "large\xf4\x90\x80\x80"s,
                                        "\xff\xfe"s,
                                        std::string(256, 'a')};
  for (const std::string& name : bad) {
    const Result<Unit> checked = check_adapter_name(name);
    ASSERT_FALSE(checked.has_value()) << name;
    EXPECT_EQ(checked.error().code, Errc::kInvalid);
    for (const char c : checked.error().message) ASSERT_TRUE(c >= 0x20 && c < 0x7F) << name;
  }
  for (const std::string& name : {"a"s, "a..b"s, "My Adapter (v1.2)"s, "日本語"s, "é\xc2\xa0"s,
                                  "\xf0\x9f\x8e\xb2"s, "back\\slash"s, std::string(255, 'a')})
    EXPECT_TRUE(check_adapter_name(name).has_value()) << name;
}

// One directory with a hostile name would stop a scan of thousands.
TEST(Discovery, ADirectoryWithABadNameIsARejectionAmongOthers) {
  const TempDir dir;
  for (const char* name : {"good", "line\nfeed", "latin\xe9", "esc\x1b[0m"}) {
    std::filesystem::create_directory(dir / name);
    dir.write(std::string(name) + "/adapter_config.json", "r=8");
    dir.write(std::string(name) + "/adapter_model.safetensors", "w");
  }
  const Result<ScanResult> result =
      scan(posix_files(), {dir.path().string() + "//", {}, 2, kNow, {}}, inspect_fake);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(names_in(result->found), "good");
  EXPECT_EQ(result->found[0].facts.directory, (dir / "good").string()) << "no doubled slashes";
  ASSERT_EQ(result->rejected.size(), 3U);
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_TRUE(catalog.has_value());
  ASSERT_TRUE(catalog->apply(*result).has_value());
  EXPECT_EQ(catalog->rejections()->size(), 3U);
}

}  // namespace
}  // namespace loracle
