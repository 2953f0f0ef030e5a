// If this fails, a machine's devices are miscounted or misdescribed. Exits with 77, "skipped", without a
// device.

#include <cstdio>
#include <vector>

#include "loracle/kernels/device_info.hpp"

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

}  // namespace

int main() {
  std::vector<loracle::DeviceInfo> devices(3);
  const cudaError_t error = loracle::list_devices(devices);
  if (error != cudaSuccess) {
    expect(devices.empty(), "an error leaves the list empty");
    expect(loracle::means_no_device(error), cudaGetErrorString(error));
    if (failures != 0) return 1;
    std::printf("SKIPPED: no CUDA device: %s\n", cudaGetErrorString(error));
    return 77;
  }
  int count = 0;
  expect(cudaGetDeviceCount(&count) == cudaSuccess, "the runtime still answers");
  expect(devices.size() == static_cast<std::size_t>(count), "one element a device");
  for (const loracle::DeviceInfo& device : devices) {
    std::printf("%s: compute %d.%d, %d multiprocessors, %d copy engines, %llu bytes, L2 %llu bytes\n",
                device.name.c_str(), device.compute_major, device.compute_minor, device.multiprocessors,
                device.copy_engines, static_cast<unsigned long long>(device.memory_bytes),
                static_cast<unsigned long long>(device.l2_bytes));
    expect(!device.name.empty(), "a device has a name");
    expect(device.compute_major >= 5, "a device has a compute capability");
    expect(device.multiprocessors > 0, "a device has multiprocessors");
    expect(device.memory_bytes > device.l2_bytes, "memory is larger than its cache");
  }
  if (failures == 0) std::printf("ok: %d devices\n", count);
  return failures == 0 ? 0 : 1;
}
