#include "loracle/kernels/device_info.hpp"

namespace loracle {

cudaError_t list_devices(std::vector<DeviceInfo>& devices) noexcept {
  devices.clear();
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // or the next launch would be blamed for it
    return error;
  }
  devices.reserve(static_cast<std::size_t>(count));
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      devices.clear();
      return error;
    }
    DeviceInfo info;
    info.name = properties.name;
    info.compute_major = properties.major;
    info.compute_minor = properties.minor;
    info.multiprocessors = properties.multiProcessorCount;
    info.copy_engines = properties.asyncEngineCount;
    info.memory_bytes = properties.totalGlobalMem;
    info.l2_bytes = static_cast<std::uint64_t>(properties.l2CacheSize);
    devices.push_back(info);
  }
  return cudaSuccess;
}

}  // namespace loracle
