// The contract of DeviceMemory on a GPU, and what only a GPU can get wrong. Exits with 77, "skipped", without
// a device.

#include <cuda_runtime_api.h>

#include <cstdio>

#include "device_contract.hpp"

namespace loracle::testing {
namespace {

/// main has seen that this works.
std::unique_ptr<DeviceMemory> make_first_device() { return std::move(*make_cuda_device(0)); }

INSTANTIATE_TEST_SUITE_P(Cuda, DeviceContract, ::testing::Values(DeviceKind{"cuda", &make_first_device}));

// If this failed, the GPU would copy from memory that may be paged out, at a fraction of the speed.
TEST(CudaDevice, SlotsAreOnTheDeviceAndHostMemoryIsPinned) {
  const std::unique_ptr<DeviceMemory> device = make_first_device();
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  ASSERT_TRUE(device->allocate(layout, 2));
  const Result<std::span<std::byte>> host = device->allocate_host(4096);
  ASSERT_TRUE(host);
  cudaPointerAttributes attributes{};
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, host->data()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    for (const SlotSide side : {SlotSide::kA, SlotSide::kB}) {
      ASSERT_EQ(cudaPointerGetAttributes(&attributes, device->buffer(slice, side)), cudaSuccess);
      EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(device->buffer(slice, side)) % 256, 0U);
    }
  }
}

// If this failed, a kernel queued behind wait_for_slot would compute with half an adapter.
TEST(CudaDevice, AStreamThatWaitsForASlotReadsTheWholeImage) {
  const std::unique_ptr<DeviceMemory> device = make_first_device();
  SlotLayout layout;
  layout.slices = {{"layers.0.q_proj", 4096, 4096}};
  layout.max_rank = 256;
  ASSERT_TRUE(device->allocate(layout, 2));
  const Result<std::span<std::byte>> arena = device->allocate_host(layout.slot_bytes());
  ASSERT_TRUE(arena);
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  for (std::uint32_t round = 0; round < 4; ++round) {
    const MadeImage image = make_image(layout, 256, round);
    std::copy(image.bytes.begin(), image.bytes.end(), arena->begin());
    ASSERT_TRUE(device->write_slot(1, image.manifest, *arena));
    ASSERT_TRUE(device->wait_for_slot(1, stream));
    const std::uint64_t bytes = layout.slot_bytes() / 2;  // of A in one slot
    std::vector<std::byte> a(bytes);
    ASSERT_EQ(cudaMemcpyAsync(a.data(), device->buffer(0, SlotSide::kA) + bytes, bytes,
                              cudaMemcpyDeviceToHost, stream),
              cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), image.bytes.begin())) << "round " << round;
  }
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

// If this failed, a server that opens and closes engines would run out of device memory.
TEST(CudaDevice, GivesBackItsMemory) {
  const auto use = [] {
    const std::unique_ptr<DeviceMemory> device = make_first_device();
    SlotLayout layout;
    layout.slices = {{"layers.0.q_proj", 4096, 4096}};
    layout.max_rank = 256;
    ASSERT_TRUE(device->allocate(layout, 16));
    ASSERT_TRUE(device->allocate_host(1U << 20U));
  };
  use();  // the first use makes the context and loads the kernel, which stay
  std::size_t before = 0;
  std::size_t after = 0;
  std::size_t total = 0;
  ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
  for (int i = 0; i < 10; ++i) use();
  ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
  EXPECT_GE(after + (32U << 20U), before) << "each use has 72 MB";
}

// If this failed, an error answered here would be blamed on the next kernel of somebody else.
TEST(CudaDevice, LeavesNoErrorAndNoOtherDeviceBehind) {
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  const std::unique_ptr<DeviceMemory> device = make_first_device();
  EXPECT_FALSE(device->allocate_host(std::uint64_t{1} << 52U));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  int count = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  const Result<std::unique_ptr<DeviceMemory>> none = make_cuda_device(count);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kNotFound);
  const Result<std::unique_ptr<DeviceMemory>> last = make_cuda_device(count - 1);
  ASSERT_TRUE(last) << last.error().message;
  ASSERT_TRUE((*last)->allocate(mixed_layout(8, Dtype::kBf16), 1));
  int current = -1;
  ASSERT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 0);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace loracle::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const auto device = loracle::make_cuda_device(0);
  if (!device && device.error().code == loracle::Errc::kNotFound) {
    std::printf("SKIPPED: %s\n", device.error().message.c_str());
    return 77;
  }
  if (!device) {
    std::printf("FAILED: %s\n", device.error().message.c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}
