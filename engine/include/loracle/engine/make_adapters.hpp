#pragma once
/// Writes synthetic adapters that are valid in every respect but their training: for benchmarks, demos and
/// tests that need a thousand adapters and have none.
///
/// Adapter i is a directory DIRECTORY/names[i] with PEFT's two files, rank ranks[i mod n], lora_alpha twice
/// the rank, and small random weights, B included. Same seed, name, rank, model, targets and dtype: same
/// bytes. An adapter appears by a rename, when it is whole. One that is there already and passes inspection
/// is left alone and counted; anything else in its place is refused, unless `force` replaces it.
/// Cost: writes what an adapter weighs, about 1 GB/s of values; memory is one tensor. Threads: two calls must
/// not make the same adapter. Not flushed to the disk: a power cut may leave files that inspection refuses.
/// Errors: kInvalid (a name that is no directory's name, or twice; a rank; something in the way), kNotFound
/// (a target module), kUnsupported (an embedding as target; float8 in a .bin), kTooLarge (above bytes_max:
/// nothing is written), kIo.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/sim/model_geometry.hpp"

namespace loracle {

struct MakeAdaptersOptions {
  std::string directory;  // made if it is not there
  std::vector<std::string> names;
  std::vector<std::uint32_t> ranks = {8};
  ModelGeometry model;
  std::string targets = "all-linear";  // as target_modules() reads it
  Dtype dtype = Dtype::kBf16;
  WeightFormat format = WeightFormat::kSafetensors;  // or kTorchZip
  std::uint64_t seed = 1;
  bool force = false;
  Bytes bytes_max = Bytes::max();  // of all that would be written
};

struct MadeAdapters {
  std::uint64_t made = 0;
  std::uint64_t kept = 0;
  std::uint64_t bytes = 0;  // of weight files made
};

/// "adapter-0000", "adapter-0001", ...: four digits, or as many as the last needs.
[[nodiscard]] std::vector<std::string> numbered_adapter_names(std::uint64_t count);

/// `progress` is told after each adapter: how many are done, of how many.
[[nodiscard]] Result<MadeAdapters> make_adapters(
    const MakeAdaptersOptions& options, const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace loracle
