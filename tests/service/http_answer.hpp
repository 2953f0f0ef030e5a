#pragma once
/// What tests of the service over HTTP share.

#include <gtest/gtest.h>
#include <httplib.h>

#include "support/eventually.hpp"

namespace loracle::testing {

/// An answer, or a failed test and an empty one.
[[nodiscard]] inline httplib::Response answer_of(const httplib::Result& result) {
  EXPECT_TRUE(result) << "no answer: " << httplib::to_string(result.error());
  return result ? *result : httplib::Response{};
}

}  // namespace loracle::testing
