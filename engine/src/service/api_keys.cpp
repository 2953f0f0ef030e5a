#include "service/api_keys.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <utility>

namespace loracle::service {

ApiKeys::Digest ApiKeys::digest_of(std::string_view key) {
  Digest digest{};
  ::SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

void ApiKeys::set(const std::vector<std::string>& keys) {
  std::vector<Digest> digests;
  digests.reserve(keys.size());
  for (const std::string& key : keys) digests.push_back(digest_of(key));
  const std::lock_guard lock(mutex_);
  digests_ = std::move(digests);
}

bool ApiKeys::allow(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  std::string_view key;
  bool is_bearer = authorization.size() > kScheme.size();
  for (std::size_t i = 0; is_bearer && i < kScheme.size(); ++i) {
    const char c = authorization[i];
    is_bearer = (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) == kScheme[i];
  }
  if (is_bearer) key = authorization.substr(kScheme.size());
  const Digest digest = digest_of(key);
  const std::lock_guard lock(mutex_);
  if (digests_.empty()) return true;
  bool found = false;
  for (const Digest& known : digests_)  // all of them, found or not
    found |= ::CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  return found && is_bearer;
}

}  // namespace loracle::service
