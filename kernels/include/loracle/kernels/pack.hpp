#pragma once
/// Packs matrices into slots or images on this machine: cast, scaled, transposed where the slot wants it,
/// and zero-padded to the slot's shape.
///
///   source       (rows, columns)            row-major, rows `source_pitch` elements apart
///   destination  (slot_rows, slot_columns)  row-major; holds the matrix, or its transpose, in its upper left
///                                           corner; all else becomes zero
/// An image is the case without padding: slot_rows x slot_columns is the matrix's own shape. vLLM's
/// embedding layers hold A transposed, (vocabulary, rank); every other buffer holds matrices as they are
/// stored.
/// Elements are converted as convert.hpp says: the same bits on every path. Cost: one pass over source and
/// destination; no allocation. Threads: pure; calls with different destinations may run at once.

#include <cstddef>
#include <cstdint>
#include <span>

#include "loracle/kernels/convert.hpp"

namespace loracle {

struct PackMatrix {
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  std::uint64_t source_pitch = 0;  // elements from row to row; 0: columns
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::uint32_t slot_rows = 0;
  std::uint32_t slot_columns = 0;
  float scale = 1;
  ElementType from = ElementType::kBf16;
  bool transposed = false;
};

/// REQUIRES: is_serving_type(to); each matrix (or its transpose) fits its slot; sources and destinations do
/// not overlap.
void pack_matrices(std::span<const PackMatrix> matrices, ElementType to,
                   CpuPath path = best_cpu_path()) noexcept;

}  // namespace loracle
