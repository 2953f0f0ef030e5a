#pragma once
/// Adapters for tests, written by code that shares nothing with the engine's: raw tensors with the values
/// they stand for, and the files that hold them.

#include <Eigen/Core>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/engine/adapter_files.hpp"

namespace loracle::testing {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The value of one stored element, by the format's definition.
inline double value_of(Dtype dtype, const char* bytes) {
  switch (dtype) {
    case Dtype::kF32: {
      float value = 0;
      std::memcpy(&value, bytes, 4);
      return value;
    }
    case Dtype::kF16: {
      std::uint16_t raw = 0;
      std::memcpy(&raw, bytes, 2);
      return static_cast<double>(static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(raw)));
    }
    case Dtype::kBf16: {
      std::uint16_t raw = 0;
      std::memcpy(&raw, bytes, 2);
      return static_cast<double>(static_cast<float>(Eigen::numext::bit_cast<Eigen::bfloat16>(raw)));
    }
    case Dtype::kF8E4M3:
    case Dtype::kF8E5M2: {
      const int mantissa_bits = dtype == Dtype::kF8E4M3 ? 3 : 2;
      const int bias = dtype == Dtype::kF8E4M3 ? 7 : 15;
      const int raw = static_cast<unsigned char>(*bytes);
      const int mantissa = raw & ((1 << mantissa_bits) - 1);
      const int exponent = (raw & 0x7F) >> mantissa_bits;
      const double sign = raw >= 0x80 ? -1.0 : 1.0;
      if (dtype == Dtype::kF8E4M3 && (raw & 0x7F) == 0x7F) return std::numeric_limits<double>::quiet_NaN();
      if (dtype == Dtype::kF8E5M2 && exponent == 31)
        return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                             : std::numeric_limits<double>::quiet_NaN();
      if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
      return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    }
  }
  return 0;
}

/// Binary32's product of a value and a scale, rounded to the serving dtype and appended.
inline void append_rounded(std::string& out, Dtype dtype, double value, float scale) {
  // The product of two binary32 numbers is exact in binary64, so this rounds once, as binary32 would.
  const auto product = static_cast<float>(value * static_cast<double>(scale));
  const auto append = [&out](const auto& stored) {
    out.append(reinterpret_cast<const char*>(&stored), sizeof stored);
  };
  switch (dtype) {
    case Dtype::kF32:
      return append(product);
    case Dtype::kF16:
      return append(Eigen::half(product));
    default:
      return append(Eigen::bfloat16(product));
  }
}

struct RawTensor {
  std::string name;
  Dtype dtype = Dtype::kBf16;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  std::string bytes;

  [[nodiscard]] Matrix values() const {
    Matrix matrix(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
    for (Eigen::Index i = 0; i < matrix.size(); ++i)
      matrix.data()[i] = value_of(dtype, bytes.data() + static_cast<std::size_t>(i) * bytes_of(dtype));
    return matrix;
  }
};

/// Elements of every kind that is finite: small, large, subnormal and zero.
inline RawTensor random_tensor(Rng& rng, std::string name, Dtype dtype, std::uint64_t rows,
                               std::uint64_t columns) {
  RawTensor tensor{std::move(name), dtype, rows, columns, {}};
  const std::size_t width = bytes_of(dtype);
  tensor.bytes.resize(rows * columns * width);
  for (std::size_t i = 0; i < rows * columns; ++i) {
    char* const at = tensor.bytes.data() + i * width;
    do {
      const std::uint64_t random = rng.next();
      std::memcpy(at, &random, width);
    } while (!std::isfinite(value_of(dtype, at)));
  }
  return tensor;
}

inline std::string safetensors_dtype(Dtype dtype) {
  static const std::array<const char*, 6> kNames = {"", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"};
  return kNames.at(static_cast<std::size_t>(dtype));
}

inline std::string little_endian(std::uint64_t value, std::size_t bytes = 8) {
  std::string out;
  for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xFFU);
  return out;
}

inline std::string with_length(const std::string& header) { return little_endian(header.size()) + header; }

/// A .safetensors file with the tensors in the order given.
inline std::string safetensors_file(const std::vector<RawTensor>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  std::string data;
  for (const RawTensor& tensor : tensors) {
    header += ",\"" + tensor.name + "\":{\"dtype\":\"" + safetensors_dtype(tensor.dtype) + "\",\"shape\":[" +
              std::to_string(tensor.rows) + "," + std::to_string(tensor.columns) + "],\"data_offsets\":[" +
              std::to_string(data.size()) + "," + std::to_string(data.size() + tensor.bytes.size()) + "]}";
    data += tensor.bytes;
  }
  return with_length(header + "}  ") + data;
}

/// A and B of one module, under PEFT's names.
inline void add_module(std::vector<RawTensor>& tensors, Rng& rng, const std::string& module, Dtype dtype,
                       std::uint64_t rank, std::uint64_t in, std::uint64_t out) {
  const std::string name = "base_model.model." + module;
  tensors.push_back(random_tensor(rng, name + ".lora_A.weight", dtype, rank, in));
  tensors.push_back(random_tensor(rng, name + ".lora_B.weight", dtype, out, rank));
}

inline std::string config_of(std::uint32_t r, const std::string& alpha, const std::string& more = "") {
  return "{\"peft_type\":\"LORA\",\"r\":" + std::to_string(r) + ",\"lora_alpha\":" + alpha +
         ",\"target_modules\":[\"q_proj\"]" + more + "}";
}

}  // namespace loracle::testing
