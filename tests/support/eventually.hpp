#pragma once
/// Waits for what goes on in the background.

#include <chrono>
#include <thread>

namespace loracle::testing {

/// Whether it is done within ten seconds.
template <class Done>
[[nodiscard]] bool eventually(Done done) {
  for (int i = 0; i < 2000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace loracle::testing
