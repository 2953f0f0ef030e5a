#pragma once
/// What lies in an adapter's directory: found, its headers read and checked, no weights read yet.
///
/// Layout as PEFT saves it: `adapter_config.json` beside `adapter_model.safetensors`, or, if that is absent,
/// `adapter_model.bin` (torch.save; zip or legacy), optionally `new_embeddings.safetensors`.
/// A tensor is named [base_model.model.]MODULE.lora_{A,B}.weight; A is [r, in], B [out, r] on disk.
/// Checked: header bounds, overlaps and dtypes; names; A and B both there, rows of A = columns of B = the
/// module's rank by the config. Anything else in the file is refused by name.
/// Cost: two small reads an adapter (config; header). Threads: any.
/// Errors: kNotFound (no such directory, config or weights), kIo, kCorrupt (the bytes are damaged),
/// kInvalid (sound bytes that break a rule), kUnsupported (a dtype); messages begin with the path.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_config.hpp"
#include "loracle/engine/files.hpp"

namespace loracle {

/// Values reach the catalog: never renumber.
enum class Dtype : std::uint8_t { kF32 = 1, kF16 = 2, kBf16 = 3, kF8E4M3 = 4, kF8E5M2 = 5 };
[[nodiscard]] std::uint32_t bytes_of(Dtype dtype) noexcept;
/// "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2": torch's names.
[[nodiscard]] std::string_view name_of(Dtype dtype) noexcept;
/// Those names, and fp32 f32 fp16 f16 half bf16. Errors: kNotFound.
[[nodiscard]] Result<Dtype> parse_dtype(std::string_view name);

/// Values reach the catalog: never renumber.
enum class WeightFormat : std::uint8_t { kSafetensors = 1, kTorchZip = 2, kTorchLegacy = 3 };
[[nodiscard]] std::string_view name_of(WeightFormat format) noexcept;

inline constexpr std::uint32_t kNoEntry = 0xFFFF'FFFFU;

/// Where the elements of a tensor lie, row-major and contiguous: `offset` in the weights file, or, where
/// `entry` says so, in that entry of the zip archive once it is inflated. (Torch itself never compresses;
/// such a file was packed anew, and loads at the pace of zlib.)
struct StoredTensor {
  std::uint64_t offset = 0;
  Dtype dtype = Dtype::kBf16;
  std::uint32_t entry = kNoEntry;
};

/// One linear layer an adapter changes: y += scaling x (x A^T) B^T.
struct LoraModule {
  std::string name;  // "model.layers.0.self_attn.q_proj": without the base_model.model. prefix
  std::uint32_t rank = 0;
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  double scaling = 1;
  StoredTensor a;  // (rank, in)
  StoredTensor b;  // (out, rank)
};

struct AdapterFiles {
  std::string directory;
  std::string weights_path;
  WeightFormat format = WeightFormat::kSafetensors;
  FileStat config_stat;
  FileStat weights_stat;
  AdapterConfig config;
  std::vector<LoraModule> modules;  // sorted by name
  std::uint32_t rank_max = 0;       // over modules
  Dtype dtype = Dtype::kBf16;       // of the first module's A
  bool has_new_embeddings = false;
  std::uint64_t element_count = 0;  // of all A and B together

  /// Bytes of the adapter's image when served as `serving`.
  [[nodiscard]] std::uint64_t image_bytes(Dtype serving) const noexcept {
    return element_count * bytes_of(serving);
  }
};

/// Reads and checks the headers of the adapter in `directory`.
[[nodiscard]] Result<AdapterFiles> inspect_adapter(Files& files, const std::string& directory,
                                                   const AdapterRules& rules);

}  // namespace loracle
