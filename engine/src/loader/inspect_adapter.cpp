#include <fmt/format.h>

#include <span>
#include <utility>

#include "lora_tensors.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "module_scales.hpp"
#include "safetensors.hpp"
#include "torch_bin.hpp"

namespace loracle {
namespace {

Result<Unit> read_config(Files& files, const AdapterRules& rules, AdapterFiles& adapter) {
  const std::string path = adapter.directory + "/adapter_config.json";
  Result<std::unique_ptr<OpenFile>> file = files.open(path);
  if (!file) return fail(std::move(file.error()));
  adapter.config_stat = (*file)->stat();
  if (adapter.config_stat.size > kAdapterConfigBytesMax)
    return fail(Errc::kCorrupt, fmt::format("{}: {} bytes are no adapter_config.json, at most {} are read",
                                            path, adapter.config_stat.size, kAdapterConfigBytesMax));
  std::string text(adapter.config_stat.size, '\0');
  if (auto read = read_exactly(**file, path, 0, std::as_writable_bytes(std::span(text))); !read) return read;
  Result<AdapterConfig> config = parse_adapter_config(text, path);
  if (!config) return fail(std::move(config.error()));
  if (auto checked = check_adapter_config(*config, rules, path); !checked) return checked;
  adapter.config = std::move(*config);
  return Unit{};
}

/// The weights in vLLM's order of preference.
Result<std::unique_ptr<OpenFile>> open_weights(Files& files, AdapterFiles& adapter) {
  for (const char* name : {"/adapter_model.safetensors", "/adapter_model.bin"}) {
    adapter.weights_path = adapter.directory + name;
    Result<std::unique_ptr<OpenFile>> file = files.open(adapter.weights_path);
    if (file || file.error().code != Errc::kNotFound) return file;
  }
  return fail(
      Errc::kNotFound,
      fmt::format("{}: holds neither adapter_model.safetensors nor adapter_model.bin", adapter.directory));
}

Result<TensorTable> read_tensors(OpenFile& file, AdapterFiles& adapter) {
  const bool safetensors = adapter.weights_path.ends_with(".safetensors");
  if (safetensors) {
    adapter.format = WeightFormat::kSafetensors;
    return read_safetensors_header(file, adapter.weights_path);
  }
  return read_torch_tensors(file, adapter.weights_path, adapter.format);
}

Result<Unit> add_modules(const TensorTable& table, const AdapterRules& rules, AdapterFiles& adapter) {
  const auto failed = [&adapter](const Error& error) {
    return fail(error.code, fmt::format("{}: {}", adapter.weights_path, error.message));
  };
  const Result<ModuleScales> scales = ModuleScales::compile(adapter.config);
  if (!scales) return failed(scales.error());
  Result<std::vector<LoraModule>> modules = lora_modules(table, *scales, lora_rank_max(rules));
  if (!modules) return failed(modules.error());
  adapter.modules = std::move(*modules);
  adapter.dtype = adapter.modules.front().a.dtype;
  for (const LoraModule& module : adapter.modules) {
    adapter.rank_max = std::max(adapter.rank_max, module.rank);
    adapter.element_count += std::uint64_t{module.rank} * (std::uint64_t{module.in} + module.out);
  }
  return Unit{};
}

}  // namespace

Result<AdapterFiles> inspect_adapter(Files& files, const std::string& directory, const AdapterRules& rules) {
  AdapterFiles adapter;
  adapter.directory = directory;
  if (auto read = read_config(files, rules, adapter); !read) return fail(std::move(read.error()));
  Result<std::unique_ptr<OpenFile>> file = open_weights(files, adapter);
  if (!file) return fail(std::move(file.error()));
  adapter.weights_stat = (*file)->stat();
  const Result<TensorTable> table = read_tensors(**file, adapter);
  if (!table) return fail(table.error());
  if (auto added = add_modules(*table, rules, adapter); !added) return fail(std::move(added.error()));
  const Result<FileStat> embeddings = files.stat(directory + "/new_embeddings.safetensors");
  if (!embeddings && embeddings.error().code != Errc::kNotFound) return fail(embeddings.error());
  adapter.has_new_embeddings = embeddings.has_value();
  return adapter;
}

}  // namespace loracle
