#pragma once
/// Checks for bugs of ours. LORACLE_CHECK is always on; LORACLE_DCHECK is for hot loops and is on in the
/// `checked`, `tsan` and `fuzz` presets. A failed check prints the condition, file and line, and aborts.
/// What the world can do wrong (files, flags, sockets) is never a check: it is a `Result` (result.hpp).

namespace loracle::detail {
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;
}  // namespace loracle::detail

#define LORACLE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::loracle::detail::check_failed(#condition, __FILE__, __LINE__))

#ifdef LORACLE_DCHECKS
#define LORACLE_DCHECK(condition) LORACLE_CHECK(condition)
#else
#define LORACLE_DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#endif
