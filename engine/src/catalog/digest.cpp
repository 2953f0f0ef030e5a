#include "loracle/engine/digest.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20U;

}  // namespace

/// OpenSSL's calls fail here only by a mistake of ours or for want of memory.
struct RunningSha256::State {
  struct Free {
    void operator()(EVP_MD_CTX* freed) const noexcept { ::EVP_MD_CTX_free(freed); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{::EVP_MD_CTX_new()};
};

RunningSha256::RunningSha256() : state_(std::make_unique<State>()) {
  EVP_MD_CTX* const context = state_->context.get();
  LORACLE_CHECK(context != nullptr && ::EVP_DigestInit_ex(context, ::EVP_sha256(), nullptr) == 1);
}
RunningSha256::RunningSha256(RunningSha256&&) noexcept = default;
RunningSha256& RunningSha256::operator=(RunningSha256&&) noexcept = default;
RunningSha256::~RunningSha256() = default;

void RunningSha256::add(std::span<const std::byte> bytes) {
  LORACLE_CHECK(::EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1);
}

std::string RunningSha256::hex() {
  std::array<unsigned char, 32> digest{};
  LORACLE_CHECK(::EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr) == 1);
  std::string text;
  text.reserve(2 * digest.size());
  for (const unsigned char byte : digest) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

Result<FileDigest> digest_file(Files& files, const std::string& path) {
  Result<std::unique_ptr<OpenFile>> file = files.open(path);
  if (!file) return fail(std::move(file.error()));
  const FileStat stat = (*file)->stat();
  std::vector<std::byte> buffer(std::min<std::uint64_t>(stat.size, kBufferBytes));
  RunningSha256 sha;
  for (std::uint64_t offset = 0; offset < stat.size;) {
    const std::span<std::byte> part =
        std::span(buffer).first(std::min<std::uint64_t>(stat.size - offset, buffer.size()));
    if (Result<Unit> read = read_exactly(**file, path, offset, part); !read)
      return fail(std::move(read.error()));
    sha.add(part);
    offset += part.size();
  }
  return FileDigest{sha.hex(), stat};
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  RunningSha256 sha;
  sha.add(bytes);
  return sha.hex();
}

}  // namespace loracle
