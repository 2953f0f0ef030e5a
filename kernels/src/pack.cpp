#include "loracle/kernels/pack.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "convert_paths.hpp"

namespace loracle {
namespace {

struct Packer {
  const PackMatrix& matrix;
  ElementType to;
  Converter converter;

  [[nodiscard]] const std::byte* row(std::uint64_t index) const noexcept {
    const std::uint64_t pitch = matrix.source_pitch == 0 ? matrix.columns : matrix.source_pitch;
    return matrix.source + index * pitch * bytes_of(matrix.from);
  }

  void convert(const std::byte* from, std::byte* into, std::uint64_t count) const noexcept {
    if (matrix.from == to && matrix.scale == 1.0F)
      std::memcpy(into, from, count * bytes_of(to));
    else
      converter(from, into, count);
  }

  void rows_as_they_are() const noexcept {
    const std::size_t slot_row = std::size_t{matrix.slot_columns} * bytes_of(to);
    const std::size_t filled = std::size_t{matrix.columns} * bytes_of(to);
    const bool dense = matrix.source_pitch == 0 || matrix.source_pitch == matrix.columns;
    if (dense && filled == slot_row) {
      convert(matrix.source, matrix.destination, std::uint64_t{matrix.rows} * matrix.columns);
      return;
    }
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
      std::byte* const into = matrix.destination + r * slot_row;
      convert(row(r), into, matrix.columns);
      std::memset(into + filled, 0, slot_row - filled);
    }
  }

  /// By tiles that stay in L1: read and converted along rows, written along columns.
  template <class Stored>
  void transposed() const noexcept {
    constexpr std::uint32_t kTileRows = 32;
    constexpr std::uint32_t kTileColumns = 64;
    std::array<Stored, std::size_t{kTileRows} * kTileColumns> tile;
    for (std::uint32_t first_row = 0; first_row < matrix.rows; first_row += kTileRows) {
      const std::uint32_t rows = std::min(kTileRows, matrix.rows - first_row);
      for (std::uint32_t first_column = 0; first_column < matrix.columns; first_column += kTileColumns) {
        const std::uint32_t columns = std::min(kTileColumns, matrix.columns - first_column);
        for (std::uint32_t r = 0; r < rows; ++r)
          convert(row(first_row + r) + std::size_t{first_column} * bytes_of(matrix.from),
                  reinterpret_cast<std::byte*>(&tile[std::size_t{r} * kTileColumns]), columns);
        for (std::uint32_t c = 0; c < columns; ++c) {
          const std::size_t at = std::size_t{first_column + c} * matrix.slot_columns + first_row;
          for (std::uint32_t r = 0; r < rows; ++r)
            std::memcpy(matrix.destination + (at + r) * sizeof(Stored),
                        &tile[std::size_t{r} * kTileColumns + c], sizeof(Stored));
        }
      }
    }
    const std::size_t padding = (matrix.slot_columns - matrix.rows) * sizeof(Stored);
    if (padding == 0) return;
    for (std::uint32_t c = 0; c < matrix.columns; ++c)
      std::memset(matrix.destination + (std::size_t{c} * matrix.slot_columns + matrix.rows) * sizeof(Stored),
                  0, padding);
  }
};

}  // namespace

void pack_matrices(std::span<const PackMatrix> matrices, ElementType to, CpuPath path) noexcept {
  for (const PackMatrix& matrix : matrices) {
    const Packer packer{matrix, to, Converter(matrix.from, to, matrix.scale, path)};
    const std::uint32_t filled_rows = matrix.transposed ? matrix.columns : matrix.rows;
    if (!matrix.transposed)
      packer.rows_as_they_are();
    else if (bytes_of(to) == 4)
      packer.transposed<std::uint32_t>();
    else
      packer.transposed<std::uint16_t>();
    const std::size_t slot_row = std::size_t{matrix.slot_columns} * bytes_of(to);
    const std::size_t below = slot_row * (matrix.slot_rows - filled_rows);
    if (below != 0) std::memset(matrix.destination + slot_row * filled_rows, 0, below);
  }
}

}  // namespace loracle
