#include "loracle/engine/make_adapters.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "loracle/engine/image.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::TempDir;

MakeAdaptersOptions tiny(const TempDir& dir, const std::string& folder = "adapters") {
  MakeAdaptersOptions options;
  options.directory = (dir / folder).string();
  options.names = {"a", "b", "c"};
  options.model = *known_model("tiny");
  return options;
}

/// Every file under a folder: its path from there, and its bytes.
std::map<std::string, std::string> snapshot(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    files[std::filesystem::relative(entry.path(), folder).string()] = {std::istreambuf_iterator<char>(in),
                                                                       {}};
  }
  return files;
}

MadeAdapters made(const MakeAdaptersOptions& options) {
  const auto result = make_adapters(options);
  EXPECT_TRUE(result) << result.error().message;
  return result.value_or(MadeAdapters{});
}

// Broken: what we write for others to test with is itself refused, in some dtype or format.
TEST(MakeAdapters, WritesAdaptersThatPassInspection) {
  const TempDir dir;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kF8E4M3, Dtype::kF8E5M2}) {
    MakeAdaptersOptions options = tiny(dir, std::string(name_of(dtype)));
    options.dtype = dtype;
    options.ranks = {8, 64};
    const MadeAdapters result = made(options);
    EXPECT_EQ(result.made, 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto adapter = inspect_adapter(posix_files(), options.directory + "/" + options.names[i], {});
      ASSERT_TRUE(adapter) << adapter.error().message;
      EXPECT_EQ(adapter->modules.size(), 14U) << "two layers of seven";
      EXPECT_EQ(adapter->rank_max, i == 1 ? 64U : 8U);
      EXPECT_EQ(adapter->dtype, dtype);
      EXPECT_EQ(adapter->image_bytes(dtype),
                lora_bytes(*target_modules(options.model, "auto"), adapter->rank_max, bytes_of(dtype)).value);
    }
  }
}

// Broken: two machines that make "the same" adapters compare different bytes.
TEST(MakeAdapters, WritesTheSameBytesForTheSameSeedAndName) {
  const TempDir dir;
  for (const WeightFormat format : {WeightFormat::kSafetensors, WeightFormat::kTorchZip}) {
    const std::string suffix(name_of(format));
    MakeAdaptersOptions options = tiny(dir, "1" + suffix);
    options.format = format;
    made(options);
    const auto first = snapshot(options.directory);
    options.directory = (dir / ("2" + suffix)).string();
    std::swap(options.names[0], options.names[2]);
    made(options);
    EXPECT_EQ(snapshot(options.directory), first);
    EXPECT_NE(first.begin()->second, "");
    options.directory = (dir / ("3" + suffix)).string();
    options.seed = 2;
    made(options);
    EXPECT_NE(snapshot(options.directory), first);
  }
}

// Broken: a second run makes everything again, or takes a stranger's directory for its own.
TEST(MakeAdapters, LeavesWholeAdaptersAloneAndRefusesAnythingElse) {
  const TempDir dir;
  MakeAdaptersOptions options = tiny(dir);
  made(options);
  std::filesystem::remove_all(options.directory + "/b");
  const auto before = std::filesystem::last_write_time(options.directory + "/a/adapter_model.safetensors");
  const MadeAdapters again = made(options);
  EXPECT_EQ(again.made, 1U);
  EXPECT_EQ(again.kept, 2U);
  EXPECT_EQ(std::filesystem::last_write_time(options.directory + "/a/adapter_model.safetensors"), before);

  std::ofstream(options.directory + "/a/adapter_model.safetensors") << "not an adapter any more";
  const auto refused = make_adapters(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kInvalid);
  EXPECT_EQ(refused.error().message.find(options.directory + "/a: is in the way"), 0U)
      << refused.error().message;
  options.force = true;
  EXPECT_EQ(made(options).made, 3U);
  EXPECT_TRUE(inspect_adapter(posix_files(), options.directory + "/a", {}));
  for (const auto& entry : std::filesystem::directory_iterator(options.directory))
    EXPECT_NE(entry.path().filename().string().front(), '.') << "left over: " << entry.path();
}

// Broken: a name out of a trace writes outside the directory.
TEST(MakeAdapters, RefusesNamesThatAreNoDirectoryNames) {
  const TempDir dir;
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("../a"),
        std::string("/a"), std::string("a\0b", 3), std::string(256, 'x'), std::string("a")}) {
    MakeAdaptersOptions options = tiny(dir);
    options.names = {"a", name};
    const auto refused = make_adapters(options);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, Errc::kInvalid);
    EXPECT_NE(refused.error().message.find("'" + name + "'"), std::string::npos) << refused.error().message;
    EXPECT_FALSE(std::filesystem::exists(options.directory)) << "half started";
  }
}

// Broken: a flag that makes no sense writes something all the same.
TEST(MakeAdapters, RefusesOptionsThatMakeNoAdapter) {
  const TempDir dir;
  MakeAdaptersOptions options = tiny(dir);
  options.ranks = {513};
  EXPECT_EQ(make_adapters(options).error().code, Errc::kInvalid);
  options.ranks = {};
  EXPECT_EQ(make_adapters(options).error().code, Errc::kInvalid);
  options.ranks = {8};
  options.targets = "lm_head";
  EXPECT_EQ(make_adapters(options).error().code, Errc::kUnsupported);
  options.targets = "no_such";
  EXPECT_EQ(make_adapters(options).error().code, Errc::kNotFound);
  options.targets = "q_proj";
  options.format = WeightFormat::kTorchZip;
  options.dtype = Dtype::kF8E4M3;
  EXPECT_EQ(make_adapters(options).error().code, Errc::kUnsupported);
}

// Broken: adapters of one list sort differently by name and by number, or numbers are cut.
TEST(MakeAdapters, NumbersNamesSoThatTheySort) {
  EXPECT_EQ(numbered_adapter_names(2), (std::vector<std::string>{"adapter-0000", "adapter-0001"}));
  EXPECT_EQ(numbered_adapter_names(10'001).front(), "adapter-00000");
  EXPECT_TRUE(numbered_adapter_names(0).empty());
}

}  // namespace
}  // namespace loracle
