#pragma once
/// The memory LoRA slots live in: on a GPU, or, without one, on this machine, with the same layout and the
/// same interface.
///
/// Per slice of the layout there are two stacked buffers, as vLLM allocates them:
///   A  [slots, max_rank, in]     B  [slots, out, max_rank]      row-major, of the serving dtype, zeroed
/// They are allocated once and written in place: an address given out stays good until the device is closed.
/// A GPU is written by one copy of the image and one kernel that spreads it (kernels/slot_scatter.hpp), on
/// streams of its own. Two writes run at once there, more wait for their turn; for them it holds two images
/// of the largest rank beside the slots. A thread's current CUDA device stays what it was; one that has
/// not used any yet may be left on this one. Another thread may capture a CUDA graph meanwhile, in any mode.
/// Whoever reads a slot must be done with it before it is written again: leases see to that.
/// Threads: `write_slot` may run on several threads at once, for different slots; `wait_for_slot` on any; the
/// rest on one.
/// Errors: kInvalid (a slot, slice or size that was not allocated), kTooLarge (memory), kIo; of a GPU
/// detail = cudaError_t.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/engine/image.hpp"

namespace loracle {

enum class SlotSide : std::uint8_t { kA, kB };

class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  /// Whose memory it is: "cuda" or "host".
  [[nodiscard]] virtual std::string_view kind() const noexcept = 0;

  /// Allocates the stacked buffers. Succeeds once; a failure leaves nothing behind.
  [[nodiscard]] virtual Result<Unit> allocate(const SlotLayout& layout, std::uint32_t slots) = 0;

  /// Memory of this machine that the device copies from at full speed, or an error; freed with the device.
  [[nodiscard]] virtual Result<std::span<std::byte>> allocate_host(std::uint64_t bytes) = 0;

  /// Writes an image into a slot, whole: what the adapter lacks becomes zero. Returns when the slot may be
  /// used, by any stream. On an error the slot's content is undefined. The image may lie in any memory of
  /// this machine; a GPU reads that of allocate_host several times faster. REQUIRES: the manifest is
  /// plan_image's for the layout.
  [[nodiscard]] virtual Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                                std::span<const std::byte> image) = 0;

  /// Lets whatever is put on `stream` (a cudaStream_t) from now on wait for the last write of the slot that
  /// has been put on its way, without holding up the caller. That is every write whose `write_slot` has
  /// returned, and one that still runs on another thread once it has got its turn on the device: who has to
  /// be sure of that one waits for its return. In host memory there is nothing to wait for.
  [[nodiscard]] virtual Result<Unit> wait_for_slot(std::uint32_t slot, void* stream) = 0;

  /// Reads one matrix of a slot back, at the layout's padded shape. For tests and checks.
  [[nodiscard]] virtual Result<Unit> read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                               std::span<std::byte> into) = 0;

  /// The stacked buffer of one slice, a device address: for whoever runs the kernels.
  [[nodiscard]] virtual std::byte* buffer(std::uint32_t slice, SlotSide side) noexcept = 0;
};

/// Slots in the memory of this machine.
[[nodiscard]] std::unique_ptr<DeviceMemory> make_host_memory_device();

/// Slots on a CUDA device; `ordinal` counts as CUDA_VISIBLE_DEVICES has it. Errors: kUnsupported (this build
/// has no CUDA, or no code for that device's architecture), kNotFound (no driver, or no such device), kIo.
[[nodiscard]] Result<std::unique_ptr<DeviceMemory>> make_cuda_device(int ordinal);

/// The first CUDA device if one can be used, else host memory; `kind()` says which. To learn why there is no
/// CUDA device, ask make_cuda_device.
[[nodiscard]] std::unique_ptr<DeviceMemory> make_best_device();

/// As people ask for it: "auto" (the best), "cuda" (the first) or "host". Errors: kInvalid (none of these),
/// kUnsupported (there is no CUDA device to be had, for whatever reason).
[[nodiscard]] Result<std::unique_ptr<DeviceMemory>> make_device(std::string_view kind);

}  // namespace loracle
