#pragma once
/// The tensors of a torch.save'd adapter_model.bin, zip or legacy, without running anything in it.
/// Errors: kCorrupt, kInvalid, kUnsupported; messages begin with the path.

#include <string>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/files.hpp"
#include "tensor_table.hpp"

namespace loracle {

/// Also says which of the two formats it is.
[[nodiscard]] Result<TensorTable> read_torch_tensors(OpenFile& file, const std::string& path,
                                                     WeightFormat& format);

}  // namespace loracle
