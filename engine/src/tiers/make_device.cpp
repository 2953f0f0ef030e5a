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

}  // namespace loracle
