#pragma once
/// A model's linear layers by the names that transformers gives them: what adapters of it may change.

#include <span>
#include <vector>

#include "loracle/engine/adapter_files.hpp"
#include "loracle/sim/model_geometry.hpp"

namespace loracle {

/// One module a layer, experts each; ascending by name, of rank 1. `targets` are the model's.
[[nodiscard]] std::vector<LoraModule> modules_of(const ModelGeometry& model,
                                                 std::span<const LinearModule> targets);

}  // namespace loracle
