#pragma once
/// Writes weight files: what the readers beside this read, made by our own hands. Neither flushes to the
/// disk nor renames; see make_adapters.hpp.
/// Errors: kIo (detail = errno; messages begin with the path).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"

namespace loracle {

struct TensorToWrite {
  std::string name;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
};

/// Fills the elements of one tensor; called once for each, in order.
using FillTensor = std::function<void(std::span<std::byte>)>;

/// The file's size. REQUIRES: names are unique.
[[nodiscard]] Result<std::uint64_t> write_safetensors(const std::string& path, Dtype dtype,
                                                      std::span<const TensorToWrite> tensors,
                                                      const FillTensor& fill);
/// As torch.save does of a dict of tensors. REQUIRES: dtype is kF32, kF16 or kBf16.
[[nodiscard]] Result<std::uint64_t> write_torch_zip(const std::string& path, Dtype dtype,
                                                    std::span<const TensorToWrite> tensors,
                                                    const FillTensor& fill);

}  // namespace loracle
