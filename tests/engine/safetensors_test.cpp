#include "../../engine/src/loader/safetensors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "adapter_maker.hpp"
#include "memory_files.hpp"

namespace loracle {
namespace {

using testing::MemoryFiles;
using testing::RawTensor;
using testing::safetensors_file;
using testing::with_length;

Result<TensorTable> parse(const std::string& header, std::uint64_t data_bytes) {
  return parse_safetensors_header(std::vector<char>(header.begin(), header.end()),
                                  8 + header.size() + data_bytes);
}

struct Known {
  Dtype dtype = Dtype::kF32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;

  friend bool operator==(const Known&, const Known&) = default;
};
using KnownTensors = std::map<std::string, Known>;

std::optional<std::uint64_t> size_of(const nlohmann::json& json) {
  if (!json.is_number_unsigned()) return std::nullopt;
  return json.get<std::uint64_t>();
}

/// Keys that stand twice in the outer object or in one that describes a tensor.
bool has_twins(const std::string& header) {
  std::vector<std::set<std::string>> keys;
  std::string top_key;
  bool twins = false;
  const auto callback = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::object_start) keys.emplace_back();
    if (event == nlohmann::json::parse_event_t::object_end) keys.pop_back();
    if (event == nlohmann::json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      if (depth == 1) top_key = key;
      const bool counts = depth == 1 || (depth == 2 && top_key != "__metadata__" &&
                                         (key == "dtype" || key == "shape" || key == "data_offsets"));
      if (!keys.back().insert(key).second && counts) twins = true;
    }
    return true;
  };
  const auto ignored = nlohmann::json::parse(header, callback, /*allow_exceptions=*/false);
  return twins;
}

/// The rules once more, slowly, over a tree: what the header holds, or nothing.
std::optional<KnownTensors> slow_parse(const std::string& header, std::uint64_t data_bytes) {
  static const std::map<std::string, std::pair<Dtype, std::uint64_t>> kDtypes = {
      {"F32", {Dtype::kF32, 4}},
      {"F16", {Dtype::kF16, 2}},
      {"BF16", {Dtype::kBf16, 2}},
      {"F8_E4M3", {Dtype::kF8E4M3, 1}},
      {"F8_E5M2", {Dtype::kF8E5M2, 1}}};
  if (header.empty() || header[0] != '{') return std::nullopt;
  const auto json = nlohmann::json::parse(header, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || has_twins(header)) return std::nullopt;
  KnownTensors tensors;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (const auto& [name, entry] : json.items()) {
    if (!entry.is_object()) return std::nullopt;
    if (name == "__metadata__") {
      for (const auto& [key, value] : entry.items())
        if (!value.is_string()) return std::nullopt;
      continue;
    }
    if (!entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
      return std::nullopt;
    const auto& [dtype_json, shape, offsets] =
        std::tie(entry["dtype"], entry["shape"], entry["data_offsets"]);
    if (!dtype_json.is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2)
      return std::nullopt;
    const auto dtype = kDtypes.find(dtype_json.get<std::string>());
    if (dtype == kDtypes.end() || shape.size() > kTensorDimensionsMax) return std::nullopt;
    Known known{dtype->second.first, {}, 0};
    std::uint64_t bytes = dtype->second.second;
    for (const auto& side : shape) {
      const auto size = size_of(side);
      if (!size) return std::nullopt;
      known.shape.push_back(*size);
      if (*size > 0 && bytes > ~std::uint64_t{0} / *size) return std::nullopt;
      bytes *= *size;
    }
    const auto begin = size_of(offsets[0]);
    const auto end = size_of(offsets[1]);
    if (!begin || !end || *begin > *end || *end > data_bytes || bytes != *end - *begin) return std::nullopt;
    known.begin = *begin;
    ranges.emplace_back(*begin, *end);
    tensors[name] = known;
  }
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != at) return std::nullopt;
    at = end;
  }
  if (at != data_bytes) return std::nullopt;
  return tensors;
}

/// Both parsers over one header. Returns whether it was accepted.
bool expect_same(const std::string& header, std::uint64_t data_bytes) {
  const auto fast = parse(header, data_bytes);
  const auto slow = slow_parse(header, data_bytes);
  EXPECT_EQ(fast.has_value(), slow.has_value()) << header << (fast ? "" : "\n" + fast.error().message);
  if (!fast || !slow) return false;
  KnownTensors tensors;
  for (const TensorRow& row : fast->rows)
    tensors[std::string(row.name)] = {row.stored.dtype,
                                      {row.shape.begin(), row.shape.begin() + row.dimensions},
                                      row.stored.offset - 8 - header.size()};
  EXPECT_EQ(tensors, *slow) << header;
  return true;
}

/// A header as some writer might lay it out: order, blanks, escapes and metadata at random.
std::string random_header(Rng& rng, std::uint64_t& data_bytes) {
  static const std::array<std::pair<const char*, unsigned>, 5> kDtypes = {
      {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}}};
  const auto blank = [&rng] {
    return std::string(rng.below(8) == 0 ? rng.below(3) : 0, rng.below(2) == 0 ? ' ' : '\n');
  };
  std::vector<std::string> entries;
  data_bytes = 0;
  const std::uint32_t count = rng.below(6);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto& [dtype, width] = kDtypes[rng.below(5)];
    std::uint64_t bytes = width;
    std::string shape;
    for (std::uint32_t d = rng.below(4); d > 0; --d) {
      const std::uint32_t side = rng.below(5);
      bytes *= side;
      shape += (shape.empty() ? "" : ",") + blank() + std::to_string(side);
    }
    const std::array<std::string, 3> fields = {"\"dtype\":" + blank() + "\"" + dtype + "\"",
                                               "\"shape\"" + blank() + ":[" + shape + "]",
                                               "\"data_offsets\":[" + std::to_string(data_bytes) + "," +
                                                   blank() + std::to_string(data_bytes + bytes) + "]"};
    const std::uint32_t first = rng.below(3);
    static const std::array<const char*, 4> kNames = {"layer.", "\\u00e9.", "\xC3\xA9x.", "a\\\"b\\\\."};
    entries.push_back("\"" + std::string(kNames[rng.below(4)]) + std::to_string(rng.below(20)) +
                      "\":" + blank() + "{" + fields[first] + "," + fields[(first + 1) % 3] + blank() + "," +
                      fields[(first + 2) % 3] + (rng.below(9) == 0 ? ",\"more\":[1,{\"x\":null}]" : "") +
                      "}");
    data_bytes += bytes;
  }
  if (rng.below(2) == 0)
    entries.insert(entries.begin() + rng.below(count + 1), R"("__metadata__":{"format":"pt"})");
  if (rng.below(3) == 0) std::reverse(entries.begin(), entries.end());
  std::string header = "{";
  for (const std::string& entry : entries) header += (header.size() > 1 ? "," : "") + entry;
  return header + "}" + std::string(rng.below(8), ' ');
}

/// A small change that may or may not break the header.
std::string mutated(Rng& rng, std::string header) {
  static const std::string kBytes = "{}[]\",:\\0123456789eE.-+ \n\tFBd\x01\x80\xC3u";
  for (std::uint32_t n = 1 + rng.below(3); n > 0 && !header.empty(); --n) {
    const std::uint32_t at = rng.below(static_cast<std::uint32_t>(header.size()));
    switch (rng.below(4)) {
      case 0:
        header[at] = kBytes[rng.below(static_cast<std::uint32_t>(kBytes.size()))];
        break;
      case 1:
        header.insert(at, 1, kBytes[rng.below(static_cast<std::uint32_t>(kBytes.size()))]);
        break;
      case 2:
        header.erase(at, 1 + rng.below(3));
        break;
      default:
        header.insert(at, header.substr(rng.below(static_cast<std::uint32_t>(header.size())), rng.below(40)));
        break;
    }
  }
  return header;
}

// Broken: the fast parser reads a header differently from a plain one: it takes what is not JSON, or refuses
// what is.
TEST(Safetensors, AgreesWithATreeParserOnRandomHeaders) {
  Rng rng(11);
  std::uint32_t accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    std::uint64_t data_bytes = 0;
    const std::string header = random_header(rng, data_bytes);
    accepted += expect_same(header, data_bytes) ? 1U : 0U;
    for (int k = 0; k < 4; ++k) accepted += expect_same(mutated(rng, header), data_bytes) ? 1U : 0U;
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 2000U) << "a test of refusals alone proves little";
  EXPECT_LT(accepted, 14'000U);
}

// Broken: a header that lies about its file makes us read beyond it, or read one tensor's bytes as another's.
TEST(Safetensors, RefusesEachLieByName) {
  const auto entry = [](const std::string& name, const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" +
           offsets + "]}";
  };
  struct Lie {
    std::string header;
    std::uint64_t data_bytes;
    std::string part;
    Errc code = Errc::kCorrupt;
  };
  const std::vector<Lie> lies = {
      {"", 0, "does not begin with {"},
      {" {}", 0, "does not begin with {"},
      {"{}x", 0, "not valid JSON"},
      {"{}", 1, "the tensors end at byte 0 of the data, the file has 1"},
      {"{" + entry("t", "I64", "1", "0,8") + "}", 8, "tensor 't': dtype I64 is not supported",
       Errc::kUnsupported},
      {"{" + entry("t", "F32", "1", "0,4") + "," + entry("t", "F32", "1", "4,8") + "}", 8,
       "tensor 't': is there twice"},
      {"{" + entry("t", "F32", "2", "0,4") + "}", 4, "tensor 't': its shape does not take the 4 bytes"},
      {"{" + entry("t", "F32", "1", "0,8") + "}", 4, "reach out of the file's 4 bytes"},
      {"{" + entry("t", "F32", "1", "4,0") + "}", 4, "reach out of the file's"},
      {"{" + entry("t", "F32", "4611686018427387904,4", "0,0") + "}", 0, "its shape does not take"},
      {"{" + entry("t", "F32", "18446744073709551616", "0,0") + "}", 0, "the shape is not a list of sizes"},
      {"{" + entry("t", "F32", "-1", "0,4") + "}", 4, "the shape is not a list of sizes"},
      {"{" + entry("t", "F32", "1e0", "0,4") + "}", 4, "the shape is not a list of sizes"},
      {"{" + entry("t", "F32", "1", "0,4,4") + "}", 4, "data_offsets are not two sizes"},
      {"{" + entry("a", "F32", "1", "0,4") + "," + entry("b", "F32", "1", "0,4") + "}", 4,
       "overlap at byte 0"},
      {"{" + entry("a", "F32", "1", "0,4") + "," + entry("b", "F32", "1", "8,12") + "}", 12,
       "leave a hole at byte 4"},
      {"{" + entry("a", "F32", "2", "0,8") + "," + entry("b", "F32", "1", "4,8") + "}", 8, "overlap"},
      {R"({"t":{"dtype":"F32","shape":[1]}})", 4, "dtype, shape or data_offsets is missing"},
      {R"({"t":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}})", 4, "dtype is there twice"},
      {R"({"t":[1]})", 0, "tensor 't': is not an object"},
      {R"({"__metadata__":{"a":1}})", 0, "__metadata__ holds a value that is no string"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__ is there twice"},
      {R"({"__metadata__":3})", 0, "__metadata__ is not an object"},
      {"{\"\xFF\":1}", 0, "not UTF-8"},
  };
  for (const Lie& lie : lies) {
    const auto table = parse(lie.header, lie.data_bytes);
    ASSERT_FALSE(table) << lie.header;
    EXPECT_EQ(table.error().code, lie.code) << lie.header;
    EXPECT_NE(table.error().message.find(lie.part), std::string::npos) << table.error().message;
  }
}

// Broken: a length that points beyond the file, or claims gigabytes, is believed.
TEST(Safetensors, RefusesALengthTheFileDoesNotHave) {
  const auto read = [](const std::string& bytes) {
    MemoryFiles files;
    files.files["f"] = bytes;
    const auto file = files.open("f");
    return read_safetensors_header(**file, "f");
  };
  EXPECT_TRUE(read(with_length("{}")));
  for (const std::string& bytes :
       {std::string(), std::string("1234567"), testing::little_endian(3) + "{}",
        testing::little_endian(~std::uint64_t{0}) + "{}", testing::little_endian(100'000'001) + "{}"}) {
    const auto table = read(bytes);
    ASSERT_FALSE(table);
    EXPECT_EQ(table.error().code, Errc::kCorrupt);
    EXPECT_EQ(table.error().message.find("f: "), 0U) << table.error().message;
  }
}

/// A whole adapter, and its directory's files.
MemoryFiles small_adapter(std::vector<RawTensor> tensors, const std::string& more = "") {
  MemoryFiles files;
  files.files["a/adapter_config.json"] = testing::config_of(2, "4", more);
  files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
  return files;
}

std::vector<RawTensor> one_module() {
  Rng rng(12);
  std::vector<RawTensor> tensors;
  testing::add_module(tensors, rng, "m.q_proj", Dtype::kBf16, 2, 3, 5);
  return tensors;
}

// Broken: the engine's idea of an adapter is not what its files say.
TEST(InspectAdapter, DescribesWhatIsThere) {
  Rng rng(13);
  std::vector<RawTensor> tensors;
  testing::add_module(tensors, rng, "m.1.v_proj", Dtype::kF16, 2, 3, 7);
  testing::add_module(tensors, rng, "m.0.q_proj", Dtype::kF32, 2, 3, 5);
  tensors[2].name = "m.0.q_proj.lora_A.weight";  // without the prefix
  MemoryFiles files = small_adapter(tensors);
  files.files["a/new_embeddings.safetensors"] = "";
  const auto adapter = inspect_adapter(files, "a", {});
  ASSERT_TRUE(adapter) << adapter.error().message;
  EXPECT_EQ(adapter->weights_path, "a/adapter_model.safetensors");
  EXPECT_EQ(adapter->format, WeightFormat::kSafetensors);
  EXPECT_EQ(adapter->weights_stat.size, files.files["a/adapter_model.safetensors"].size());
  EXPECT_EQ(adapter->config_stat.size, files.files["a/adapter_config.json"].size());
  EXPECT_TRUE(adapter->has_new_embeddings);
  ASSERT_EQ(adapter->modules.size(), 2U);
  const LoraModule& first = adapter->modules[0];
  EXPECT_EQ(first.name, "m.0.q_proj");
  EXPECT_EQ(first.in, 3U);
  EXPECT_EQ(first.out, 5U);
  EXPECT_EQ(first.rank, 2U);
  EXPECT_EQ(first.scaling, 2.0);
  const std::string& file = files.files["a/adapter_model.safetensors"];
  EXPECT_EQ(file.substr(first.a.offset, tensors[2].bytes.size()), tensors[2].bytes);
  EXPECT_EQ(file.substr(first.b.offset, tensors[3].bytes.size()), tensors[3].bytes);
  EXPECT_EQ(adapter->rank_max, 2U);
  EXPECT_EQ(adapter->dtype, Dtype::kF32);
  EXPECT_EQ(adapter->element_count, 2U * (3 + 5 + 3 + 7));
  EXPECT_LE(files.reads, 3U) << "ten thousand adapters are scanned";
}

// Broken: a tensor that vLLM would refuse or leave out is served, or the message does not name it.
TEST(InspectAdapter, RefusesTensorsThatAreNotServedByName) {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"base_model.model.m.q_proj.lora_magnitude_vector", "DoRA"},
      {"base_model.model.m.embed_tokens.lora_embedding_A", "embedding"},
      {"base_model.model.m.lm_head.modules_to_save.weight", "modules_to_save"},
      {"base_model.model.m.lm_head.modules_to_save.lora_A.weight", "modules_to_save"},
      {"base_model.model.m.embed_tokens.base_layer.weight", "base model"},
      {"base_model.model.m.q_proj.lora_A.default.weight", "must end in .lora_A.weight"},
      {"base_model.model.m.q_proj.lora_B.bias", "must end in .lora_B.weight"},
      {"base_model.model.score.weight", "it is not a LoRA matrix"},
      {".lora_A.weight", "must end in"},
  };
  for (const auto& [name, why] : names) {
    std::vector<RawTensor> tensors = one_module();
    tensors.push_back({name, Dtype::kF16, 1, 1, "xx"});
    MemoryFiles files = small_adapter(tensors);
    const auto adapter = inspect_adapter(files, "a", {});
    ASSERT_FALSE(adapter) << name;
    EXPECT_EQ(adapter.error().code, Errc::kInvalid);
    EXPECT_EQ(adapter.error().message.find("a/adapter_model.safetensors: tensor '" + name + "'"), 0U)
        << adapter.error().message;
    EXPECT_NE(adapter.error().message.find(why), std::string::npos) << adapter.error().message;
  }
}

// Broken: half a module, or one whose matrices do not fit the config, is served.
TEST(InspectAdapter, RefusesModulesThatDoNotFitTogether) {
  const auto refused = [](std::vector<RawTensor> tensors, const std::string& part,
                          const std::string& more = "", const AdapterRules& rules = {}) {
    MemoryFiles files = small_adapter(std::move(tensors), more);
    const auto adapter = inspect_adapter(files, "a", rules);
    ASSERT_FALSE(adapter) << part;
    EXPECT_EQ(adapter.error().code, Errc::kInvalid) << adapter.error().message;
    EXPECT_NE(adapter.error().message.find(part), std::string::npos) << adapter.error().message;
  };
  std::vector<RawTensor> tensors = one_module();
  refused({}, "there is no LoRA matrix");
  refused({tensors[0]}, "module 'm.q_proj': A is there, B is missing");
  refused({tensors[1]}, "module 'm.q_proj': B is there, A is missing");
  std::vector<RawTensor> twice = tensors;
  twice.push_back(tensors[0]);
  twice.back().name = "m.q_proj.lora_A.weight";
  refused(twice, "is there twice");
  refused(tensors, "A is [2, 3] and B is [5, 2], but its rank by the config is 3",
          R"(,"rank_pattern":{"q_proj":3})");
  refused(tensors, "rank 9 is greater than 8", R"(,"rank_pattern":{"q_proj":9})",
          {.max_lora_rank = 8, .base_models = {}});
  std::vector<RawTensor> empty = tensors;
  empty[0] = {empty[0].name, Dtype::kBf16, 2, 0, ""};
  refused(empty, "a side is empty or absurd");
}

// Broken: a cut download is taken for an adapter, or brings the engine down.
TEST(InspectAdapter, RefusesAFileCutAnywhere) {
  MemoryFiles files = small_adapter(one_module());
  for (const char* name : {"a/adapter_config.json", "a/adapter_model.safetensors"}) {
    const std::string whole = files.files[name];
    ASSERT_TRUE(inspect_adapter(files, "a", {}));
    for (std::size_t size = 0; size < whole.size(); ++size) {
      files.files[name] = whole.substr(0, size);
      EXPECT_FALSE(inspect_adapter(files, "a", {})) << name << " cut to " << size;
    }
    files.files[name] = whole;
  }
}

// Broken: an operator cannot tell a missing directory from a damaged adapter.
TEST(InspectAdapter, SaysWhatIsMissing) {
  MemoryFiles files = small_adapter(one_module());
  EXPECT_EQ(inspect_adapter(files, "b", {}).error().code, Errc::kNotFound);
  files.files.erase("a/adapter_model.safetensors");
  const auto without = inspect_adapter(files, "a", {});
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().code, Errc::kNotFound);
  EXPECT_EQ(without.error().message, "a: holds neither adapter_model.safetensors nor adapter_model.bin");
}

}  // namespace
}  // namespace loracle
