#pragma once
/// What the adapters of a directory weigh when they are served: the bytes of their images, which is what host
/// memory holds and what a size-aware policy is told. The engine uses the same numbers for a directory,
/// so a replay with them decides as the engine does.
///
/// Cost: one scan of the directory; no weights are read. Threads: any.
/// Errors: kNotFound, kIo (the directory itself), kUnsupported (a dtype nothing is served as). Adapters that
/// cannot be served are listed, never fatal.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/files.hpp"
#include "loracle/engine/image.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct AdapterWeight {
  std::uint64_t bytes = 0;
  std::uint32_t rank = 0;
};

struct AdapterWeights {
  SlotLayout layout;  // the engine's, for the same directory
  std::map<std::string, AdapterWeight, std::less<>> adapters;
  std::vector<std::string> rejected;  // "name: reason", sorted
};

[[nodiscard]] Result<AdapterWeights> weigh_adapters(Files& files, const std::string& directory, Dtype dtype);

/// Fills `trace.adapters.bytes` and `.rank` for the adapters that were weighed; others keep what they had.
/// Answers how many of the trace's adapters were.
std::uint64_t add_weights(Trace& trace, const AdapterWeights& weights);

}  // namespace loracle
