#pragma once
/// Spreads an adapter's image over the slots of a model's stacked LoRA buffers, zero-padding to the slots'
/// rank; and gathers it again, to see that it is there.
///
///   image    [image_bytes]  uint8    the tensors end to end, each row-major, at the adapter's own rank
///   parts    [parts]                 one for each matrix of a slot, the absent ones too
///   part     source (rows, columns) -> destination (slot_rows, slot_columns), row-major; the rest is zeroed
/// A is (rank, in) -> (max_rank, in); B is (out, rank) -> (out, max_rank). A part with rows == 0 only zeroes.
/// Elements are moved, never read: `element_bytes` is all that is known of them.
/// The CUDA form needs destinations and sources aligned to their element, and is asynchronous on `stream`.
/// Errors of the CUDA form: cudaErrorInvalidValue unless element_bytes is 1, 2 or 4; those of a launch.
/// Checked against a plain loop in tests/kernels/slot_scatter_reference_test.cpp, and against each other in
/// tests/kernels/slot_scatter_test.cu; the device's index arithmetic is run on this machine in
/// tests/kernels/slot_gather_reference_test.cpp.

#include <cstddef>
#include <cstdint>
#include <span>

struct CUstream_st;

namespace loracle {

struct ScatterPart {
  std::byte* destination = nullptr;  // (slot_rows, slot_columns) of one slot of one stacked buffer
  std::uint64_t source = 0;          // bytes from the image's start
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::uint32_t slot_rows = 0;
  std::uint32_t slot_columns = 0;
};

/// On this thread, into memory of this machine. REQUIRES: every part lies within the image and its slot.
void slot_scatter_reference(std::span<const ScatterPart> parts, std::span<const std::byte> image,
                            std::uint32_t element_bytes) noexcept;

/// On a device: `parts` and `image` are device pointers. Returns a cudaError_t. Only in builds with CUDA.
[[nodiscard]] int slot_scatter(const ScatterPart* parts, std::uint32_t part_count, const std::byte* image,
                               std::uint32_t element_bytes, CUstream_st* stream) noexcept;

/// Several slots in one launch: slot s is made of parts [s x parts_per_slot .. (s + 1) x parts_per_slot) and
/// of image images[s]. All of it are device pointers. Returns a cudaError_t: cudaErrorInvalidValue above
/// 65,535 slots or parts a slot. Only in builds with CUDA.
[[nodiscard]] int slot_scatter_batch(const ScatterPart* parts, std::uint32_t parts_per_slot,
                                     const std::byte* const* images, std::uint32_t slots,
                                     std::uint32_t element_bytes, CUstream_st* stream) noexcept;

/// The way back, on this thread: what the parts hold goes to where in `image` it came from. Returns how many
/// bytes of padding are not zero: 0 after a scatter.
[[nodiscard]] std::uint64_t slot_gather_reference(std::span<const ScatterPart> parts,
                                                  std::span<std::byte> image,
                                                  std::uint32_t element_bytes) noexcept;

/// The way back on a device: all are device pointers. Adds to `*dirty_words` the words of padding that are
/// not zero; nullptr: padding is not looked at. Returns a cudaError_t. Only in builds with CUDA.
[[nodiscard]] int slot_gather(const ScatterPart* parts, std::uint32_t part_count, std::byte* image,
                              std::uint32_t element_bytes, std::uint64_t* dirty_words,
                              CUstream_st* stream) noexcept;

/// Loads the kernel on the current device, which else the first launch does. Returns a cudaError_t:
/// cudaErrorNoKernelImageForDevice where this build has no code for the device's architecture. Only in builds
/// with CUDA.
[[nodiscard]] int load_slot_scatter() noexcept;

}  // namespace loracle
