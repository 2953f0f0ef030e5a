#pragma once
/// An adapter's image: its tensors in one contiguous block, as the device wants them; and the layout of the
/// slots it is scattered into.
///
/// SlotLayout lists the slices of the served model, in vLLM's order: one slice per linear layer, three for a
/// packed qkv_proj (q, k, v), two for gate_up_proj (gate, up). Per slice there are two stacked buffers,
///   A  [slots, max_rank, in]     B  [slots, out, max_rank]      of the serving dtype, preallocated.
/// The image holds, for each slice the adapter has, in the layout's order, A (rank, in) and then B
/// (out, rank) at the adapter's own rank, unpadded, cast to the serving dtype, with the scaling multiplied
/// into B. Tensors follow each other without gaps: an image of n elements takes n x bytes_of(dtype).
/// A fused module of the adapter (qkv_proj, gate_up_proj) fills several slices: A is repeated, B is cut by
/// rows, so such an image is larger than the file's tensors.
/// Rounding to the serving dtype is to nearest, ties to even; it happens once, after the scaling, which is
/// done in binary32.
/// Threads: pure functions over their arguments; any.
/// Errors: kInvalid (a module or shape the layout does not have; named), kTooLarge (a rank above max_rank),
/// and those of reading.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/files.hpp"

namespace loracle {

/// One matrix LoRA adds to: a linear layer, or a part of a packed one.
struct SlotSlice {
  std::string module;  // the unpacked name: "model.layers.0.self_attn.q_proj"
  std::uint32_t in = 0;
  std::uint32_t out = 0;

  friend bool operator==(const SlotSlice&, const SlotSlice&) = default;
};

struct SlotLayout {
  std::vector<SlotSlice> slices;  // by layer, then q k v o gate up down, then other names
  std::uint32_t max_rank = 0;
  Dtype dtype = Dtype::kBf16;

  /// Bytes of one slot over all buffers.
  [[nodiscard]] std::uint64_t slot_bytes() const noexcept;
};

/// One A or B of an image.
struct ImageTensor {
  std::uint32_t slice = 0;   // index into SlotLayout::slices
  std::uint32_t rank = 0;
  std::uint64_t a_offset = 0;  // elements from the image's start; (rank, in)
  std::uint64_t b_offset = 0;  // elements; (out, rank)

  friend bool operator==(const ImageTensor&, const ImageTensor&) = default;
};

/// What an image holds; ascending by slice.
struct ImageManifest {
  std::vector<ImageTensor> tensors;
  std::uint64_t elements = 0;

  friend bool operator==(const ImageManifest&, const ImageManifest&) = default;
};

/// The layout that holds every adapter given: the union of their modules. Errors: kInvalid where two
/// disagree about a module's shape (both are named).
[[nodiscard]] Result<SlotLayout> layout_for(std::span<const AdapterFiles* const> adapters,
                                            std::uint32_t max_rank, Dtype dtype);

/// Where each tensor of the adapter goes. A pure function of the adapter's headers and the layout.
[[nodiscard]] Result<ImageManifest> plan_image(const AdapterFiles& adapter, const SlotLayout& layout);

/// Reads the weights into `image`. REQUIRES: image.size() == manifest.elements x bytes_of(layout.dtype), and
/// the manifest is plan_image's. The weights must still be the file that was inspected: kCorrupt if it has
/// changed since.
[[nodiscard]] Result<Unit> load_image(Files& files, const AdapterFiles& adapter, const SlotLayout& layout,
                                      const ImageManifest& manifest, std::span<std::byte> image);

}  // namespace loracle
