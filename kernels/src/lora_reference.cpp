// The product by its definition, in binary64. Shares nothing with lora_blocks.hpp: no tiles, no segments.

#include <Eigen/Core>
#include <vector>

#include "loracle/kernels/lora.hpp"

namespace loracle {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

/// (rows, columns) of a buffer of 16-bit elements whose rows are `pitch` elements apart.
Matrix values(const void* buffer, std::size_t first, std::size_t pitch, Eigen::Index rows,
              Eigen::Index columns, ElementType type) {
  const auto* const stored = static_cast<const std::uint16_t*>(buffer) + first;
  Matrix found(rows, columns);
  for (Eigen::Index row = 0; row < rows; ++row) {
    for (Eigen::Index column = 0; column < columns; ++column) {
      const std::uint16_t bits =
          stored[static_cast<std::size_t>(row) * pitch + static_cast<std::size_t>(column)];
      const float value = type == ElementType::kF16
                              ? static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(bits))
                              : static_cast<float>(Eigen::numext::bit_cast<Eigen::bfloat16>(bits));
      found(row, column) = static_cast<double>(value);
    }
  }
  return found;
}

}  // namespace

void lora_reference(const LoraLayer& layer, std::span<const std::int32_t> slot_of_token, const void* x,
                    std::span<double> delta, std::span<double> magnitude) {
  const auto columns = static_cast<Eigen::Index>(layer.y_columns);
  const auto tokens = static_cast<Eigen::Index>(slot_of_token.size());
  Eigen::Map<Matrix> sums(delta.data(), tokens, columns);
  Eigen::Map<Matrix> sizes(magnitude.data(), tokens, columns);
  sums.setZero();
  sizes.setZero();
  for (std::uint32_t slot = 0; slot < layer.slots; ++slot) {
    std::vector<Eigen::Index> users;
    for (std::size_t t = 0; t < slot_of_token.size(); ++t)
      if (slot_of_token[t] == static_cast<std::int32_t>(slot)) users.push_back(static_cast<Eigen::Index>(t));
    if (users.empty()) continue;
    for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
      const LoraSlice& slice = layer.slices[i];
      const std::int32_t rank = layer.ranks == nullptr ? static_cast<std::int32_t>(layer.max_rank)
                                                       : layer.ranks[std::size_t{i} * layer.slots + slot];
      if (rank == 0) continue;
      const std::size_t a_first = std::size_t{slot} * layer.max_rank * layer.in;
      const std::size_t b_first = std::size_t{slot} * slice.out * layer.max_rank;
      const Matrix a = values(slice.a, a_first, layer.in, rank, layer.in, layer.type);
      const Matrix b = values(slice.b, b_first, layer.max_rank, slice.out, rank, layer.type);
      for (const Eigen::Index t : users) {
        const Vector row =
            values(x, static_cast<std::size_t>(t) * layer.in, layer.in, 1, layer.in, layer.type).row(0);
        sums.row(t).segment(slice.y_column, slice.out) += (b * (a * row)).transpose();
        sizes.row(t).segment(slice.y_column, slice.out) +=
            (b.cwiseAbs() * (a.cwiseAbs() * row.cwiseAbs())).transpose();
      }
    }
  }
}

}  // namespace loracle
