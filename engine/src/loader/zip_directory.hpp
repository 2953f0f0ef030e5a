#pragma once
/// The central directory of a zip archive, read by hand for the one thing libzip keeps to itself: where each
/// entry lies. zip64 is understood. See zip_archive.hpp. Errors: kCorrupt, kUnsupported (encryption, several
/// disks), and those of reading; messages begin with the path.

#include <cstdint>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/files.hpp"
#include "zip_archive.hpp"

namespace loracle {

inline constexpr std::uint64_t kZipDirectoryBytesMax = 64U << 20U;

/// The entries in the directory's order.
[[nodiscard]] Result<std::vector<ZipEntry>> read_zip_directory(OpenFile& file, const std::string& path);
/// Where an entry's bytes begin, by its local header.
[[nodiscard]] Result<std::uint64_t> zip_data_offset(OpenFile& file, const std::string& path,
                                                    const ZipEntry& entry);

}  // namespace loracle
