#pragma once
/// What CUDA devices this machine has, as far as sizing adapter slots needs to know.
///
/// Order: that of the CUDA runtime (CUDA_VISIBLE_DEVICES applies), so element i is device i. The calling
/// thread's current device does not change and no context is created. Cost: milliseconds on the first call,
/// when the runtime loads the driver. Threads: any. Errors: cudaErrorInsufficientDriver (no driver, or one
/// too old for this runtime) and cudaErrorNoDevice mean that there is nothing to use; anything else is a
/// fault of the machine.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

namespace loracle {

struct DeviceInfo {
  std::string name;
  std::int32_t compute_major = 0;  // 9.0 for Hopper
  std::int32_t compute_minor = 0;
  std::int32_t multiprocessors = 0;
  std::int32_t copy_engines = 0;   // copies that can run beside kernels
  std::uint64_t memory_bytes = 0;  // of the whole device, used or not
  std::uint64_t l2_bytes = 0;
};

/// Replaces `devices` by one element a device; leaves it empty on any error.
[[nodiscard]] cudaError_t list_devices(std::vector<DeviceInfo>& devices) noexcept;

/// True for the errors by which the runtime says that the machine has no usable device.
[[nodiscard]] constexpr bool means_no_device(cudaError_t error) noexcept {
  return error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
}

}  // namespace loracle
