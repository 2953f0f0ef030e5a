#pragma once
/// A zip archive over an OpenFile: its entries, where each entry's bytes lie in the file, and its contents.
///
/// libzip reads the archive and inflates; it does not tell where an entry's bytes begin, which is what lets
/// a stored tensor be read like any other. So the central directory is read once more here, and the two
/// readings must agree on every entry: a file made to look different to two readers is refused.
/// Bombs: entries may take no more of the file than it has, and inflate to kInflationMax times its size and
/// kInflatedBytesMax in all by what they claim; what is inflated is counted, so a claim that is a lie ends in
/// an error, not in memory.
/// Entries are stored or deflated and not encrypted; anything else is refused.
/// Threads: one owner. Errors: kCorrupt, kUnsupported, and those of reading; messages begin with the path.
/// Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/files.hpp"

namespace loracle {

struct ZipEntry {
  std::string name;
  std::uint64_t bytes = 0;          // inflated
  std::uint64_t stored_bytes = 0;   // in the file
  std::uint64_t header_offset = 0;  // of the local header
  bool deflated = false;
};

class ZipArchive {
 public:
  static constexpr std::uint64_t kInflationMax = 16;
  static constexpr std::uint64_t kInflatedBytesMax = std::uint64_t{64} << 30U;

  /// `file` must outlive the archive.
  [[nodiscard]] static Result<ZipArchive> open(OpenFile& file, const std::string& path);
  ZipArchive(ZipArchive&& other) noexcept;
  ZipArchive& operator=(ZipArchive&&) = delete;
  ~ZipArchive();

  [[nodiscard]] std::span<const ZipEntry> entries() const noexcept;
  /// Where the bytes of an entry begin in the file: one small read.
  [[nodiscard]] Result<std::uint64_t> data_offset(std::uint32_t entry);
  /// A whole entry, its checksum checked. Errors: also kCorrupt above `bytes_max`.
  [[nodiscard]] Result<std::vector<char>> read_whole(std::uint32_t entry, std::uint64_t bytes_max);
  /// Fills `into` with an entry's inflated bytes from `offset` on. Reading on where the last call stopped is
  /// cheap; going back inflates the entry from its start. The read that reaches its end checks its checksum.
  [[nodiscard]] Result<Unit> read_at(std::uint32_t entry, std::uint64_t offset, std::span<std::byte> into);

 private:
  struct State;
  explicit ZipArchive(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace loracle
