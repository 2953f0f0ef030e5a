#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "support/allocation_count.hpp"
#include "support/shared_data.hpp"
#include "support/temp_dir.hpp"

namespace loracle::testing {
namespace {

// Without this, "allocates nothing" tests could pass because nothing is ever counted.
TEST(AllocationCount, SeesEveryFormOfNew) {
  struct alignas(64) Wide {
    std::uint64_t words[8];
  };
  const std::uint64_t before = allocation_count();
  const auto single = std::make_unique<int>(1);
  const auto array = std::make_unique<int[]>(100);
  const auto wide = std::make_unique<Wide>();
  const std::uint64_t after = allocation_count();
  EXPECT_EQ(after - before, 3U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(wide.get()) % 64, 0U);
}

// A test folder left behind would fill the disk of whoever runs the suite often.
TEST(TempDir, IsGoneWhenItsOwnerIs) {
  std::filesystem::path path;
  {
    const TempDir dir;
    path = dir.path();
    ASSERT_FALSE(path.empty());
    EXPECT_EQ(std::filesystem::file_size(dir.write("a.txt", "four")), 4U);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

// A misspelt variable must skip the tests it was meant for, not quietly run them on other data.
TEST(SharedData, DoesNotFallBackWhenTheNamedFolderIsAbsent) {
  const char* before = std::getenv("LORACLE_SHARED");
  const std::string kept = before == nullptr ? "" : before;
  ASSERT_EQ(::setenv("LORACLE_SHARED", "/nonexistent/loracle", 1), 0);
  EXPECT_FALSE(shared_folder().has_value());
  if (before == nullptr) {
    ::unsetenv("LORACLE_SHARED");
  } else {
    ::setenv("LORACLE_SHARED", kept.c_str(), 1);
  }
}

}  // namespace
}  // namespace loracle::testing
