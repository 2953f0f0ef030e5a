#include "storage/object_checksum.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstdint>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

std::string base64(std::span<const unsigned char> bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                                       static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

struct DigestDeleter {
  void operator()(EVP_MD_CTX* context) const noexcept { ::EVP_MD_CTX_free(context); }
};

class DigestChecksum final : public RunningChecksum {
 public:
  explicit DigestChecksum(const EVP_MD* kind) : context_(::EVP_MD_CTX_new()) {
    // MD5 may be missing where only FIPS algorithms are; then nothing can be compared.
    usable_ = context_ != nullptr && ::EVP_DigestInit_ex(context_.get(), kind, nullptr) == 1;
  }
  void add(std::span<const std::byte> bytes) override {
    if (usable_) usable_ = ::EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
  }
  [[nodiscard]] std::string finish() override {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned length = 0;
    if (!usable_ || ::EVP_DigestFinal_ex(context_.get(), digest.data(), &length) != 1) return {};
    return base64(std::span(digest).first(length));
  }

 private:
  std::unique_ptr<EVP_MD_CTX, DigestDeleter> context_;
  bool usable_ = false;
};

/// Eight tables of a reflected polynomial: eight bytes a step ("slicing by 8", Intel, 2006).
template <class Word>
struct CrcTables {
  std::array<std::array<Word, 256>, 8> rows{};  // [byte's distance from the end of the step][byte]

  explicit constexpr CrcTables(Word polynomial) noexcept {
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      Word word = byte;
      for (int bit = 0; bit < 8; ++bit) word = (word >> 1U) ^ ((word & 1U) != 0 ? polynomial : Word{0});
      rows[0][byte] = word;
    }
    for (std::size_t row = 1; row < 8; ++row)
      for (std::size_t byte = 0; byte < 256; ++byte)
        rows[row][byte] = (rows[row - 1][byte] >> 8U) ^ rows[0][rows[row - 1][byte] & 0xFFU];
  }
};

template <class Word, Word kPolynomial>
class CrcChecksum final : public RunningChecksum {
 public:
  void add(std::span<const std::byte> bytes) override {
    static const CrcTables<Word> tables(kPolynomial);
    const auto& rows = tables.rows;
    Word crc = crc_;
    while (bytes.size() >= 8) {
      std::uint64_t step = crc;
      for (unsigned i = 0; i < 8; ++i) step ^= std::to_integer<std::uint64_t>(bytes[i]) << (8U * i);
      Word next = 0;
      for (unsigned i = 0; i < 8; ++i) next ^= rows[7 - i][(step >> (8U * i)) & 0xFFU];
      crc = next;
      bytes = bytes.subspan(8);
    }
    for (const std::byte byte : bytes)
      crc = (crc >> 8U) ^ rows[0][(crc ^ std::to_integer<Word>(byte)) & 0xFFU];
    crc_ = crc;
  }
  [[nodiscard]] std::string finish() override {
    const Word value = static_cast<Word>(~crc_);
    std::array<unsigned char, sizeof(Word)> bytes{};
    for (unsigned i = 0; i < sizeof(Word); ++i)
      bytes[i] = static_cast<unsigned char>(value >> (8U * (sizeof(Word) - 1 - i)));
    return base64(bytes);
  }

 private:
  Word crc_ = static_cast<Word>(~Word{0});
};

/// The item `name` of "a=..., b=..."; nullopt if it is not there.
std::optional<std::string> item_of(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    std::string_view item = list.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (item.size() > name.size() && item.starts_with(name) && item[name.size()] == '=')
      return std::string(item.substr(name.size() + 1));
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  }
  return std::nullopt;
}

struct AmazonHeader {
  std::string_view name;
  ChecksumKind kind;
};

constexpr std::array kAmazonHeaders = {
    AmazonHeader{"x-amz-checksum-sha256", ChecksumKind::kSha256},
    AmazonHeader{"x-amz-checksum-sha1", ChecksumKind::kSha1},
    AmazonHeader{"x-amz-checksum-crc64nvme", ChecksumKind::kCrc64Nvme},
    AmazonHeader{"x-amz-checksum-crc32c", ChecksumKind::kCrc32c},
    AmazonHeader{"x-amz-checksum-crc32", ChecksumKind::kCrc32},
};

}  // namespace

std::unique_ptr<RunningChecksum> make_checksum(ChecksumKind kind) {
  switch (kind) {
    case ChecksumKind::kSha256:
      return std::make_unique<DigestChecksum>(::EVP_sha256());
    case ChecksumKind::kSha1:
      return std::make_unique<DigestChecksum>(::EVP_sha1());
    case ChecksumKind::kMd5:
      return std::make_unique<DigestChecksum>(::EVP_md5());
    case ChecksumKind::kCrc64Nvme:
      return std::make_unique<CrcChecksum<std::uint64_t, 0x9A6C'9329'AC4B'C9B5ULL>>();
    case ChecksumKind::kCrc32c:
      return std::make_unique<CrcChecksum<std::uint32_t, 0x82F6'3B78U>>();
    case ChecksumKind::kCrc32:
      break;
  }
  return std::make_unique<CrcChecksum<std::uint32_t, 0xEDB8'8320U>>();
}

std::optional<ExpectedChecksum> checksum_of_object(const HttpHeaders& headers) {
  const bool composite = header_of(headers, "x-amz-checksum-type") == "COMPOSITE";
  for (const auto& [name, kind] : kAmazonHeaders) {
    const std::optional<std::string> value = header_of(headers, name);
    if (value && !composite && value->find('-') == std::string::npos) return ExpectedChecksum{kind, *value};
  }
  for (const std::string_view name : {"repr-digest", "digest"}) {
    const std::optional<std::string> list = header_of(headers, name);
    if (!list) continue;
    for (const std::string_view sha : {"sha-256", "SHA-256"}) {
      std::optional<std::string> value = item_of(*list, sha);
      if (!value) continue;
      if (value->size() > 2 && value->front() == ':' && value->back() == ':')
        value = value->substr(1, value->size() - 2);
      return ExpectedChecksum{ChecksumKind::kSha256, *value};
    }
  }
  for (const auto& [name, value] : headers) {  // Google sends one header for each
    if (name != "x-goog-hash") continue;
    if (const auto md5 = item_of(value, "md5")) return ExpectedChecksum{ChecksumKind::kMd5, *md5};
    if (const auto crc = item_of(value, "crc32c")) return ExpectedChecksum{ChecksumKind::kCrc32c, *crc};
  }
  if (const auto md5 = header_of(headers, "content-md5")) return ExpectedChecksum{ChecksumKind::kMd5, *md5};
  return std::nullopt;
}

std::string_view name_of(ChecksumKind kind) noexcept {
  switch (kind) {
    case ChecksumKind::kSha256:
      return "SHA-256";
    case ChecksumKind::kSha1:
      return "SHA-1";
    case ChecksumKind::kMd5:
      return "MD5";
    case ChecksumKind::kCrc64Nvme:
      return "CRC-64/NVME";
    case ChecksumKind::kCrc32c:
      return "CRC-32C";
    case ChecksumKind::kCrc32:
      break;
  }
  return "CRC-32";
}

}  // namespace loracle
