// Images against a reference that knows only the format: raw tensors in binary64, products rounded once.

#include "loracle/engine/image.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "adapter_maker.hpp"
#include "memory_files.hpp"

namespace loracle {
namespace {

using testing::add_module;
using testing::append_rounded;
using testing::config_of;
using testing::Matrix;
using testing::MemoryFiles;
using testing::RawTensor;
using testing::safetensors_file;

constexpr std::array kServing = {Dtype::kF32, Dtype::kF16, Dtype::kBf16};
constexpr std::array kStored = {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kF8E4M3, Dtype::kF8E5M2};

struct Loaded {
  AdapterFiles adapter;
  ImageManifest manifest;
  std::string bytes;
};

/// Inspects, plans and loads; a failure is the test's.
Loaded load(Files& files, const std::string& directory, const SlotLayout& layout) {
  Loaded loaded;
  auto adapter = inspect_adapter(files, directory, {});
  EXPECT_TRUE(adapter) << adapter.error().message;
  if (!adapter) return loaded;
  loaded.adapter = std::move(*adapter);
  const auto manifest = plan_image(loaded.adapter, layout);
  EXPECT_TRUE(manifest) << manifest.error().message;
  if (!manifest) return loaded;
  loaded.manifest = *manifest;
  loaded.bytes.resize(manifest->elements * bytes_of(layout.dtype));
  const auto done =
      load_image(files, loaded.adapter, layout, *manifest, std::as_writable_bytes(std::span(loaded.bytes)));
  EXPECT_TRUE(done) << done.error().message;
  return loaded;
}

Result<SlotLayout> layout_of(const AdapterFiles& adapter, std::uint32_t max_rank, Dtype dtype) {
  const std::array<const AdapterFiles*, 1> all = {&adapter};
  return layout_for(all, max_rank, dtype);
}

/// What the image must be: for each slice the raw A, and the raw B (or its rows of it) times the scale.
class Reference {
 public:
  Reference(const std::vector<RawTensor>& tensors, const SlotLayout& layout) : layout_(layout) {
    for (const RawTensor& tensor : tensors) tensors_[tensor.name] = tensor.values();
  }

  std::string image(const std::map<std::string, float>& scale_of_module, float scale) {
    for (const SlotSlice& slice : layout_.slices) {
      const std::string last = slice.module.substr(slice.module.rfind('.') + 1);
      const std::string path = slice.module.substr(0, slice.module.size() - last.size());
      const auto found = scale_of_module.find(slice.module);
      const float here = found == scale_of_module.end() ? scale : found->second;
      if (tensors_.count(a_name(slice.module)) > 0)
        append(slice.module, 0, slice.out, here);
      else if (last == "q_proj" || last == "k_proj" || last == "v_proj")
        append(path + "qkv_proj", rows_before(path, last, {"q_proj", "k_proj", "v_proj"}), slice.out, here);
      else if (last == "gate_proj" || last == "up_proj")
        append(path + "gate_up_proj", rows_before(path, last, {"gate_proj", "up_proj"}), slice.out, here);
    }
    return out_;
  }

 private:
  static std::string a_name(const std::string& module) {
    return "base_model.model." + module + ".lora_A.weight";
  }

  std::uint32_t rows_before(const std::string& path, const std::string& last,
                            const std::vector<std::string>& order) const {
    std::uint32_t rows = 0;
    for (const std::string& name : order) {
      if (name == last) break;
      for (const SlotSlice& slice : layout_.slices)
        if (slice.module == path + name) rows += slice.out;
    }
    return rows;
  }

  void append(const std::string& module, std::uint32_t row, std::uint32_t rows, float scale) {
    const auto a = tensors_.find(a_name(module));
    if (a == tensors_.end()) return;
    const Matrix b = tensors_.at("base_model.model." + module + ".lora_B.weight").middleRows(row, rows);
    for (Eigen::Index i = 0; i < a->second.size(); ++i)
      append_rounded(out_, layout_.dtype, a->second.data()[i], 1.0F);
    for (Eigen::Index i = 0; i < b.size(); ++i) append_rounded(out_, layout_.dtype, b.data()[i], scale);
  }

  const SlotLayout& layout_;
  std::map<std::string, Matrix> tensors_;
  std::string out_;
};

/// The first byte that differs, as text; empty if there is none.
std::string difference(const std::string& image, const std::string& expected) {
  if (image.size() != expected.size())
    return "sizes " + std::to_string(image.size()) + " and " + std::to_string(expected.size());
  const auto at = std::mismatch(image.begin(), image.end(), expected.begin()).first - image.begin();
  return image == expected ? "" : "byte " + std::to_string(at) + " of " + std::to_string(image.size());
}

// Broken: an adapter is served with weights that are not what its file says.
TEST(Image, EqualsTheReferenceForEveryPairOfDtypes) {
  Rng rng(1);
  for (const Dtype stored : kStored) {
    for (const Dtype serving : kServing) {
      for (const char* alpha : {"8", "16", "12.5", "0.7"}) {
        MemoryFiles files;
        std::vector<RawTensor> tensors;
        add_module(tensors, rng, "model.layers.0.self_attn.q_proj", stored, 8, 33, 47);
        add_module(tensors, rng, "model.layers.0.self_attn.v_proj", stored, 8, 33, 1);
        files.files["a/adapter_config.json"] = config_of(8, alpha);
        files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
        const auto adapter = inspect_adapter(files, "a", {});
        ASSERT_TRUE(adapter) << adapter.error().message;
        const auto layout = layout_of(*adapter, 64, serving);
        ASSERT_TRUE(layout) << layout.error().message;
        const Loaded loaded = load(files, "a", *layout);
        const auto scale = static_cast<float>(std::stod(alpha) / 8);
        EXPECT_EQ(difference(loaded.bytes, Reference(tensors, *layout).image({}, scale)), "")
            << name_of(stored) << " as " << name_of(serving) << ", alpha " << alpha;
      }
    }
  }
}

// Broken: some rank takes a path (a tail of the vectors, a border of the scratch buffer) nobody looked at.
TEST(Image, EqualsTheReferenceForRanksFrom1To256) {
  Rng rng(2);
  for (std::uint32_t rank = 1; rank <= 256; rank += 1 + rank / 5) {
    MemoryFiles files;
    std::vector<RawTensor> tensors;
    add_module(tensors, rng, "model.layers.3.mlp.down_proj", Dtype::kF32, rank, 1 + rng.below(300), 7);
    add_module(tensors, rng, "model.layers.10.mlp.down_proj", Dtype::kBf16, rank, 5, 1 + rng.below(300));
    files.files["a/adapter_config.json"] = config_of(rank, "16", ",\"use_rslora\":true");
    files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
    const auto adapter = inspect_adapter(files, "a", {});
    ASSERT_TRUE(adapter) << adapter.error().message;
    const auto layout = layout_of(*adapter, 256, Dtype::kBf16);
    ASSERT_TRUE(layout) << layout.error().message;
    const Loaded loaded = load(files, "a", *layout);
    const auto scale = static_cast<float>(16 / std::sqrt(static_cast<double>(rank)));
    EXPECT_EQ(difference(loaded.bytes, Reference(tensors, *layout).image({}, scale)), "") << "rank " << rank;
  }
}

// Broken: a tensor larger than the scratch buffer is torn at its border.
TEST(Image, EqualsTheReferenceWhenATensorIsManyBuffersLong) {
  Rng rng(3);
  for (const Dtype stored : {Dtype::kF32, Dtype::kF8E5M2, Dtype::kBf16}) {
    MemoryFiles files;
    files.read_bytes_max = 70'001;
    std::vector<RawTensor> tensors;
    add_module(tensors, rng, "model.layers.0.mlp.up_proj", stored, 9, 31'337, 40'009);
    files.files["a/adapter_config.json"] = config_of(9, "5");
    files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
    const auto adapter = inspect_adapter(files, "a", {});
    ASSERT_TRUE(adapter) << adapter.error().message;
    const auto layout = layout_of(*adapter, 16, Dtype::kBf16);
    ASSERT_TRUE(layout) << layout.error().message;
    const Loaded loaded = load(files, "a", *layout);
    EXPECT_EQ(difference(loaded.bytes, Reference(tensors, *layout).image({}, static_cast<float>(5.0 / 9))),
              "")
        << name_of(stored);
  }
}

// Broken: an adapter with a fused module fills its parts with the wrong rows, or differs from its split twin.
TEST(Image, CutsAFusedModuleIntoTheLayoutsSlices) {
  Rng rng(4);
  MemoryFiles files;
  std::vector<RawTensor> split;
  for (const char* part : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"})
    add_module(split, rng, std::string("model.layers.0.") + part, Dtype::kF32, 4, 24,
               part[10] == 'q' ? 48 : 16);
  for (const char* part : {"mlp.gate_proj", "mlp.up_proj"})
    add_module(split, rng, std::string("model.layers.0.") + part, Dtype::kF32, 4, 24, 40);
  std::vector<RawTensor> fused;
  add_module(fused, rng, "model.layers.0.self_attn.qkv_proj", Dtype::kF16, 6, 24, 80);
  add_module(fused, rng, "model.layers.0.mlp.gate_up_proj", Dtype::kBf16, 6, 24, 80);
  files.files["split/adapter_config.json"] = config_of(4, "4");
  files.files["split/adapter_model.safetensors"] = safetensors_file(split);
  files.files["fused/adapter_config.json"] = config_of(6, "9");
  files.files["fused/adapter_model.safetensors"] = safetensors_file(fused);
  const auto a = inspect_adapter(files, "split", {});
  const auto b = inspect_adapter(files, "fused", {});
  ASSERT_TRUE(a && b);
  for (const std::array<const AdapterFiles*, 2>& order : {std::array{&*a, &*b}, std::array{&*b, &*a}}) {
    const auto layout = layout_for(order, 8, Dtype::kF16);
    ASSERT_TRUE(layout) << layout.error().message;
    ASSERT_EQ(layout->slices.size(), 5U);
    EXPECT_EQ(difference(load(files, "split", *layout).bytes, Reference(split, *layout).image({}, 1.0F)), "");
    EXPECT_EQ(difference(load(files, "fused", *layout).bytes, Reference(fused, *layout).image({}, 1.5F)), "");
  }
  // On its own, a fused module is a slice of its own.
  const auto own = layout_of(*b, 8, Dtype::kF16);
  ASSERT_TRUE(own) << own.error().message;
  ASSERT_EQ(own->slices.size(), 2U);
  EXPECT_EQ(difference(load(files, "fused", *own).bytes, Reference(fused, *own).image({}, 1.5F)), "");
}

// Broken: a module with a rank or alpha of its own is scaled as if it had none (what vLLM does).
TEST(Image, HonoursRankAndAlphaPatterns) {
  Rng rng(5);
  MemoryFiles files;
  std::vector<RawTensor> tensors;
  add_module(tensors, rng, "model.layers.0.self_attn.q_proj", Dtype::kBf16, 8, 16, 16);
  add_module(tensors, rng, "model.layers.0.self_attn.k_proj", Dtype::kBf16, 2, 16, 8);
  add_module(tensors, rng, "model.layers.1.self_attn.k_proj", Dtype::kBf16, 3, 16, 8);
  files.files["a/adapter_config.json"] = config_of(
      8, "16",
      R"(,"rank_pattern":{"layers\\.1\\..*k_proj":3,"k_proj":2},"alpha_pattern":{"0.self_attn.k_proj":5})");
  files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
  const auto adapter = inspect_adapter(files, "a", {});
  ASSERT_TRUE(adapter) << adapter.error().message;
  const auto layout = layout_of(*adapter, 8, Dtype::kBf16);
  ASSERT_TRUE(layout) << layout.error().message;
  const std::map<std::string, float> scales = {{"model.layers.0.self_attn.k_proj", 2.5F},
                                               {"model.layers.1.self_attn.k_proj", 16.0F / 3.0F}};
  EXPECT_EQ(difference(load(files, "a", *layout).bytes, Reference(tensors, *layout).image(scales, 2.0F)), "");
}

// Broken: slots are filled in an order the device code does not expect, or one that depends on chance.
TEST(Image, LaysSlicesOutByLayerThenByKind) {
  Rng rng(6);
  MemoryFiles files;
  std::vector<RawTensor> tensors;
  for (const char* module :
       {"lm_head", "model.layers.10.mlp.down_proj", "model.layers.2.mlp.up_proj", "model.layers.2.mlp.other",
        "model.layers.2.self_attn.o_proj", "model.layers.2.mlp.gate_proj", "model.layers.2.self_attn.v_proj",
        "model.layers.2.self_attn.k_proj", "model.layers.2.self_attn.q_proj", "model.layers.2.mlp.down_proj"})
    add_module(tensors, rng, module, Dtype::kF16, 1, 2, 3);
  files.files["a/adapter_config.json"] = config_of(1, "1");
  files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
  const auto adapter = inspect_adapter(files, "a", {});
  ASSERT_TRUE(adapter) << adapter.error().message;
  const auto layout = layout_of(*adapter, 8, Dtype::kF16);
  ASSERT_TRUE(layout) << layout.error().message;
  std::vector<std::string> order;
  for (const SlotSlice& slice : layout->slices) order.push_back(slice.module);
  EXPECT_EQ(order,
            (std::vector<std::string>{"model.layers.2.self_attn.q_proj", "model.layers.2.self_attn.k_proj",
                                      "model.layers.2.self_attn.v_proj", "model.layers.2.self_attn.o_proj",
                                      "model.layers.2.mlp.gate_proj", "model.layers.2.mlp.up_proj",
                                      "model.layers.2.mlp.down_proj", "model.layers.2.mlp.other",
                                      "model.layers.10.mlp.down_proj", "lm_head"}));
  EXPECT_EQ(layout->slot_bytes(), 10U * 5 * 8 * 2);
  const auto manifest = plan_image(*adapter, *layout);
  ASSERT_TRUE(manifest);
  EXPECT_EQ(manifest->elements, 10U * 5);
  EXPECT_EQ(manifest->elements * 2, adapter->image_bytes(Dtype::kF16));
}

/// An adapter of one module, for layouts that do not fit it.
AdapterFiles one_module(const std::string& directory, const std::string& name, std::uint32_t rank,
                        std::uint32_t in, std::uint32_t out) {
  AdapterFiles adapter;
  adapter.directory = directory;
  LoraModule module;
  module.name = name;
  module.rank = rank;
  module.in = in;
  module.out = out;
  adapter.modules.push_back(module);
  return adapter;
}

// Broken: an adapter of another model overwrites memory beside its slot, or the refusal does not say which
// module is at fault.
TEST(Image, RefusesWhatTheLayoutDoesNotHave) {
  const SlotLayout layout{
      {{"l.0.q_proj", 8, 8}, {"l.0.k_proj", 8, 4}, {"l.0.v_proj", 8, 4}}, 16, Dtype::kBf16};
  const auto refused = [&layout](const AdapterFiles& adapter, Errc code, const std::string& part) {
    const auto manifest = plan_image(adapter, layout);
    ASSERT_FALSE(manifest) << part;
    EXPECT_EQ(manifest.error().code, code) << manifest.error().message;
    EXPECT_NE(manifest.error().message.find(part), std::string::npos) << manifest.error().message;
    EXPECT_EQ(manifest.error().message.find("dir: "), 0U) << manifest.error().message;
  };
  refused(one_module("dir", "l.0.q_proj", 17, 8, 8), Errc::kTooLarge, "'l.0.q_proj' has rank 17");
  refused(one_module("dir", "l.0.q_proj", 16, 9, 8), Errc::kInvalid, "'l.0.q_proj' is 9 -> 8");
  refused(one_module("dir", "l.0.o_proj", 16, 8, 8), Errc::kInvalid, "'l.0.o_proj' is not in");
  refused(one_module("dir", "l.0.qkv_proj", 16, 8, 17), Errc::kInvalid,
          "has 17 rows, its parts in the layout");
  refused(one_module("dir", "l.0.gate_up_proj", 16, 8, 16), Errc::kInvalid, "'l.0.gate_up_proj' is not in");
  AdapterFiles both = one_module("dir", "l.0.q_proj", 16, 8, 8);
  both.modules.push_back(one_module("dir", "l.0.qkv_proj", 16, 8, 16).modules.front());
  refused(both, Errc::kInvalid, "'l.0.q_proj' is filled twice");
}

// Broken: two adapters of different models share a layout, and one of them is served from the wrong memory.
TEST(Image, RefusesALayoutOfAdaptersThatDisagree) {
  const AdapterFiles a = one_module("a", "l.0.q_proj", 8, 8, 8);
  const AdapterFiles b = one_module("b", "l.0.q_proj", 8, 8, 9);
  const std::array<const AdapterFiles*, 2> two = {&a, &b};
  const auto layout = layout_for(two, 8, Dtype::kBf16);
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().code, Errc::kInvalid);
  EXPECT_EQ(layout.error().message,
            "b: module 'l.0.q_proj' is 8 -> 9, but in a it is 8 -> 8: they are not adapters of one model");
  const AdapterFiles fused = one_module("c", "l.0.qkv_proj", 8, 8, 24);
  const std::array<const AdapterFiles*, 2> some = {&a, &fused};
  const auto partial = layout_for(some, 8, Dtype::kBf16);
  ASSERT_FALSE(partial) << "only one of the three parts has a shape";
  EXPECT_EQ(partial.error().code, Errc::kInvalid);
  const std::array<const AdapterFiles*, 1> one = {&a};
  const auto float8 = layout_for(one, 8, Dtype::kF8E4M3);
  ASSERT_FALSE(float8);
  EXPECT_EQ(float8.error().code, Errc::kUnsupported);
}

/// A small adapter with parts that go straight and parts that are converted.
MemoryFiles mixed_adapter() {
  Rng rng(7);
  MemoryFiles files;
  std::vector<RawTensor> tensors;
  add_module(tensors, rng, "model.layers.0.self_attn.q_proj", Dtype::kF32, 4, 16, 8);
  add_module(tensors, rng, "model.layers.1.self_attn.q_proj", Dtype::kBf16, 4, 16, 8);
  files.files["a/adapter_config.json"] = config_of(4, "12");
  files.files["a/adapter_model.safetensors"] = safetensors_file(tensors);
  return files;
}

// Broken: a slow or failing disk leaves a half-filled image that passes for whole.
TEST(Image, SurvivesShortReadsAndReportsEveryFailedCall) {
  MemoryFiles files = mixed_adapter();
  const auto adapter = inspect_adapter(files, "a", {});
  ASSERT_TRUE(adapter) << adapter.error().message;
  const auto layout = layout_of(*adapter, 4, Dtype::kBf16);
  ASSERT_TRUE(layout);
  const std::string whole = load(files, "a", *layout).bytes;
  for (const std::size_t most : {1, 2, 3, 7, 64}) {
    files.read_bytes_max = most;
    EXPECT_EQ(load(files, "a", *layout).bytes, whole) << most << " bytes a read";
  }
  files.read_bytes_max = 5;
  bool failed = true;
  for (std::uint64_t n = 1; failed; ++n) {
    files.calls = 0;
    files.fail_call = n;
    failed = false;
    const auto again = inspect_adapter(files, "a", {});
    if (!again) {
      failed = true;
      EXPECT_EQ(again.error().code, Errc::kIo) << again.error().message;
      continue;
    }
    const auto manifest = plan_image(*again, *layout);
    ASSERT_TRUE(manifest);
    std::string image(whole.size(), '\0');
    const auto done = load_image(files, *again, *layout, *manifest, std::as_writable_bytes(std::span(image)));
    failed = !done;
    if (failed)
      EXPECT_EQ(done.error().code, Errc::kIo) << done.error().message;
    else
      EXPECT_EQ(image, whole);
    ASSERT_LT(n, 10'000U);
  }
}

// Broken: an adapter that is replaced on disk is loaded with the old file's offsets.
TEST(Image, RefusesAFileThatWasChangedSinceInspection) {
  MemoryFiles files = mixed_adapter();
  const auto adapter = inspect_adapter(files, "a", {});
  ASSERT_TRUE(adapter) << adapter.error().message;
  const auto layout = layout_of(*adapter, 4, Dtype::kF32);
  ASSERT_TRUE(layout);
  const auto manifest = plan_image(*adapter, *layout);
  ASSERT_TRUE(manifest);
  std::string image(manifest->elements * 4, '\0');
  files.rewrite("a/adapter_model.safetensors", files.files["a/adapter_model.safetensors"]);
  const auto done = load_image(files, *adapter, *layout, *manifest, std::as_writable_bytes(std::span(image)));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kCorrupt);
  EXPECT_EQ(done.error().message.find("a/adapter_model.safetensors: was changed"), 0U)
      << done.error().message;
}

}  // namespace
}  // namespace loracle
