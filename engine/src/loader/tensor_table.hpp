#pragma once
/// The tensors a weights file holds, whatever its format: names, shapes, places. Columns that are always
/// read together, so one row a tensor. What an adapter's tensors must be is checked in lora_tensors.hpp.

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/engine/adapter_files.hpp"

namespace loracle {

/// LoRA's matrices have two dimensions; the others are there to be refused by name.
inline constexpr std::size_t kTensorDimensionsMax = 8;
/// DeepSeek-V3 with an adapter on every expert has 90,000.
inline constexpr std::size_t kTensorsMax = 1U << 18U;

struct TensorRow {
  std::string_view name;
  std::uint32_t dimensions = 0;
  std::array<std::uint64_t, kTensorDimensionsMax> shape{};  // [dimensions]
  StoredTensor stored;
};

struct TensorTable {
  std::vector<TensorRow> rows;
  /// What the names point into. A deque and a unique text, so that moving the table moves no characters.
  std::vector<char> text;
  std::deque<std::string> names;
};

}  // namespace loracle
