#include "engine/c_api_fixture.h"

#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "loracle/engine/make_adapters.hpp"

char* fixture_new_folder(void) {
  const std::string pattern = (std::filesystem::temp_directory_path() / "loracle-c-XXXXXX").string();
  char* const path = static_cast<char*>(std::malloc(pattern.size() + 1));
  if (path == nullptr) return nullptr;
  std::memcpy(path, pattern.c_str(), pattern.size() + 1);
  if (::mkdtemp(path) != nullptr) return path;
  std::free(path);
  return nullptr;
}

void fixture_remove(const char* path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

int fixture_make_adapter(const char* folder, const char* name, uint32_t rank, uint64_t seed) {
  loracle::MakeAdaptersOptions options;
  options.directory = folder;
  options.names = {name};
  options.ranks = {rank};
  options.targets = "q_proj,v_proj";
  options.seed = seed;
  options.force = true;
  loracle::Result<loracle::ModelGeometry> model = loracle::known_model("tiny");
  if (!model) return 1;
  options.model = std::move(*model);
  return loracle::make_adapters(options) ? 0 : 1;
}
