#pragma once
/// The S3 provider with its surroundings handed in, for tests: make_s3_storage hands in the process's own.

#include <cstdint>
#include <functional>
#include <memory>

#include "loracle/core/result.hpp"
#include "loracle/storage/provider.hpp"
#include "storage/environment.hpp"

namespace loracle {

struct S3Surroundings {
  EnvironmentLookup env;
  std::function<std::int64_t()> unix_s;
};

[[nodiscard]] Result<std::unique_ptr<StorageProvider>> make_s3_storage_in(const S3StorageOptions& given,
                                                                          S3Surroundings surroundings);

}  // namespace loracle
