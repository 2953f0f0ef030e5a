#pragma once
/// The memory LoRA slots live in: on a GPU, or, without one, on this machine, with the same layout and the
/// same interface.
///
/// Per slice of the layout there are two stacked buffers, as vLLM allocates them:
///   A  [slots, max_rank, in]     B  [slots, out, max_rank]      row-major, of the serving dtype, zeroed
/// They are allocated once and written in place: an address given out stays good until the device is closed.
/// Threads: `write_slot` may run on several threads at once, for different slots; the rest on one.
/// Errors: kTooLarge (memory), kIo (detail = cudaError_t).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "loracle/core/result.hpp"
#include "loracle/engine/image.hpp"

namespace loracle {

enum class SlotSide : std::uint8_t { kA, kB };

class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  /// Allocates the stacked buffers. Called once.
  [[nodiscard]] virtual Result<Unit> allocate(const SlotLayout& layout, std::uint32_t slots) = 0;

  /// Memory of this machine that the device copies from at full speed, or an error; freed with the device.
  [[nodiscard]] virtual Result<std::span<std::byte>> allocate_host(std::uint64_t bytes) = 0;

  /// Writes an image into a slot, whole: what the adapter lacks becomes zero. Returns when the slot may be
  /// used. On an error the slot's content is undefined.
  [[nodiscard]] virtual Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                                std::span<const std::byte> image) = 0;

  /// Reads one matrix of a slot back, at the layout's padded shape. For tests and checks.
  [[nodiscard]] virtual Result<Unit> read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                               std::span<std::byte> into) = 0;

  /// The stacked buffer of one slice, a device address: for whoever runs the kernels.
  [[nodiscard]] virtual std::byte* buffer(std::uint32_t slice, SlotSide side) noexcept = 0;
};

/// Slots in the memory of this machine.
[[nodiscard]] std::unique_ptr<DeviceMemory> make_host_memory_device();

}  // namespace loracle
