#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <system_error>

#include "safetensors.hpp"
#include "write_weights.hpp"

namespace loracle {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
};

std::string header_of(Dtype dtype, std::span<const TensorToWrite> tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::uint64_t at = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t end = at + tensor.rows * tensor.columns * bytes_of(dtype);
    fmt::format_to(std::back_inserter(header),
                   R"(,"{}":{{"dtype":"{}","shape":[{},{}],"data_offsets":[{},{}]}})", tensor.name,
                   safetensors_name(dtype), tensor.rows, tensor.columns, at, end);
    at = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  return header;
}

}  // namespace

Result<std::uint64_t> write_safetensors(const std::string& path, Dtype dtype,
                                        std::span<const TensorToWrite> tensors, const FillTensor& fill) {
  const auto failed = [&path] {
    const int error = errno;
    return fail(Errc::kIo, fmt::format("{}: cannot write: {}", path, std::generic_category().message(error)),
                error);
  };
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "wbe"));
  if (!file) return failed();
  const std::string header = header_of(dtype, tensors);
  std::vector<std::byte> bytes(8 + header.size());
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xFFU);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  std::uint64_t written = bytes.size();
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) return failed();
  for (const TensorToWrite& tensor : tensors) {
    bytes.resize(tensor.rows * tensor.columns * bytes_of(dtype));
    fill(bytes);
    if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) return failed();
    written += bytes.size();
  }
  if (std::fflush(file.get()) != 0) return failed();
  return written;
}

}  // namespace loracle
