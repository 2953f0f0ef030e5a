#include "loracle/sim/model_geometry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "loracle/core/nearest.hpp"

namespace loracle {
namespace {

using Part = LinearModule::Part;

/// How a family of models cuts its layers into linear modules.
enum class Layout : std::uint8_t {
  kGated,       // q k v o, gate up down: Llama, Mistral, Qwen, Gemma, ...
  kFusedGated,  // the checkpoint itself has qkv_proj and gate_up_proj, one A each: Phi-3, Phi-4
  kPlain,       // q k v out_proj, fc1 fc2: OPT
  kPlainDense,  // q k v dense, fc1 fc2: Phi-1, Phi-2
};

struct KnownModel {
  std::string_view name;
  std::uint32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
  std::uint32_t experts = 0;
  Layout layout = Layout::kGated;
};

// From each model's published config.json.
constexpr std::array kModels = {
    KnownModel{"llama-3.1-8b", 4096, 14336, 32, 32, 8, 128, 128256},
    KnownModel{"llama-3.1-70b", 8192, 28672, 80, 64, 8, 128, 128256},
    KnownModel{"llama-3.1-405b", 16384, 53248, 126, 128, 8, 128, 128256},
    KnownModel{"llama-3.2-1b", 2048, 8192, 16, 32, 8, 64, 128256},
    KnownModel{"llama-3.2-3b", 3072, 8192, 28, 24, 8, 128, 128256},
    KnownModel{"llama-3.3-70b", 8192, 28672, 80, 64, 8, 128, 128256},
    KnownModel{"llama-3-8b", 4096, 14336, 32, 32, 8, 128, 128256},
    KnownModel{"llama-3-70b", 8192, 28672, 80, 64, 8, 128, 128256},
    KnownModel{"llama-2-7b", 4096, 11008, 32, 32, 32, 128, 32000},
    KnownModel{"llama-2-13b", 5120, 13824, 40, 40, 40, 128, 32000},
    KnownModel{"llama-2-70b", 8192, 28672, 80, 64, 8, 128, 32000},
    KnownModel{"mistral-7b", 4096, 14336, 32, 32, 8, 128, 32000},
    KnownModel{"mistral-nemo", 5120, 14336, 40, 32, 8, 128, 131072},
    KnownModel{"mixtral-8x7b", 4096, 14336, 32, 32, 8, 128, 32000, 8},
    KnownModel{"mixtral-8x22b", 6144, 16384, 56, 48, 8, 128, 32768, 8},
    KnownModel{"qwen2.5-0.5b", 896, 4864, 24, 14, 2, 64, 151936},
    KnownModel{"qwen2.5-1.5b", 1536, 8960, 28, 12, 2, 128, 151936},
    KnownModel{"qwen2.5-3b", 2048, 11008, 36, 16, 2, 128, 151936},
    KnownModel{"qwen2.5-7b", 3584, 18944, 28, 28, 4, 128, 152064},
    KnownModel{"qwen2.5-14b", 5120, 13824, 48, 40, 8, 128, 152064},
    KnownModel{"qwen2.5-32b", 5120, 27648, 64, 40, 8, 128, 152064},
    KnownModel{"qwen2.5-72b", 8192, 29568, 80, 64, 8, 128, 152064},
    KnownModel{"qwen3-0.6b", 1024, 3072, 28, 16, 8, 128, 151936},
    KnownModel{"qwen3-1.7b", 2048, 6144, 28, 16, 8, 128, 151936},
    KnownModel{"qwen3-4b", 2560, 9728, 36, 32, 8, 128, 151936},
    KnownModel{"qwen3-8b", 4096, 12288, 36, 32, 8, 128, 151936},
    KnownModel{"qwen3-14b", 5120, 17408, 40, 40, 8, 128, 151936},
    KnownModel{"qwen3-32b", 5120, 25600, 64, 64, 8, 128, 151936},
    KnownModel{"gemma-2-2b", 2304, 9216, 26, 8, 4, 256, 256000},
    KnownModel{"gemma-2-9b", 3584, 14336, 42, 16, 8, 256, 256000},
    KnownModel{"gemma-2-27b", 4608, 36864, 46, 32, 16, 128, 256000},
    KnownModel{"phi-3-mini", 3072, 8192, 32, 32, 32, 96, 32064, 0, Layout::kFusedGated},
    KnownModel{"phi-4", 5120, 17920, 40, 40, 10, 128, 100352, 0, Layout::kFusedGated},
    KnownModel{"opt-125m", 768, 3072, 12, 12, 12, 64, 50272, 0, Layout::kPlain},
    KnownModel{"opt-1.3b", 2048, 8192, 24, 32, 32, 64, 50272, 0, Layout::kPlain},
    KnownModel{"opt-6.7b", 4096, 16384, 32, 32, 32, 128, 50272, 0, Layout::kPlain},
    KnownModel{"tiny", 64, 128, 2, 4, 2, 16, 256},  // nobody's: for tests and demos
};

constexpr std::array<std::uint32_t, 9> kVllmRanks = {1, 8, 16, 32, 64, 128, 256, 320, 512};

void add_modules(ModelGeometry& model, Layout layout) {
  const std::uint64_t hidden = model.hidden_size;
  const std::uint64_t inner = model.intermediate_size;
  const std::uint64_t query = std::uint64_t{model.heads} * model.head_dim;
  const std::uint64_t key = std::uint64_t{model.kv_heads} * model.head_dim;
  const std::uint64_t layers = model.layers;
  const auto add = [&model](std::string_view name, Part part, std::uint64_t in, std::uint64_t out,
                            std::uint64_t count) {
    model.modules.push_back(LinearModule{std::string(name), part, in, out, count});
  };

  if (layout == Layout::kFusedGated) {
    add("qkv_proj", Part::kAttention, hidden, query + 2 * key, layers);
  } else {
    add("q_proj", Part::kAttention, hidden, query, layers);
    add("k_proj", Part::kAttention, hidden, key, layers);
    add("v_proj", Part::kAttention, hidden, key, layers);
  }
  const std::string_view output = layout == Layout::kPlain        ? "out_proj"
                                  : layout == Layout::kPlainDense ? "dense"
                                                                  : "o_proj";
  add(output, Part::kAttention, query, hidden, layers);

  const Part part = model.experts > 0 ? Part::kExpert : Part::kMlp;
  const std::uint64_t times = layers * std::max<std::uint64_t>(1, model.experts);
  switch (layout) {
    case Layout::kGated:
      add("gate_proj", part, hidden, inner, times);
      add("up_proj", part, hidden, inner, times);
      add("down_proj", part, inner, hidden, times);
      break;
    case Layout::kFusedGated:
      add("gate_up_proj", part, hidden, 2 * inner, times);
      add("down_proj", part, inner, hidden, times);
      break;
    case Layout::kPlain:
    case Layout::kPlainDense:
      add("fc1", part, hidden, inner, times);
      add("fc2", part, inner, hidden, times);
      break;
  }
  if (model.vocab_size > 0) {
    add("embed_tokens", Part::kEmbedding, model.vocab_size, hidden, 1);
    add("lm_head", Part::kEmbedding, hidden, model.vocab_size, 1);
  }
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

/// `meta-llama/Llama-3.1-8B-Instruct` -> `llama-3.1-8b`: what all fine-tunes of one shape have in common.
std::string plain_name(std::string_view text) {
  std::string name = lower(text);
  if (const auto slash = name.rfind('/'); slash != std::string::npos) name.erase(0, slash + 1);
  if (name.rfind("meta-llama-", 0) == 0) name.erase(0, std::strlen("meta-"));
  static constexpr std::array<std::string_view, 17> kEndings = {
      "-instruct", "-chat", "-hf",   "-it",   "-base", "-v0.1", "-v0.2", "-v0.3",         "-v1",
      "-4k",       "-128k", "-2407", "-2507", "-awq",  "-bf16", "-fp16", "-instruct-2407"};
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view ending : kEndings) {
      if (name.size() <= ending.size() ||
          name.compare(name.size() - ending.size(), ending.size(), ending) != 0)
        continue;
      name.resize(name.size() - ending.size());
      again = true;
    }
  }
  return name;
}

/// The first of `keys` that is a positive number of sane size; nothing if none is there.
std::optional<std::uint32_t> number(const nlohmann::json& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number_unsigned()) continue;
    const auto value = found->get<std::uint64_t>();
    if (value > 0 && value < (1ULL << 28U)) return static_cast<std::uint32_t>(value);
  }
  return std::nullopt;
}

Result<Layout> layout_of(const std::string& type, const nlohmann::json& json) {
  if (json.contains("kv_lora_rank"))
    return fail(Errc::kUnsupported, "latent attention (kv_lora_rank) is not a layout this can size");
  if (type == "opt" || json.contains("ffn_dim")) return Layout::kPlain;
  if (type == "phi") return Layout::kPlainDense;
  if (type == "phi3" || type == "phi4") return Layout::kFusedGated;
  static constexpr std::array<std::string_view, 8> kOther = {"gpt2",   "gpt_neox", "gptj", "bloom",
                                                             "falcon", "mpt",      "t5",   "bert"};
  if (std::find(kOther.begin(), kOther.end(), type) != kOther.end())
    return fail(Errc::kUnsupported, fmt::format("model_type '{}' is not a layout this can size", type));
  return Layout::kGated;
}

}  // namespace

const std::vector<std::string>& known_model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    all.reserve(std::size(kModels));
    for (const KnownModel& model : kModels) all.emplace_back(model.name);
    return all;
  }();
  return names;
}

Result<ModelGeometry> known_model(std::string_view name) {
  const std::string wanted = plain_name(name);
  const auto found = std::find_if(kModels.begin(), kModels.end(),
                                  [&wanted](const KnownModel& model) { return model.name == wanted; });
  if (found == kModels.end()) {
    const std::vector<std::string_view> names(known_model_names().begin(), known_model_names().end());
    const std::string_view nearest = nearest_name(wanted, names);
    return fail(Errc::kNotFound,
                fmt::format("unknown model '{}'{}; for any other model give the path of its config.json",
                            name, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
  }
  ModelGeometry model;
  model.name = std::string(found->name);
  model.source = "built-in table";
  model.hidden_size = found->hidden;
  model.intermediate_size = found->intermediate;
  model.layers = found->layers;
  model.heads = found->heads;
  model.kv_heads = found->kv_heads;
  model.head_dim = found->head_dim;
  model.vocab_size = found->vocab;
  model.experts = found->experts;
  add_modules(model, found->layout);
  return model;
}

Result<ModelGeometry> parse_model_config(std::string_view text, std::string name) {
  const auto whole = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!whole.is_object()) return fail(Errc::kCorrupt, fmt::format("{}: not a JSON object", name));
  const auto nested = whole.find("text_config");
  const nlohmann::json& json = nested != whole.end() && nested->is_object() ? *nested : whole;
  const auto type_field = json.find("model_type");
  const std::string type = type_field != json.end() && type_field->is_string()
                               ? lower(type_field->get<std::string>())
                               : std::string();
  const Result<Layout> layout = layout_of(type, json);
  if (!layout) return fail(layout.error().code, fmt::format("{}: {}", name, layout.error().message));

  ModelGeometry model;
  model.experts = number(json, {"num_local_experts", "num_experts", "n_routed_experts"}).value_or(0);
  const auto hidden = number(json, {"hidden_size", "d_model", "n_embd"});
  const auto inner = model.experts > 0 ? number(json, {"moe_intermediate_size", "intermediate_size"})
                                       : number(json, {"intermediate_size", "ffn_dim", "n_inner"});
  const auto layers = number(json, {"num_hidden_layers", "n_layer"});
  const auto heads = number(json, {"num_attention_heads", "n_head"});
  const auto missing = [&name](const char* key) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: '{}' is missing or not a positive number: is this a Hugging Face "
                            "config.json?",
                            name, key));
  };
  if (!hidden) return missing("hidden_size");
  if (!inner) return missing(*layout == Layout::kPlain ? "ffn_dim" : "intermediate_size");
  if (!layers) return missing("num_hidden_layers");
  if (!heads) return missing("num_attention_heads");

  model.name = std::move(name);
  model.source = "config.json";
  model.hidden_size = *hidden;
  model.intermediate_size = *inner;
  model.layers = *layers;
  model.heads = *heads;
  model.kv_heads = number(json, {"num_key_value_heads"}).value_or(*heads);
  model.head_dim = number(json, {"head_dim"}).value_or(*hidden / *heads);
  model.vocab_size = number(json, {"vocab_size"}).value_or(0);
  if (model.head_dim == 0 || model.kv_heads > model.heads) {
    return fail(Errc::kCorrupt, fmt::format("{}: {} heads of {} with {} key/value heads do not fit together",
                                            model.name, model.heads, model.head_dim, model.kv_heads));
  }
  add_modules(model, *layout);
  return model;
}

Result<ModelGeometry> load_model_geometry(const std::string& name_or_path) {
  std::error_code ignored;
  std::filesystem::path path(name_or_path);
  if (std::filesystem::is_directory(path, ignored)) path /= "config.json";
  if (!std::filesystem::is_regular_file(path, ignored)) {
    if (path.extension() == ".json")
      return fail(Errc::kIo, fmt::format("{}: no such file", path.string()), ENOENT);
    return known_model(name_or_path);
  }
  // A config.json is a few kilobytes; a file beyond this is something else.
  constexpr std::uintmax_t kConfigBytesMax = 16U << 20U;
  if (std::filesystem::file_size(path, ignored) > kConfigBytesMax)
    return fail(Errc::kCorrupt, fmt::format("{}: too large for a config.json", path.string()));
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return fail(Errc::kIo, fmt::format("{}: cannot open: {}", path.string(), std::strerror(errno)), errno);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return parse_model_config(text, name_or_path);
}

Result<std::vector<LinearModule>> target_modules(const ModelGeometry& model, std::string_view targets) {
  std::vector<LinearModule> chosen;
  const auto take = [&](auto wanted) {
    std::copy_if(model.modules.begin(), model.modules.end(), std::back_inserter(chosen), wanted);
    return chosen;
  };
  if (targets.empty() || targets == "auto")
    return take([](const LinearModule& m) { return m.part == Part::kAttention || m.part == Part::kMlp; });
  if (targets == "all-linear") return take([](const LinearModule& m) { return m.part != Part::kEmbedding; });
  if (targets == "attention") return take([](const LinearModule& m) { return m.part == Part::kAttention; });

  for (std::size_t begin = 0; begin <= targets.size();) {
    const std::size_t end = std::min(targets.find(',', begin), targets.size());
    const std::string_view name = targets.substr(begin, end - begin);
    begin = end + 1;
    const auto found = std::find_if(model.modules.begin(), model.modules.end(),
                                    [name](const LinearModule& module) { return module.name == name; });
    if (found == model.modules.end()) {
      std::string all;
      for (const LinearModule& module : model.modules) all += (all.empty() ? "" : ", ") + module.name;
      return fail(Errc::kNotFound, fmt::format("{} has no module '{}'; it has {}", model.name, name, all));
    }
    const bool twice = std::any_of(chosen.begin(), chosen.end(),
                                   [name](const LinearModule& module) { return module.name == name; });
    if (!twice) chosen.push_back(*found);
  }
  return chosen;
}

Result<std::uint32_t> dtype_bytes(std::string_view dtype) {
  const std::string name = lower(dtype);
  if (name.empty() || name == "auto" || name == "bf16" || name == "bfloat16" || name == "fp16" ||
      name == "float16" || name == "half")
    return 2;
  if (name == "fp32" || name == "float32" || name == "float") return 4;
  return fail(Errc::kInvalid, fmt::format("unknown dtype '{}': use auto, bf16, fp16 or fp32", dtype));
}

Bytes lora_bytes(std::span<const LinearModule> modules, std::uint32_t rank, std::uint32_t element_bytes) {
  std::uint64_t width = 0;
  for (const LinearModule& module : modules) width += (module.d_in + module.d_out) * module.count;
  return Bytes{width * rank * element_bytes};
}

std::span<const std::uint32_t> vllm_lora_ranks() noexcept { return kVllmRanks; }

std::uint32_t vllm_lora_rank_for(std::uint32_t rank) noexcept {
  const auto* found = std::lower_bound(kVllmRanks.begin(), kVllmRanks.end(), rank);
  return found == kVllmRanks.end() ? 0 : *found;
}

}  // namespace loracle
