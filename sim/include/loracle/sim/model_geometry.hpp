#pragma once
/// The linear layers of a base model, and what a LoRA adapter of it weighs.
///
/// An adapter of rank r adds, to every linear layer it targets, A (r x d_in) and B (d_out x r). So an
/// adapter, and a slot that must be able to hold any adapter up to `max_lora_rank`, weighs
///   rank x sum over target modules of (d_in + d_out) x bytes of the dtype.
/// Example: Llama-3.1-8B, all linear layers, bf16: 83,886,080 bytes at rank 16, 335,544,320 at rank 64.
///
/// Not counted: LoRA on the embedding and on lm_head unless they are named as targets (vLLM reserves buffers
/// for them where a model declares them); tensor parallelism, which divides most of a slot among the GPUs.
/// Geometry comes from a built-in table or a Hugging Face `config.json`. Pure functions, but for the one that
/// reads a file. Errors: kNotFound (unknown model; names the nearest known, and the config.json way), kIo,
/// kCorrupt (not JSON), kInvalid (a needed field is missing or absurd), kUnsupported (a layout this does not
/// know).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

/// One kind of linear layer, and how often the model has it.
struct LinearModule {
  enum class Part : std::uint8_t { kAttention, kMlp, kExpert, kEmbedding };
  std::string name;  // as in PEFT's target_modules: "q_proj"
  Part part = Part::kAttention;
  std::uint64_t d_in = 0;
  std::uint64_t d_out = 0;
  std::uint64_t count = 0;  // layers, or layers x experts
};

struct ModelGeometry {
  std::string name;    // the table's name, or the path as given
  std::string source;  // "built-in table", "config.json"
  std::uint32_t hidden_size = 0;
  std::uint32_t intermediate_size = 0;
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t experts = 0;  // 0: a dense model
  std::uint32_t vocab_size = 0;
  std::vector<LinearModule> modules;  // every linear layer LoRA could target, embeddings included
};

/// The built-in table's entry. Case, an organisation before a slash, and endings such as -Instruct do not
/// matter.
[[nodiscard]] Result<ModelGeometry> known_model(std::string_view name);
[[nodiscard]] const std::vector<std::string>& known_model_names();

/// The geometry in `text`, a Hugging Face config.json; `name` is only repeated. A multimodal model's
/// `text_config` is used.
[[nodiscard]] Result<ModelGeometry> parse_model_config(std::string_view text, std::string name);

/// A name in the table, a path to a config.json, or a folder that holds one.
[[nodiscard]] Result<ModelGeometry> load_model_geometry(const std::string& name_or_path);

/// The modules an adapter targets: `auto` (all linear layers; of a mixture of experts the attention alone),
/// `all-linear` (the experts too), `attention`, or a list: `q_proj,v_proj`. Errors: kNotFound (no such
/// module).
[[nodiscard]] Result<std::vector<LinearModule>> target_modules(const ModelGeometry& model,
                                                               std::string_view targets);

/// Bytes of one element: `auto` (2), `bf16`, `fp16`, `fp32` and their long names. Errors: kInvalid.
[[nodiscard]] Result<std::uint32_t> dtype_bytes(std::string_view dtype);

/// Bytes of an adapter of `rank`; of a slot, when `rank` is max_lora_rank.
[[nodiscard]] Bytes lora_bytes(std::span<const LinearModule> modules, std::uint32_t rank,
                               std::uint32_t element_bytes);

/// The values vLLM accepts for --max-lora-rank, ascending.
[[nodiscard]] std::span<const std::uint32_t> vllm_lora_ranks() noexcept;
/// The smallest accepted one that holds `rank`; 0 if none does.
[[nodiscard]] std::uint32_t vllm_lora_rank_for(std::uint32_t rank) noexcept;

}  // namespace loracle
