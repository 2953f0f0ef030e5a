#pragma once
/// What tests of the service over HTTP share.

#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <thread>

namespace loracle::testing {

/// An answer, or a failed test and an empty one.
[[nodiscard]] inline httplib::Response answer_of(const httplib::Result& result) {
  EXPECT_TRUE(result) << "no answer: " << httplib::to_string(result.error());
  return result ? *result : httplib::Response{};
}

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
