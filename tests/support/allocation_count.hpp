#pragma once
/// Counts heap allocations of the whole process, so that a test can say "this loop allocates nothing".
///
/// Works only in binaries that link `loracle_test_allocations`, which replaces the global operator new and
/// delete, or under clang's thread sanitizer hears of them; elsewhere it fails to link. malloc called
/// directly is not counted, but under that sanitizer. Threads: the count is atomic.

#include <cstdint>

namespace loracle::testing {

/// Calls of any operator new since the process began. The difference of two readings is what lay between
/// them.
[[nodiscard]] std::uint64_t allocation_count() noexcept;

}  // namespace loracle::testing
