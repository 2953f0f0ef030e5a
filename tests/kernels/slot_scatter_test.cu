// If this fails, a GPU serves weights that are not the adapter's. Exits with 77, "skipped", without a device.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "loracle/kernels/device_info.hpp"
#include "loracle/kernels/slot_scatter.hpp"
#include "scatter_cases.hpp"

namespace {

using loracle::ScatterPart;
using loracle::testing::ScatterCase;

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

/// For what is not under test: there is no going on after it.
void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

/// Bytes on the device, filled with `fill` or with a copy.
class DeviceBlock {
 public:
  DeviceBlock(std::size_t bytes, int fill) {
    require(cudaMalloc(&data_, bytes + 1), "cudaMalloc");
    require(cudaMemset(data_, fill, bytes + 1), "cudaMemset");
  }
  DeviceBlock(const void* from, std::size_t bytes) : DeviceBlock(bytes, 0) {
    require(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice), "copy to the device");
  }
  DeviceBlock(const DeviceBlock&) = delete;
  DeviceBlock& operator=(const DeviceBlock&) = delete;
  ~DeviceBlock() { static_cast<void>(cudaFree(data_)); }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
  [[nodiscard]] std::vector<std::byte> read(std::size_t bytes) const {
    std::vector<std::byte> found(bytes);
    require(cudaMemcpy(found.data(), data_, bytes, cudaMemcpyDeviceToHost), "copy from the device");
    return found;
  }

 private:
  void* data_ = nullptr;
};

constexpr int kUntouched = 0xA5;

void expect_equals_reference(const ScatterCase& scene, cudaStream_t stream) {
  std::vector<std::byte> expected(scene.slot_bytes, std::byte{kUntouched});
  loracle::slot_scatter_reference(scene.placed_at(expected.data()), scene.source(),
                                  scene.shape.element_bytes);

  const DeviceBlock slot(scene.slot_bytes, kUntouched);
  const DeviceBlock image(scene.image.data(), scene.image.size());
  const std::vector<ScatterPart> placed = scene.placed_at(slot.data());
  const DeviceBlock parts(placed.data(), placed.size() * sizeof(ScatterPart));
  const std::byte* const source = image.data() + (scene.image.size() - scene.source().size());
  require(cudaDeviceSynchronize(), "what the case needs");
  const int error = loracle::slot_scatter(reinterpret_cast<const ScatterPart*>(parts.data()),
                                          static_cast<std::uint32_t>(placed.size()), source,
                                          scene.shape.element_bytes, stream);
  expect(error == cudaSuccess, scene.name().c_str());
  require(cudaStreamSynchronize(stream), scene.name().c_str());
  const std::vector<std::byte> found = slot.read(scene.slot_bytes);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;
    std::printf("FAILED: %s: byte %zu is %d, not %d\n", scene.name().c_str(), i, static_cast<int>(found[i]),
                static_cast<int>(expected[i]));
    ++failures;
    return;
  }
}

}  // namespace

int main() {
  std::vector<loracle::DeviceInfo> devices;
  if (const cudaError_t error = loracle::list_devices(devices); error != cudaSuccess) {
    if (!loracle::means_no_device(error)) require(error, "to list the devices");
    std::printf("SKIPPED: no CUDA device: %s\n", cudaGetErrorString(error));
    return 77;
  }
  require(static_cast<cudaError_t>(loracle::load_slot_scatter()), "the kernel loads");
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  int cases = 0;
  for (const ScatterCase& scene : loracle::testing::scatter_cases()) {
    expect_equals_reference(scene, stream);
    ++cases;
  }
  expect_equals_reference(loracle::testing::many_small_parts(), stream);
  expect(loracle::slot_scatter(nullptr, 0, nullptr, 2, stream) == cudaSuccess, "no parts: nothing to do");
  for (const std::uint32_t element_bytes : {0U, 3U, 8U})
    expect(loracle::slot_scatter(nullptr, 0, nullptr, element_bytes, stream) == cudaErrorInvalidValue,
           "an element has 1, 2 or 4 bytes");
  require(cudaStreamDestroy(stream), "the stream is destroyed");
  require(cudaGetLastError(), "no error is left behind");
  if (failures == 0) std::printf("ok: %d shapes and one of many parts\n", cases);
  return failures == 0 ? 0 : 1;
}
