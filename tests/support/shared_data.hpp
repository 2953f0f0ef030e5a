#pragma once
/// Where the optional data folder is: real traces and reference tables that are not part of the repository.
///
/// Found through the environment variable LORACLE_SHARED, else as `shared` inside or beside the checkout.
/// Tests that need a file of it begin with LORACLE_SHARED_FILE, which skips the test, saying so, where the
/// file is absent.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

namespace loracle::testing {

/// The folder, or nothing where there is none.
[[nodiscard]] inline std::optional<std::filesystem::path> shared_folder() {
  std::error_code ignored;
  if (const char* named = std::getenv("LORACLE_SHARED"); named != nullptr && *named != '\0') {
    if (std::filesystem::is_directory(named, ignored)) return std::filesystem::path(named);
    return std::nullopt;  // named and absent: do not fall back to another folder behind the caller's back
  }
  const std::filesystem::path source(LORACLE_SOURCE_DIR);
  for (const std::filesystem::path& folder : {source / "shared", source.parent_path() / "shared"}) {
    if (std::filesystem::is_directory(folder, ignored)) return folder;
  }
  return std::nullopt;
}

/// A file or folder inside it, by its path there ("traces/azure/x.csv"), or nothing.
[[nodiscard]] inline std::optional<std::filesystem::path> shared_file(const std::string& relative) {
  const std::optional<std::filesystem::path> folder = shared_folder();
  if (!folder) return std::nullopt;
  std::filesystem::path file = *folder / relative;
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  return file;
}

}  // namespace loracle::testing

/// Declares `name` as the path of a file of the data folder, or skips the test that stands around it.
#define LORACLE_SHARED_FILE(name, relative)                                                             \
  const auto name##_found = ::loracle::testing::shared_file(relative);                                  \
  if (!name##_found)                                                                                    \
    GTEST_SKIP() << "no data: " << (relative) << " is not in $LORACLE_SHARED or ./shared or ../shared"; \
  const std::filesystem::path& name = *name##_found
