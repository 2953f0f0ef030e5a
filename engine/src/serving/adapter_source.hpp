#pragma once
/// Where an adapter's bytes come from, and what was found when it was last inspected.

#include <cstdint>
#include <string>

#include "loracle/engine/files.hpp"

namespace loracle {

struct AdapterSource {
  std::uint32_t id = 0;     // the catalog's, from 1
  std::uint32_t rank = 0;   // its largest
  std::uint64_t bytes = 0;  // of its image
  std::string directory;
  bool is_scanned = true;  // found in the engine's directory, where a refresh looks again
  std::string uri;         // empty, or asked anew for the directory before each load
  std::string content;     // of uri: a load of anything else is refused
  FileStat config_stat;    // what was inspected: a load of anything else is refused
  FileStat weights_stat;
};

}  // namespace loracle
