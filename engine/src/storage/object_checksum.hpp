#pragma once
/// The checksums that stores keep of whole objects, computed while the bytes go by.
///
/// Understood: x-amz-checksum-{sha256,sha1,crc32,crc32c,crc64nvme}, x-goog-hash (md5, crc32c), Repr-Digest
/// and Digest (sha-256), Content-MD5. A checksum of checksums ("...-3", COMPOSITE) says nothing about the
/// bytes without the parts' borders, and is not used; nor is an ETag, which is an MD5 only sometimes.
/// Threads: one owner.

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "storage/http_transport.hpp"

namespace loracle {

class RunningChecksum {
 public:
  virtual ~RunningChecksum() = default;
  virtual void add(std::span<const std::byte> bytes) = 0;
  /// The digest, in base64; once.
  [[nodiscard]] virtual std::string finish() = 0;
};

enum class ChecksumKind : std::uint8_t { kSha256, kSha1, kMd5, kCrc64Nvme, kCrc32c, kCrc32 };

[[nodiscard]] std::unique_ptr<RunningChecksum> make_checksum(ChecksumKind kind);

struct ExpectedChecksum {
  ChecksumKind kind = ChecksumKind::kSha256;
  std::string base64;
};

/// The strongest the headers name for the whole object; nullopt if there is none.
[[nodiscard]] std::optional<ExpectedChecksum> checksum_of_object(const HttpHeaders& headers);
[[nodiscard]] std::string_view name_of(ChecksumKind kind) noexcept;

}  // namespace loracle
