#pragma once
/// Under a sanitizer a test takes 20 to 80 times as long. There it looks for bad accesses, which the first
/// rounds show; that the numbers hold over all rounds is for the release build to prove.

#include <gtest/gtest.h>

namespace loracle::testing {

#if defined(LORACLE_SANITIZED_ADDRESS) || defined(LORACLE_SANITIZED_THREAD)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// `all`; under a sanitizer `few`.
template <class T>
constexpr T all_or_few(T all, T few) noexcept {
  return kSanitized ? few : all;
}

}  // namespace loracle::testing

/// Ends a test that needs all of its rounds to say anything, and whose code other tests run too.
#define LORACLE_SKIP_IF_SANITIZED() \
  if (loracle::testing::kSanitized) GTEST_SKIP() << "statistics: the release build runs this"
