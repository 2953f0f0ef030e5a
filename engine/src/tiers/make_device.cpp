#include <fmt/format.h>

#include <utility>

#include "loracle/engine/device.hpp"

namespace loracle {

#ifndef LORACLE_HAVE_CUDA
Result<std::unique_ptr<DeviceMemory>> make_cuda_device(int) {
  return fail(Errc::kUnsupported,
              "CUDA: this build has none: build with LORACLE_CUDA=ON and nvcc, or serve from host memory");
}
#endif

std::unique_ptr<DeviceMemory> make_best_device() {
  Result<std::unique_ptr<DeviceMemory>> cuda = make_cuda_device(0);
  return cuda ? std::move(*cuda) : make_host_memory_device();
}

Result<std::unique_ptr<DeviceMemory>> make_device(std::string_view kind) {
  if (kind == "auto") return make_best_device();
  if (kind == "host") return make_host_memory_device();
  if (kind != "cuda") return fail(Errc::kInvalid, fmt::format("device '{}': give auto, cuda or host", kind));
  Result<std::unique_ptr<DeviceMemory>> cuda = make_cuda_device(0);
  if (!cuda) return fail(Errc::kUnsupported, std::move(cuda.error().message), cuda.error().detail);
  return cuda;
}

}  // namespace loracle
