// The CUDA device over a runtime that needs no GPU: its order of things, its errors, what it frees. That a
// GPU does as it is told is device_cuda_test's to show.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "device_contract.hpp"
#include "kernels/fake_cuda.hpp"

namespace loracle::testing {
namespace {

std::unique_ptr<DeviceMemory> make_fake_device() { return std::move(*make_cuda_device(0)); }

INSTANTIATE_TEST_SUITE_P(FakeCuda, DeviceContract, ::testing::Values(DeviceKind{"cuda", &make_fake_device}));

/// A step's result; one that failed must say why, and is then done once more.
class Steps {
 public:
  template <class Step>
  auto operator()(Step step) {
    auto result = step();
    if (!result) {
      EXPECT_TRUE(result.error().code == Errc::kIo || result.error().code == Errc::kTooLarge)
          << result.error().message;
      EXPECT_NE(result.error().message, "");
      EXPECT_NE(result.error().detail, 0);
      EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "somebody else's launch would be blamed";
      ++failed;
      result = step();
    }
    return result;
  }
  int failed = 0;
};

// If this failed, one call that the driver refuses would leak memory, hang a thread, or spoil a slot for
// good.
TEST(CudaDeviceOverFake, SurvivesTheFailureOfAnyCall) {
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  std::uint64_t n = 1;
  for (;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    const std::int64_t live = fake_cuda_live();
    {
      Steps steps;
      fake_cuda_fail_call(n);
      const auto device = steps([] { return make_cuda_device(0); });
      ASSERT_TRUE(device) << device.error().message;
      ASSERT_TRUE(steps([&] { return (*device)->allocate(layout, 3); }));
      const auto arena = steps([&] { return (*device)->allocate_host(layout.slot_bytes()); });
      ASSERT_TRUE(arena);
      for (std::uint32_t slot = 0; slot < 3; ++slot) {
        const MadeImage image = make_image(layout, 1 + slot, slot);
        ASSERT_TRUE(steps([&] {
          const std::span<std::byte> bytes = arena->first(image.bytes.size());
          std::copy(image.bytes.begin(), image.bytes.end(), bytes.begin());
          const Result<Unit> written = (*device)->write_slot(slot, image.manifest, bytes);
          EXPECT_EQ(fake_cuda_pending(), 0) << "the image is the caller's again, even after an error";
          return written;
        }));
        ASSERT_TRUE(steps([&] { return (*device)->wait_for_slot(slot, nullptr); }));
      }
      std::vector<std::byte> matrix(std::size_t{8} * 64 * 2);
      ASSERT_TRUE(steps([&] { return (*device)->read_slot(0, 0, SlotSide::kA, matrix); }));
      const bool failed = fake_cuda_has_failed();
      fake_cuda_fail_call(0);
      for (std::uint32_t slot = 0; slot < 3; ++slot)
        ASSERT_TRUE(holds(**device, layout, slot, make_image(layout, 1 + slot, slot)));
      EXPECT_EQ(steps.failed, failed ? 1 : 0);
      if (!failed) break;
    }
    EXPECT_EQ(fake_cuda_live(), live);
  }
  EXPECT_GT(n, 30U);
}

// If this failed, a kernel queued behind wait_for_slot would compute with half an adapter.
TEST(CudaDeviceOverFake, AStreamWaitsForAWriteThatIsStillRunning) {
  const std::unique_ptr<DeviceMemory> device = make_fake_device();
  const SlotLayout layout = mixed_layout(16, Dtype::kF32);
  const MadeImage image = make_image(layout, 16, 1);
  ASSERT_TRUE(device->allocate(layout, 1));
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  const std::uint64_t recorded = fake_cuda_events_recorded();
  fake_cuda_pause_all_but(stream);
  std::thread writer([&] { EXPECT_TRUE(device->write_slot(0, image.manifest, image.bytes)); });
  while (fake_cuda_events_recorded() == recorded) std::this_thread::yield();
  std::vector<std::byte> a(std::size_t{16} * layout.slices[0].in * sizeof(float));
  EXPECT_TRUE(device->wait_for_slot(0, stream));
  EXPECT_EQ(
      cudaMemcpyAsync(a.data(), device->buffer(0, SlotSide::kA), a.size(), cudaMemcpyDeviceToHost, stream),
      cudaSuccess);
  const std::int64_t pending = fake_cuda_pending();
  for (int i = 0; i < 20 && fake_cuda_pending() == pending; ++i)  // were it not to wait, it would copy now
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  fake_cuda_go_on();
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), image.bytes.begin()));
  writer.join();
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

// If this failed, every process of a server with several GPUs would hold memory on the first one, or would
// find itself on another GPU than it has chosen.
TEST(CudaDeviceOverFake, KeepsToItsDeviceAndLeavesTheCallersCurrent) {
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  const MadeImage image = make_image(layout, 8, 1);
  for (const bool caller_uses_first : {false, true}) {
    std::thread([&] {  // with no device of its own yet
      fake_cuda_forget_contexts();
      if (caller_uses_first) fake_cuda_use(0);
      const Result<std::unique_ptr<DeviceMemory>> device = make_cuda_device(1);
      ASSERT_TRUE(device);
      ASSERT_TRUE((*device)->allocate(layout, 2));
      ASSERT_TRUE((*device)->allocate_host(64));
      ASSERT_TRUE((*device)->write_slot(0, image.manifest, image.bytes));
      ASSERT_TRUE((*device)->wait_for_slot(0, nullptr));
      EXPECT_TRUE(holds(**device, layout, 0, image));
      EXPECT_EQ(fake_cuda_has_context(0), caller_uses_first);
      EXPECT_TRUE(fake_cuda_has_context(1));
      if (caller_uses_first) {
        EXPECT_EQ(fake_cuda_current(), 0);
      }
    })
        .join();
  }
}

// If this failed, a server that captures a graph while adapters load would lose the capture.
TEST(CudaDeviceOverFake, LeavesTheCapturesOfOtherThreadsAlone) {
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  const MadeImage image = make_image(layout, 8, 1);
  const std::uint64_t unsafe = fake_cuda_calls_unsafe_in_captures();
  cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  {
    const std::unique_ptr<DeviceMemory> device = make_fake_device();
    ASSERT_TRUE(device->allocate(layout, 2));
    ASSERT_TRUE(device->allocate_host(64));
    ASSERT_TRUE(device->write_slot(0, image.manifest, image.bytes));
    ASSERT_TRUE(device->wait_for_slot(0, nullptr));
    EXPECT_TRUE(holds(*device, layout, 0, image));
  }
  EXPECT_EQ(fake_cuda_calls_unsafe_in_captures(), unsafe);
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeThreadLocal) << "the caller's mode is the caller's again";
}

// If this failed, a number that is no device's would reach the driver.
TEST(CudaDeviceOverFake, NamesADeviceThatIsNotThere) {
  for (const int ordinal : {-1, 2}) {
    const Result<std::unique_ptr<DeviceMemory>> device = make_cuda_device(ordinal);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, Errc::kNotFound);
    EXPECT_NE(device.error().message.find(std::to_string(ordinal)), std::string::npos);
  }
}

}  // namespace
}  // namespace loracle::testing
