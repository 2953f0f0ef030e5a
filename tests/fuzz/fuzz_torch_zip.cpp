// Any bytes as an adapter_model.bin, zip or legacy: refused with its path, or an adapter whose image can be
// loaded and takes no more than the file can hold.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "../engine/memory_files.hpp"
#include "loracle/engine/image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  loracle::testing::MemoryFiles files;
  files.files["a/adapter_config.json"] = R"({"r": 2, "lora_alpha": 3, "target_modules": []})";
  files.files["a/adapter_model.bin"] = std::string(reinterpret_cast<const char*>(data), size);
  const auto adapter = loracle::inspect_adapter(files, "a", {});
  if (!adapter) {
    if (adapter.error().message.find("a/adapter_model.bin: ") != 0) std::abort();
    return 0;
  }
  if (adapter->element_count > 16 * size) std::abort();
  const std::array<const loracle::AdapterFiles*, 1> all = {&*adapter};
  const auto layout = loracle::layout_for(all, 2, loracle::Dtype::kF16);
  if (!layout) return 0;
  const auto manifest = loracle::plan_image(*adapter, *layout);
  if (!manifest) return 0;
  std::vector<std::byte> image(manifest->elements * 2);
  (void)loracle::load_image(files, *adapter, *layout, *manifest, image);
  return 0;
}
