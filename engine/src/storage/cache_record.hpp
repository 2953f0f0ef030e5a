#pragma once
/// What a disk cache writes beside the files of an entry: `.loracle`, the SHA-256 of the rest in hex, a line
/// end, and JSON with key, metadata and files. Its length follows from names, sizes and metadata alone.
/// Threads: any. Errors: kInvalid (not UTF-8, a name that leads elsewhere), kTooLarge, kCorrupt.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/storage/cache.hpp"

namespace loracle {

inline constexpr std::string_view kRecordName = ".loracle";
inline constexpr std::size_t kRecordBytesMax = 2U << 20U;

struct CacheRecord {
  CacheContents contents;
  std::vector<std::string> sha256;  // [files]
};

/// What every cache demands of what it is given.
[[nodiscard]] Result<Unit> check_contents(const CacheContents& contents);

/// REQUIRES: check_contents is content; a digest of 64 characters for each file.
[[nodiscard]] std::string write_record(const CacheRecord& record);
/// Of the record, without knowing the digests.
[[nodiscard]] std::uint64_t record_bytes(const CacheContents& contents);
/// `path` is for messages.
[[nodiscard]] Result<CacheRecord> read_record(const std::string& path, std::string_view text);

/// False: an entry's directory that was never whole, or that another process has removed.
[[nodiscard]] bool has_record(const std::string& directory);

/// Of the files, without a record.
[[nodiscard]] std::uint64_t bytes_of(std::span<const CacheFile> files) noexcept;

}  // namespace loracle
