#pragma once
/// Which failures pass by themselves.

#include "loracle/core/result.hpp"

namespace loracle::service {

/// What failed may succeed when it is tried again: nothing is known against it.
[[nodiscard]] constexpr bool is_transient(Errc code) noexcept {
  return code == Errc::kIo || code == Errc::kDeadline || code == Errc::kBusy || code == Errc::kCancelled;
}

/// Others have what is wanted: slots, memory, places in a queue.
[[nodiscard]] constexpr bool is_lack_of_room(Errc code) noexcept {
  return code == Errc::kAllPinned || code == Errc::kDeadline || code == Errc::kBusy;
}

}  // namespace loracle::service
