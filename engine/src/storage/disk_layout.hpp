#pragma once
/// The names in a disk cache's directory, as loracle/storage/disk_cache.hpp describes them, and the locks on
/// what has them. Threads: any.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace loracle {

inline constexpr std::string_view kEntries = "entries/";
inline constexpr std::string_view kStaging = "staging/";
inline constexpr std::size_t kHashLength = 64;
inline constexpr std::size_t kSeqLength = 16;

/// "BYTES.SEQ"; false: not such a name.
[[nodiscard]] bool parse_staging(std::string_view text, std::uint64_t& bytes, std::uint64_t& seq);
/// "staging/BYTES.SEQ"
[[nodiscard]] std::string staging_name(std::uint64_t bytes, std::uint64_t seq);
/// False: somebody else has one that is in its way.
[[nodiscard]] bool try_flock(int fd, int kind) noexcept;

}  // namespace loracle
