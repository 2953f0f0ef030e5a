#pragma once
/// One adapter from storage into memory: brought to this machine, inspected anew, compared with what the
/// catalog knows, read. Runs on workers. Errors: those of localize, inspect_adapter and load_image; kCorrupt
/// if the files are no longer those that were catalogued.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/engine/env.hpp"
#include "loracle/engine/image.hpp"
#include "serving/adapter_source.hpp"

namespace loracle {

[[nodiscard]] Result<std::shared_ptr<const ImageManifest>> read_image(const Env& env, const std::string& name,
                                                                      const AdapterSource& source,
                                                                      const SlotLayout& layout,
                                                                      std::span<std::byte> image);

}  // namespace loracle
