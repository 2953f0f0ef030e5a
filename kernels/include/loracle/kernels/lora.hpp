#pragma once
/// The LoRA product of a batch whose tokens use different adapters:
///   y[t, y_column_i : y_column_i + out_i] += (x[t] A_i^T) B_i^T    for each slice i; A_i, B_i of t's slot
/// in two steps that share a workspace: shrink (x A^T) and expand (B^T).
///
///   x        (tokens, in)                          float16 or bfloat16, row-major
///   a        (slots, max_rank, in)                 of x's type; one stacked buffer a slice, as vLLM has them
///   b        (slots, out, max_rank)                of x's type
///   ranks    (slices, slots)              int32    the true ranks, 0..max_rank; 0: the adapter lacks it
///   partial  (slices, splits, tokens, max_rank)    float; of a row the first `rank` are written and read
///   y        (tokens, y_columns)                   of x's type, row-major
/// What lies beyond an adapter's rank in a slot is neither read nor paid for. Sums are binary32; the
/// intermediate keeps 16 bits of mantissa or more; y is rounded once, to nearest even, when it is written.
/// With float16 an intermediate above 65504 becomes infinite, and one below 2^-20 is kept to within 2^-36.
///
/// Invariants: 1. A token of slot -1 (or of rank 0) keeps its y under kAdd and gets zeros under kOverwrite.
/// 2. Equal calls give equal bits: partial sums are added in one order, there are no atomics. 3. The device
/// forms launch kernels and do nothing else: no allocation, no synchronisation, nothing read back; they may
/// be captured in a CUDA graph and replayed after the arrays' contents have changed.
/// Shapes: any in, out, rank and token count; widths and addresses that are multiples of 16 bytes are faster.
/// Threads: pure, but for what they write. Errors of the device forms: cudaErrorInvalidValue for a shape
/// outside the limits below or a workspace that is too small, and those of a launch.
/// Checked against lora_reference (binary64, Eigen) in tests/kernels/lora_host_test.cpp, and on a device
/// in tests/kernels/lora_test.cu. Source: SGMV of Punica (Chen et al., MLSys 2024); the layouts are vLLM's
/// (vllm/lora/ops/triton_ops).

#include <cstddef>
#include <cstdint>
#include <span>

#include "loracle/kernels/convert.hpp"

struct CUstream_st;

namespace loracle {

inline constexpr std::uint32_t kLoraSlicesMax = 8;  // q, k, v is three

struct LoraSlice {
  const void* a = nullptr;  // (slots, max_rank, in)
  const void* b = nullptr;  // (slots, out, max_rank)
  std::uint32_t out = 0;
  std::uint32_t y_column = 0;  // where the slice begins in a row of y; slices do not overlap
};

/// One layer that LoRA adds to. Passed to kernels by value.
struct LoraLayer {
  LoraSlice slices[kLoraSlicesMax];  // [slice_count]; a plain array, which device code may index
  std::uint32_t slice_count = 0;
  std::uint32_t slots = 0;
  std::uint32_t max_rank = 0;
  std::uint32_t in = 0;
  std::uint32_t y_columns = 0;
  ElementType type = ElementType::kBf16;  // or kF16
  const std::int32_t* ranks = nullptr;    // (slice_count, slots); nullptr: max_rank everywhere
};

/// Which token uses which slot, as vLLM's LoRAKernelMeta has it: the tokens ordered by slot are cut into
/// segments of one slot each. Segment k is order[start[k]] .. order[start[k] + count[k] - 1]. Starts ascend
/// over the segments that are not empty; empty ones may say anything.
struct LoraTokens {
  std::uint32_t tokens = 0;
  std::uint32_t segments = 0;
  const std::int32_t* order = nullptr;  // [tokens]    token_indices_sorted_by_lora_ids
  const std::int32_t* slot = nullptr;   // [segments]  active_lora_ids; -1: none
  const std::int32_t* count = nullptr;  // [segments]  num_tokens_per_lora
  const std::int32_t* start = nullptr;  // [segments]  lora_token_start_loc
};

enum class LoraOutput : std::uint8_t { kAdd, kOverwrite };
enum class LoraMath : std::uint8_t { kTensorCores, kPlain };

/// Arrays to hold the segments of up to so many tokens over so many slots.
struct LoraTokenArrays {
  std::span<std::int32_t> order;  // [>= tokens]
  std::span<std::int32_t> slot;   // [>= slots + 1]
  std::span<std::int32_t> count;  // [>= slots + 1]
  std::span<std::int32_t> start;  // [>= slots + 1]
};

/// Orders tokens by slot, those of slot -1 first and otherwise as they came; O(tokens + slots), no
/// allocation. The first segment is that of -1. Arrays beyond the segments in use are set to empty segments,
/// so that the whole may be copied to a device and used with `segments` = slots + 1 in a captured graph. A
/// slot outside -1 .. slots - 1 counts as -1. Returns the segments over the caller's arrays.
[[nodiscard]] LoraTokens sort_tokens_by_slot(std::span<const std::int32_t> slot_of_token, std::uint32_t slots,
                                             const LoraTokenArrays& arrays) noexcept;

/// How many partial sums a shrink leaves for the expand to add up: a function of the shape alone. 1 is the
/// layout of vLLM's intermediate.
[[nodiscard]] std::uint32_t lora_splits(const LoraLayer& layer, std::uint32_t tokens) noexcept;
/// Floats of `partial` for a batch of so many tokens. Not monotonic: few tokens are split more often than
/// many, and may need more.
[[nodiscard]] std::uint64_t lora_partial_floats(const LoraLayer& layer, std::uint32_t tokens) noexcept;
/// Floats of a workspace that serves every batch of up to so many tokens: what a server allocates once.
[[nodiscard]] std::uint64_t lora_partial_floats_up_to(const LoraLayer& layer,
                                                      std::uint32_t tokens_max) noexcept;

/// By the same tiles, in the same order, on this thread: every pointer is into memory of this machine.
/// REQUIRES: `partial` holds lora_partial_floats.
void lora_shrink_on_host(const LoraLayer& layer, const LoraTokens& tokens, const void* x,
                         std::span<float> partial) noexcept;
void lora_expand_on_host(const LoraLayer& layer, const LoraTokens& tokens, std::span<const float> partial,
                         void* y, LoraOutput output) noexcept;

/// What is added to y, in binary64, and the sum of the magnitudes of its terms, by which to judge an error.
/// Both (tokens, y_columns); zero where no slice lies. On this machine.
void lora_reference(const LoraLayer& layer, std::span<const std::int32_t> slot_of_token, const void* x,
                    std::span<double> delta, std::span<double> magnitude);

/// On a device: every pointer is a device pointer, that of `ranks`, of the segments and of `partial` too,
/// which is refused if it holds fewer than lora_partial_floats. Return a cudaError_t. Only in builds with
/// CUDA. kTensorCores needs sm_80 or later, and is plain arithmetic before.
[[nodiscard]] int lora_shrink(const LoraLayer& layer, const LoraTokens& tokens, const void* x,
                              std::span<float> partial, LoraMath math, CUstream_st* stream) noexcept;
[[nodiscard]] int lora_expand(const LoraLayer& layer, const LoraTokens& tokens,
                              std::span<const float> partial, void* y, LoraOutput output, LoraMath math,
                              CUstream_st* stream) noexcept;

/// For checks: x, ranks, segments and y in memory of this machine, a and b on the current device. Allocates
/// what it needs there, runs both steps, waits. Returns a cudaError_t. Only in builds with CUDA.
[[nodiscard]] int lora_on_device(const LoraLayer& layer, const LoraTokens& tokens, const void* x, void* y,
                                 LoraOutput output, LoraMath math) noexcept;

}  // namespace loracle
