// Both steps with what is in this machine's memory: for checks, not for serving.

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

#include "loracle/kernels/lora.hpp"

namespace loracle {
namespace {

/// Blocks of device memory that end together; the first error sticks.
class DeviceBlocks {
 public:
  DeviceBlocks() = default;
  DeviceBlocks(const DeviceBlocks&) = delete;
  DeviceBlocks& operator=(const DeviceBlocks&) = delete;
  ~DeviceBlocks() {
    for (void* block : blocks_) static_cast<void>(cudaFree(block));
  }
  [[nodiscard]] void* allocate(std::size_t bytes) {
    void* found = nullptr;
    if (error_ == cudaSuccess && used_ < blocks_.size()) {
      error_ = cudaMalloc(&found, bytes == 0 ? 1 : bytes);
      if (error_ == cudaSuccess) blocks_[used_++] = found;
    }
    return found;
  }
  template <class T>
  [[nodiscard]] T* copy(const T* from, std::size_t count) {
    void* const into = allocate(count * sizeof(T));
    if (error_ == cudaSuccess && count != 0)
      error_ = cudaMemcpy(into, from, count * sizeof(T), cudaMemcpyHostToDevice);
    return static_cast<T*>(into);
  }
  void note(cudaError_t error) {
    if (error_ == cudaSuccess) error_ = error;
  }
  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  std::array<void*, 8> blocks_{};
  std::size_t used_ = 0;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace

int lora_on_device(const LoraLayer& layer, const LoraTokens& tokens, const void* x, void* y,
                   LoraOutput output, LoraMath math) noexcept {
  constexpr std::size_t kElement = 2;
  const std::size_t x_bytes = std::size_t{tokens.tokens} * layer.in * kElement;
  const std::size_t y_bytes = std::size_t{tokens.tokens} * layer.y_columns * kElement;
  DeviceBlocks blocks;
  LoraLayer there = layer;
  LoraTokens batch = tokens;
  const std::byte* const x_there = blocks.copy(static_cast<const std::byte*>(x), x_bytes);
  std::byte* const y_there = blocks.copy(static_cast<const std::byte*>(y), y_bytes);
  const std::uint64_t floats = lora_partial_floats(layer, tokens.tokens);
  const std::span<float> partial(static_cast<float*>(blocks.allocate(floats * sizeof(float))), floats);
  if (layer.ranks != nullptr)
    there.ranks = blocks.copy(layer.ranks, std::size_t{layer.slice_count} * layer.slots);
  batch.order = blocks.copy(tokens.order, tokens.tokens);
  batch.slot = blocks.copy(tokens.slot, tokens.segments);
  batch.count = blocks.copy(tokens.count, tokens.segments);
  batch.start = blocks.copy(tokens.start, tokens.segments);
  if (blocks.error() != cudaSuccess) return blocks.error();
  // A stream waits for nothing that copies from pageable memory have left undone; the device does.
  blocks.note(cudaDeviceSynchronize());
  if (blocks.error() == cudaSuccess)
    blocks.note(static_cast<cudaError_t>(lora_shrink(there, batch, x_there, partial, math, nullptr)));
  if (blocks.error() == cudaSuccess)
    blocks.note(static_cast<cudaError_t>(lora_expand(there, batch, partial, y_there, output, math, nullptr)));
  blocks.note(cudaDeviceSynchronize());
  if (blocks.error() == cudaSuccess && y_bytes != 0)
    blocks.note(cudaMemcpy(y, y_there, y_bytes, cudaMemcpyDeviceToHost));
  return blocks.error();
}

}  // namespace loracle
