#include "../../engine/src/loader/torch_bin.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../../engine/src/loader/zip_directory.hpp"
#include "loracle/engine/image.hpp"
#include "memory_files.hpp"
#include "zip_maker.hpp"

namespace loracle {
namespace {

using testing::legacy_file;
using testing::MemoryFiles;
using testing::RawTensor;
using testing::torch_zip_file;
using testing::zip_file;
using testing::ZipPart;

std::vector<RawTensor> adapter_tensors(Dtype dtype) {
  Rng rng(31);
  std::vector<RawTensor> tensors;
  testing::add_module(tensors, rng, "m.0.q_proj", dtype, 2, 40, 30);
  testing::add_module(tensors, rng, "m.1.q_proj", dtype, 2, 40, 30);
  return tensors;
}

MemoryFiles adapter_with(const std::string& weights) {
  MemoryFiles files;
  files.files["a/adapter_config.json"] = testing::config_of(2, "3");
  files.files["a/adapter_model.bin"] = weights;
  return files;
}

Result<std::string> image_of(Files& files) {
  const auto adapter = inspect_adapter(files, "a", {});
  if (!adapter) return fail(adapter.error());
  const std::array<const AdapterFiles*, 1> all = {&*adapter};
  const auto layout = layout_for(all, 2, Dtype::kBf16);
  if (!layout) return fail(layout.error());
  const auto manifest = plan_image(*adapter, *layout);
  if (!manifest) return fail(manifest.error());
  std::string image(manifest->elements * 2, '\0');
  const auto done = load_image(files, *adapter, *layout, *manifest, std::as_writable_bytes(std::span(image)));
  if (!done) return fail(done.error());
  return image;
}

/// The image of the same tensors in a .safetensors file.
std::string expected_image(const std::vector<RawTensor>& tensors) {
  MemoryFiles files;
  files.files["a/adapter_config.json"] = testing::config_of(2, "3");
  files.files["a/adapter_model.safetensors"] = testing::safetensors_file(tensors);
  const auto image = image_of(files);
  EXPECT_TRUE(image) << image.error().message;
  return image.value_or("");
}

// Broken: the same adapter gives other weights as .bin than as .safetensors.
TEST(TorchBin, GivesTheImageOfTheSameTensorsInSafetensors) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kF8E4M3, Dtype::kF8E5M2}) {
    const std::vector<RawTensor> tensors = adapter_tensors(dtype);
    const std::string expected = expected_image(tensors);
    for (const std::string& weights :
         {torch_zip_file(tensors), torch_zip_file(tensors, /*deflated=*/true), legacy_file(tensors)}) {
      for (const std::size_t most : {std::size_t{1} << 30U, std::size_t{33}}) {
        MemoryFiles files = adapter_with(weights);
        files.read_bytes_max = most;
        const auto image = image_of(files);
        ASSERT_TRUE(image) << name_of(dtype) << ": " << image.error().message;
        EXPECT_EQ(*image, expected) << name_of(dtype);
      }
    }
  }
}

// Broken: a stored tensor is inflated or copied where it could be read in place.
TEST(TorchBin, KnowsTheFormatAndWhereStoredTensorsLie) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kBf16);
  const auto check = [&tensors](const std::string& weights, WeightFormat format) {
    MemoryFiles files = adapter_with(weights);
    const auto adapter = inspect_adapter(files, "a", {});
    ASSERT_TRUE(adapter) << adapter.error().message;
    EXPECT_EQ(adapter->format, format);
    for (std::size_t i = 0; i < 2; ++i) {
      const StoredTensor& a = adapter->modules[i].a;
      EXPECT_EQ(a.entry, kNoEntry);
      EXPECT_EQ(weights.substr(a.offset, tensors[2 * i].bytes.size()), tensors[2 * i].bytes);
    }
  };
  check(torch_zip_file(tensors), WeightFormat::kTorchZip);
  check(legacy_file(tensors), WeightFormat::kTorchLegacy);
}

// Broken: a cut download crashes the engine or passes for whole.
TEST(TorchBin, RefusesAFileCutAnywhere) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kBf16);
  for (const std::string& weights :
       {torch_zip_file(tensors), torch_zip_file(tensors, /*deflated=*/true), legacy_file(tensors)}) {
    ASSERT_TRUE(image_of(*std::make_unique<MemoryFiles>(adapter_with(weights))));
    for (std::size_t size = 0; size < weights.size(); ++size) {
      MemoryFiles files = adapter_with(weights.substr(0, size));
      const auto adapter = inspect_adapter(files, "a", {});
      ASSERT_FALSE(adapter) << size << " of " << weights.size();
      EXPECT_EQ(adapter.error().message.find("a/adapter_model.bin: "), 0U) << adapter.error().message;
    }
  }
}

// Broken: a damaged byte, anywhere, leads outside an array or into an endless loop.
TEST(TorchBin, SurvivesEveryChangedByte) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kF8E4M3);
  for (const std::string& weights :
       {torch_zip_file(tensors), torch_zip_file(tensors, /*deflated=*/true), legacy_file(tensors)}) {
    for (std::size_t at = 0; at < weights.size(); ++at) {
      MemoryFiles files = adapter_with(weights);
      std::string& bytes = files.files["a/adapter_model.bin"];
      bytes[at] = static_cast<char>(bytes[at] ^ (at % 3 == 0 ? 0x01 : at % 3 == 1 ? 0x80 : 0xFF));
      (void)image_of(files);
    }
  }
}

// Broken: an error of the disk is swallowed by libzip, or told as damage.
TEST(TorchBin, ReportsEveryFailedCall) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kF16);
  for (const std::string& weights :
       {torch_zip_file(tensors), torch_zip_file(tensors, /*deflated=*/true), legacy_file(tensors)}) {
    MemoryFiles files = adapter_with(weights);
    bool failed = true;
    for (std::uint64_t n = 1; failed; ++n) {
      files.calls = 0;
      files.fail_call = n;
      const auto image = image_of(files);
      failed = !image;
      if (failed) {
        EXPECT_EQ(image.error().code, Errc::kIo) << "call " << n << ": " << image.error().message;
      }
      ASSERT_LT(n, 1000U);
    }
  }
}

void expect_refused(const std::string& weights, Errc code, const std::string& part) {
  MemoryFiles files = adapter_with(weights);
  const auto adapter = inspect_adapter(files, "a", {});
  ASSERT_FALSE(adapter) << part;
  EXPECT_EQ(adapter.error().code, code) << adapter.error().message;
  EXPECT_EQ(adapter.error().message.find("a/adapter_model.bin: "), 0U) << adapter.error().message;
  EXPECT_NE(adapter.error().message.find(part), std::string::npos) << adapter.error().message;
}

std::vector<ZipPart> parts_of(const std::vector<RawTensor>& tensors) {
  std::vector<ZipPart> parts = {{"x/data.pkl", testing::pickled_dict(tensors, false)}};
  for (std::size_t i = 0; i < tensors.size(); ++i)
    parts.push_back({"x/data/" + std::to_string(i), tensors[i].bytes});
  return parts;
}

// Broken: an archive that is not what torch writes is half understood.
TEST(TorchBin, RefusesArchivesThatAreNotTorchs) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kBf16);
  std::vector<ZipPart> parts = parts_of(tensors);
  parts.push_back({"x/byteorder", "big"});
  expect_refused(zip_file(parts), Errc::kUnsupported, "not little-endian");
  parts = parts_of(tensors);
  parts.push_back({"y/data.pkl", "N."});
  expect_refused(zip_file(parts), Errc::kInvalid, "two data.pkl");
  parts = parts_of(tensors);
  parts[0].name = "data.pkl";
  expect_refused(zip_file(parts), Errc::kInvalid, "without data.pkl");
  std::string twice = zip_file(parts_of(tensors));  // libzip would not make one
  for (std::size_t at = twice.find("x/data/1"); at != std::string::npos; at = twice.find("x/data/1", at))
    twice[at + 7] = '0';
  expect_refused(twice, Errc::kInvalid, "two entries 'x/data/0'");
  parts = parts_of(tensors);
  parts.erase(parts.begin() + 2);
  expect_refused(zip_file(parts), Errc::kCorrupt, "its storage 1 is missing");
  parts = parts_of(tensors);
  parts[2].bytes.pop_back();
  expect_refused(zip_file(parts), Errc::kCorrupt, "its storage 1 has");
  parts = parts_of(tensors);
  parts[0].bytes = testing::proto2("]");
  expect_refused(zip_file(parts), Errc::kInvalid, "does not hold a dict");
  parts[0].bytes = testing::proto2("}NNs");
  expect_refused(zip_file(parts), Errc::kInvalid, "a key that is no name");
  parts[0].bytes = testing::proto2("}" + testing::unicode("epoch") + "Ns");
  expect_refused(zip_file(parts), Errc::kInvalid, "'epoch' is not a tensor");
  parts[0].bytes = testing::proto2(testing::global("os", "system") + "\x88\x85R");
  expect_refused(zip_file(parts), Errc::kInvalid, "it names os.system");
  std::vector<RawTensor> twins = tensors;
  twins[1].name = twins[0].name;
  expect_refused(zip_file(parts_of(twins)), Errc::kInvalid, "is there twice");
  expect_refused("PK\x03\x04 and then nothing", Errc::kCorrupt, "zip archive");
  expect_refused("neither of the two", Errc::kCorrupt, "neither a zip archive nor a pickle");
  expect_refused("", Errc::kCorrupt, "0 bytes");
}

// Broken: a legacy file whose lists contradict each other sends reads to the wrong place.
TEST(TorchBin, RefusesLegacyFilesThatContradictThemselves) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kBf16);
  expect_refused(legacy_file(tensors) + "x", Errc::kCorrupt, "1 bytes follow its last storage");
  expect_refused(legacy_file(tensors, /*little_endian_machine=*/false), Errc::kUnsupported,
                 "not little-endian");
  std::string other = legacy_file(tensors);
  const std::size_t length = other.size() - tensors.back().bytes.size() - 8;
  ++other[length];
  expect_refused(other, Errc::kCorrupt, "storage 3 is not as long as it should be");
  std::string version = legacy_file(tensors);
  ++version[18];
  expect_refused(version, Errc::kCorrupt, "unknown version");
}

// Broken: a small upload fills the host's memory.
TEST(TorchBin, RefusesBombs) {
  Rng rng(32);
  std::vector<RawTensor> tensors;
  tensors.push_back(
      {"base_model.model.m.q_proj.lora_A.weight", Dtype::kBf16, 2, 500'000, std::string(2'000'000, '\0')});
  tensors.push_back(
      {"base_model.model.m.q_proj.lora_B.weight", Dtype::kBf16, 500'000, 2, std::string(2'000'000, '\0')});
  expect_refused(torch_zip_file(tensors, /*deflated=*/true), Errc::kCorrupt,
                 "inflates to many times its size");
  // One storage under a thousand names.
  const RawTensor one = testing::random_tensor(rng, "t", Dtype::kBf16, 2, 100);
  std::string body = "}(";
  for (int i = 0; i < 1000; ++i)
    body += testing::unicode("m." + std::to_string(i) + ".lora_A.weight") +
            testing::pickled_tensor(one, "0", false);
  expect_refused(zip_file({{"x/data.pkl", testing::proto2(body + "u")}, {"x/data/0", one.bytes}}),
                 Errc::kInvalid, "shares its memory with another");
  // Two directory entries over the same bytes.
  std::string overlapping = torch_zip_file(adapter_tensors(Dtype::kBf16));
  const std::size_t first = overlapping.find("PK\x01\x02");
  const std::size_t second = overlapping.find("PK\x01\x02", first + 4);
  ASSERT_NE(second, std::string::npos);
  overlapping.replace(second + 42, 4, overlapping.substr(first + 42, 4));
  MemoryFiles files = adapter_with(overlapping);
  EXPECT_FALSE(image_of(files)) << "the entry's name is not the local header's, or sizes differ";
}

// Broken: a claim about an entry's size is believed when the entry is inflated.
TEST(TorchBin, ChecksWhatItInflates) {
  std::string file = torch_zip_file(adapter_tensors(Dtype::kBf16), /*deflated=*/true);
  const std::size_t data = file.find("archive/data/0") + std::string("archive/data/0").size();
  file[data + 20] = static_cast<char>(file[data + 20] ^ 0x55);
  MemoryFiles files = adapter_with(file);
  const auto image = image_of(files);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, Errc::kCorrupt) << image.error().message;
}

// Broken: our reading of a zip directory and libzip's differ on a file that both should read: one with a
// comment, or one large enough for zip64.
TEST(ZipDirectory, ReadsCommentsAndZip64) {
  const std::vector<RawTensor> tensors = adapter_tensors(Dtype::kBf16);
  const std::string expected = expected_image(tensors);
  for (const std::string& comment : {std::string(), std::string("hello"), std::string(65'535, 'c')}) {
    MemoryFiles files = adapter_with(zip_file(parts_of(tensors), comment));
    const auto image = image_of(files);
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(*image, expected);
  }
  // zip64 by hand: the end record points to a zip64 one, whose numbers are the real ones.
  std::string file = zip_file(parts_of(tensors));
  const std::string end = file.substr(file.size() - 22);
  const auto number = [&end](std::size_t at, std::size_t width) {
    std::uint64_t value = 0;
    for (std::size_t i = width; i-- > 0;) value = value << 8U | static_cast<unsigned char>(end[at + i]);
    return value;
  };
  using testing::little_endian;
  file.resize(file.size() - 22);
  const std::uint64_t place = file.size();
  file += "PK\x06\x06" + little_endian(44) + little_endian(45, 2) + little_endian(45, 2) + little_endian(0) +
          little_endian(number(10, 2)) + little_endian(number(10, 2)) + little_endian(number(12, 4)) +
          little_endian(number(16, 4));
  file += "PK\x06\x07" + little_endian(0, 4) + little_endian(place) + little_endian(1, 4);
  file += "PK\x05\x06" + std::string(4, '\0') + std::string(12, '\xFF') + std::string(2, '\0');
  MemoryFiles files = adapter_with(file);
  const auto image = image_of(files);
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(*image, expected);
}

// Broken: an encrypted entry, or one packed by an unknown method, is read as if it were stored.
TEST(ZipDirectory, RefusesMethodsItCannotRead) {
  for (const auto& [at, value, part] : {std::tuple{8, 1, "is encrypted"}, std::tuple{10, 12, "method 12"}}) {
    std::string file = zip_file(parts_of(adapter_tensors(Dtype::kBf16)));
    file[file.find("PK\x01\x02") + static_cast<std::size_t>(at)] = static_cast<char>(value);
    expect_refused(file, Errc::kUnsupported, part);
  }
}

}  // namespace
}  // namespace loracle
