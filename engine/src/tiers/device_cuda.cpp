/// Slots on a CUDA device: one slab for all buffers, and lanes through which images go into it.
///
/// A lane is a stream with a place for one image on the device. A write copies the image there in one piece
/// and lets one kernel spread it: the second trip is through the device's own memory, which is much faster
/// than the way into the device, and it replaces a copy or more for each of hundreds of matrices
/// (bench/bench_tiers_activation.cpp compares the two). The list of parts, 18 KB for an adapter of
/// Llama-3.1-8B, goes ahead on the same stream, from pinned memory of the lane; it names the slot, so it
/// cannot be kept with the image.

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/engine/device.hpp"
#include "loracle/kernels/device_info.hpp"
#include "tiers/slot_parts.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kAlignment = 256;  // of cudaMalloc itself; every vector load is content with it
constexpr std::uint32_t kLanesMax = 2;  // one is copied to while the other is spread: copies do not overlap

struct Destroy {
  void operator()(CUstream_st* stream) const noexcept { static_cast<void>(cudaStreamDestroy(stream)); }
  void operator()(CUevent_st* event) const noexcept { static_cast<void>(cudaEventDestroy(event)); }
};
struct FreeDevice {
  void operator()(std::byte* bytes) const noexcept { static_cast<void>(cudaFree(bytes)); }
};
struct FreeHost {
  void operator()(std::byte* bytes) const noexcept { static_cast<void>(cudaFreeHost(bytes)); }
};
using Stream = std::unique_ptr<CUstream_st, Destroy>;
using Event = std::unique_ptr<CUevent_st, Destroy>;
using DeviceBytes = std::unique_ptr<std::byte, FreeDevice>;
using HostBytes = std::unique_ptr<std::byte, FreeHost>;

Error error_of(cudaError_t error, std::string_view what) {
  static_cast<void>(cudaGetLastError());  // or the next launch would be blamed for it
  if (error == cudaErrorMemoryAllocation)
    return {Errc::kTooLarge,
            fmt::format("{}: {}: lower the number of slots, the largest rank or the memory given", what,
                        cudaGetErrorString(error)),
            error};
  return {Errc::kIo,
          fmt::format("{}: {} ({}): look at nvidia-smi and the kernel's log; a device that has failed serves "
                      "again after a restart",
                      what, cudaGetErrorString(error), cudaGetErrorName(error)),
          error};
}

/// True if this process uses the device already. To make one current creates a context on it, which costs
/// hundreds of megabytes of its memory.
bool has_context(int ordinal) noexcept {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult answer = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &found, 7000, cudaEnableDefault,
                                       &answer) != cudaSuccess ||
      answer != cudaDriverEntryPointSuccess) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  unsigned flags = 0;
  int active = 0;
  const auto state = reinterpret_cast<PFN_cuDevicePrimaryCtxGetState_v7000>(found);
  return state(ordinal, &flags, &active) == CUDA_SUCCESS && active != 0;
}

/// While it lives, this thread's calls do not end the capture of a graph that another thread has begun in
/// global mode, as an allocation or a wait would: nothing that is captured is touched here.
class CapturesGoOn {
 public:
  CapturesGoOn() noexcept : error_(cudaThreadExchangeStreamCaptureMode(&mode_)) {}
  CapturesGoOn(const CapturesGoOn&) = delete;
  CapturesGoOn& operator=(const CapturesGoOn&) = delete;
  ~CapturesGoOn() {
    if (error_ == cudaSuccess) static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_));
  }
  [[nodiscard]] cudaError_t error() const noexcept { return error_; }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // then what it was before
  cudaError_t error_;
};

/// Makes a device current on this thread while it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) noexcept : error_(captures_.error()) {
    if (error_ == cudaSuccess) error_ = cudaGetDevice(&before_);
    if (error_ != cudaSuccess || before_ == ordinal) return;
    restore_ = has_context(before_);
    error_ = cudaSetDevice(ordinal);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() {
    if (restore_) static_cast<void>(cudaSetDevice(before_));
  }
  [[nodiscard]] cudaError_t error() const noexcept { return error_; }

 private:
  CapturesGoOn captures_;  // the first to begin and the last to end
  int before_ = 0;
  bool restore_ = false;
  cudaError_t error_;
};

Result<DeviceBytes> device_bytes(std::uint64_t bytes, std::string_view what) {
  void* found = nullptr;
  if (bytes == 0) return DeviceBytes();
  if (const cudaError_t error = cudaMalloc(&found, bytes); error != cudaSuccess)
    return fail(error_of(error, fmt::format("{}: {} bytes of device memory", what, bytes)));
  return DeviceBytes(static_cast<std::byte*>(found));
}

Result<HostBytes> host_bytes(std::uint64_t bytes, std::string_view what) {
  void* found = nullptr;
  if (bytes == 0) return HostBytes();
  if (const cudaError_t error = cudaHostAlloc(&found, bytes, cudaHostAllocPortable); error != cudaSuccess)
    return fail(error_of(error, fmt::format("{}: {} bytes of pinned memory", what, bytes)));
  return HostBytes(static_cast<std::byte*>(found));
}

struct Lane {
  Stream stream;
  HostBytes parts;      // [2 x slices]  ScatterPart
  DeviceBytes staging;  // an image of the largest rank, then the parts
  std::uint64_t parts_at = 0;
};

Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  if (const cudaError_t error =
          cudaEventCreateWithFlags(&event, cudaEventBlockingSync | cudaEventDisableTiming);
      error != cudaSuccess)
    return fail(error_of(error, "an event that tells when a slot is written"));
  return Event(event);
}

Result<Lane> make_lane(const SlotLayout& layout) {
  const std::uint64_t parts_bytes = 2 * layout.slices.size() * sizeof(ScatterPart);
  Lane lane;
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      error != cudaSuccess)
    return fail(error_of(error, "a stream to write slots"));
  lane.stream.reset(stream);
  lane.parts_at = (layout.slot_bytes() + kAlignment - 1) / kAlignment * kAlignment;
  Result<DeviceBytes> staging = device_bytes(lane.parts_at + parts_bytes, "images on their way into slots");
  if (!staging) return fail(std::move(staging.error()));
  lane.staging = std::move(*staging);
  Result<HostBytes> parts = host_bytes(parts_bytes, "lists of the parts of images");
  if (!parts) return fail(std::move(parts.error()));
  lane.parts = std::move(*parts);
  return lane;
}

class CudaDevice final : public DeviceMemory {
 public:
  explicit CudaDevice(int ordinal) : ordinal_(ordinal) {}
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  ~CudaDevice() override {
    const CurrentDevice here(ordinal_);
    lanes_.clear();
    written_.clear();
    slab_.reset();
    host_.clear();
  }

  [[nodiscard]] std::string_view kind() const noexcept override { return "cuda"; }

  [[nodiscard]] Result<Unit> allocate(const SlotLayout& layout, std::uint32_t slots) override;
  [[nodiscard]] Result<std::span<std::byte>> allocate_host(std::uint64_t bytes) override;
  [[nodiscard]] Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                        std::span<const std::byte> image) override;
  [[nodiscard]] Result<Unit> wait_for_slot(std::uint32_t slot, void* stream) override;
  [[nodiscard]] Result<Unit> read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                       std::span<std::byte> into) override;
  [[nodiscard]] std::byte* buffer(std::uint32_t slice, SlotSide side) noexcept override {
    return buffers_.buffer(slice, side);
  }

 private:
  /// One caller's use of a lane; waits until one is free.
  class Turn {
   public:
    explicit Turn(CudaDevice& device) : device_(device) {
      std::unique_lock lock(device_.mutex_);
      device_.lane_free_.wait(lock, [this] { return !device_.free_lanes_.empty(); });
      lane_ = device_.free_lanes_.back();
      device_.free_lanes_.pop_back();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      {
        const std::lock_guard lock(device_.mutex_);
        device_.free_lanes_.push_back(lane_);
      }
      device_.lane_free_.notify_one();
    }
    [[nodiscard]] Lane& lane() const noexcept { return *lane_; }

   private:
    CudaDevice& device_;
    Lane* lane_ = nullptr;
  };

  [[nodiscard]] cudaError_t begin_write(Lane& lane, std::uint32_t slot, std::span<const ScatterPart> parts,
                                        std::span<const std::byte> image) noexcept;

  int ordinal_;
  SlotBuffers buffers_;
  DeviceBytes slab_;
  std::vector<HostBytes> host_;
  std::vector<Event> written_;  // [slots]  after the last write that was begun
  std::vector<Lane> lanes_;
  std::mutex mutex_;               // guards free_lanes_
  std::vector<Lane*> free_lanes_;  // a stack
  std::condition_variable lane_free_;
};

Result<Unit> CudaDevice::allocate(const SlotLayout& layout, std::uint32_t slots) {
  LORACLE_CHECK(lanes_.empty());
  Result<SlotBuffers> buffers = place_slot_buffers(layout, slots, kAlignment);
  if (!buffers) return fail(std::move(buffers.error()));
  const CurrentDevice here(ordinal_);
  if (here.error() != cudaSuccess) return fail(error_of(here.error(), "the device of the slots"));
  Result<DeviceBytes> slab = device_bytes(buffers->bytes, "device slots");
  if (!slab) return fail(std::move(slab.error()));
  std::vector<Lane> lanes;
  while (lanes.size() < std::min(slots, kLanesMax)) {
    Result<Lane> lane = make_lane(layout);
    if (!lane) return fail(std::move(lane.error()));
    lanes.push_back(std::move(*lane));
  }
  std::vector<Event> written;
  while (written.size() < slots) {
    Result<Event> event = make_event();
    if (!event) return fail(std::move(event.error()));
    written.push_back(std::move(*event));
  }
  if (buffers->bytes != 0) {
    CUstream_st* const stream = lanes.front().stream.get();
    cudaError_t error = cudaMemsetAsync(slab->get(), 0, buffers->bytes, stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    if (error != cudaSuccess) return fail(error_of(error, "device slots: to zero them"));
  }
  slab_ = std::move(*slab);
  buffers_ = std::move(*buffers);
  buffers_.slab = slab_.get();
  written_ = std::move(written);
  lanes_ = std::move(lanes);
  for (Lane& lane : lanes_) free_lanes_.push_back(&lane);
  return Unit{};
}

Result<std::span<std::byte>> CudaDevice::allocate_host(std::uint64_t bytes) {
  const CurrentDevice here(ordinal_);
  if (here.error() != cudaSuccess) return fail(error_of(here.error(), "the device of the host memory"));
  Result<HostBytes> block = host_bytes(bytes, "host memory for adapters");
  if (!block) return fail(std::move(block.error()));
  host_.push_back(std::move(*block));
  return std::span(host_.back().get(), bytes);
}

cudaError_t CudaDevice::begin_write(Lane& lane, std::uint32_t slot, std::span<const ScatterPart> parts,
                                    std::span<const std::byte> image) noexcept {
  CUstream_st* const stream = lane.stream.get();
  std::byte* const staged_image = lane.staging.get();
  std::byte* const staged_parts = staged_image + lane.parts_at;
  cudaError_t error = cudaSuccess;
  if (!parts.empty()) {
    std::memcpy(lane.parts.get(), parts.data(), parts.size_bytes());
    error =
        cudaMemcpyAsync(staged_parts, lane.parts.get(), parts.size_bytes(), cudaMemcpyHostToDevice, stream);
  }
  if (error == cudaSuccess && !image.empty())
    error = cudaMemcpyAsync(staged_image, image.data(), image.size(), cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess)
    error = static_cast<cudaError_t>(slot_scatter(reinterpret_cast<const ScatterPart*>(staged_parts),
                                                  static_cast<std::uint32_t>(parts.size()), staged_image,
                                                  bytes_of(buffers_.layout.dtype), stream));
  if (error == cudaSuccess) error = cudaEventRecord(written_[slot].get(), stream);
  return error;
}

Result<Unit> CudaDevice::write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                    std::span<const std::byte> image) {
  const Result<std::vector<ScatterPart>> parts = slot_parts(buffers_, slot, manifest, image);
  if (!parts) return fail(parts.error());
  LORACLE_CHECK(image.size() <= buffers_.layout.slot_bytes());
  const CurrentDevice here(ordinal_);
  if (here.error() != cudaSuccess) return fail(error_of(here.error(), fmt::format("slot {}", slot)));
  const Turn turn(*this);
  cudaError_t error = begin_write(turn.lane(), slot, *parts, image);
  if (error == cudaSuccess) error = cudaEventSynchronize(written_[slot].get());
  // What was begun may still read the image, which is the caller's again after this.
  if (error != cudaSuccess) static_cast<void>(cudaStreamSynchronize(turn.lane().stream.get()));
  if (error == cudaSuccess) return Unit{};
  return fail(error_of(error, fmt::format("slot {}: to write an image of {} bytes", slot, image.size())));
}

Result<Unit> CudaDevice::wait_for_slot(std::uint32_t slot, void* stream) {
  if (auto found = check_slot(buffers_, slot); !found) return found;
  const CurrentDevice here(ordinal_);
  cudaError_t error = here.error();
  if (error == cudaSuccess)
    error = cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), written_[slot].get(), 0);
  if (error == cudaSuccess) return Unit{};
  return fail(error_of(error, fmt::format("slot {}: to let a stream wait for it", slot)));
}

Result<Unit> CudaDevice::read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                   std::span<std::byte> into) {
  const Result<std::byte*> from = slot_matrix(buffers_, slot, slice, side, into.size());
  if (!from) return fail(from.error());
  if (into.empty()) return Unit{};
  const CurrentDevice here(ordinal_);
  cudaError_t error = here.error();
  const Turn turn(*this);
  CUstream_st* const stream = turn.lane().stream.get();
  if (error == cudaSuccess)
    error = cudaMemcpyAsync(into.data(), *from, into.size(), cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (error == cudaSuccess) return Unit{};
  return fail(error_of(error, fmt::format("slot {}: to read slice {} of it", slot, slice)));
}

}  // namespace

Result<std::unique_ptr<DeviceMemory>> make_cuda_device(int ordinal) {
  const CapturesGoOn captures;
  std::vector<DeviceInfo> devices;
  const cudaError_t listed = list_devices(devices);
  if (means_no_device(listed))
    return fail(Errc::kNotFound,
                fmt::format("CUDA: {}: install NVIDIA's driver for CUDA {}.{} or newer, or serve from host "
                            "memory",
                            cudaGetErrorString(listed), CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10),
                listed);
  if (listed != cudaSuccess) return fail(error_of(listed, "CUDA: to list the devices"));
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices.size())
    return fail(Errc::kNotFound, fmt::format("CUDA device {}: there are {}, numbered from 0, as "
                                             "CUDA_VISIBLE_DEVICES has them",
                                             ordinal, devices.size()));
  const DeviceInfo& info = devices[static_cast<std::size_t>(ordinal)];
  const std::string what = fmt::format("CUDA device {}, {} of compute capability {}.{}", ordinal, info.name,
                                       info.compute_major, info.compute_minor);
  const CurrentDevice here(ordinal);
  if (here.error() != cudaSuccess) return fail(error_of(here.error(), what));
  const auto loaded = static_cast<cudaError_t>(load_slot_scatter());
  if (loaded == cudaErrorNoKernelImageForDevice || loaded == cudaErrorInvalidDeviceFunction) {
    static_cast<void>(cudaGetLastError());
    return fail(
        Errc::kUnsupported,
        fmt::format("{}: this build has no code for it: build with its CMAKE_CUDA_ARCHITECTURES", what),
        loaded);
  }
  if (loaded != cudaSuccess) return fail(error_of(loaded, what));
  return std::make_unique<CudaDevice>(ordinal);
}

}  // namespace loracle
