#include "calibration_file.hpp"

#include <fmt/format.h>

#include <memory>
#include <span>
#include <utility>

#include "loracle/engine/files.hpp"

namespace loracle::app {

Result<std::string> file_text(const std::string& path, std::uint64_t bytes_max) {
  Result<std::unique_ptr<OpenFile>> file = posix_files().open(path);
  if (!file) return fail(std::move(file.error()));
  const std::uint64_t size = (*file)->stat().size;
  if (size > bytes_max)
    return fail(Errc::kCorrupt, fmt::format("{}: {} bytes; at most {} are read", path, size, bytes_max));
  std::string text(size, '\0');
  if (Result<Unit> read = read_exactly(**file, path, 0, std::as_writable_bytes(std::span(text))); !read)
    return fail(std::move(read.error()));
  return text;
}

Result<std::optional<Calibration>> load_calibration(const std::string& path) {
  constexpr std::uint64_t kBytesMax = 1U << 20U;  // some kilobytes
  if (path.empty()) return std::optional<Calibration>();
  const Result<std::string> text = file_text(path, kBytesMax);
  if (!text) return fail(text.error());
  Result<Calibration> read = read_calibration(*text, path);
  if (!read) return fail(std::move(read.error()));
  return std::optional(std::move(*read));
}

}  // namespace loracle::app
