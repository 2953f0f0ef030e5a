#pragma once
/// Times loads on this machine: reads from a directory's disk, and copies into the slots of its GPU.
///
/// Disk: a file of random bytes is written there, flushed, unlinked, and read back in pieces of several sizes
/// past the page cache (O_DIRECT; where the file system refuses that, the cache is told to drop it first).
/// What lies below the system, the disk's own cache and that of a virtual machine's host, cannot be emptied.
/// Slots: images of a model's LoRA at ranks 1, 2, 4 ... are written into slots of just that rank, from pinned
/// memory, as the engine does it. Without a GPU nothing is counted for slots: a copy within host memory is no
/// load into a GPU's, and only its rate is told.
/// Errors: kNotFound, kIo (the directory), kInvalid (model).

#include <cstdint>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/sim/measurements.hpp"

namespace loracle::app {

struct MeasureOptions {
  std::string directory;
  Bytes largest{64ULL << 20U};  // piece read from disk; and room needed there
  std::uint32_t rounds = 7;     // of every size
  std::string model = "llama-3.1-8b";
};

struct MeasuredLoads {
  std::vector<TimedLoad> loads;
  std::vector<std::string> notes;
};

[[nodiscard]] Result<MeasuredLoads> measure_loads(const MeasureOptions& options);

/// Processor, threads and GPUs of this machine, without its name.
[[nodiscard]] std::string this_machine();

}  // namespace loracle::app
