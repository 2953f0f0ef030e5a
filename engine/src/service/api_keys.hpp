#pragma once
/// API keys, compared in constant time: how long a wrong key takes says nothing of the right ones.
/// Threads: any.

#include <array>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace loracle::service {

class ApiKeys {
 public:
  /// None: everybody may.
  void set(const std::vector<std::string>& keys);
  /// `authorization` is the header's value: "Bearer KEY".
  [[nodiscard]] bool allow(std::string_view authorization) const;
  [[nodiscard]] bool are_asked_for() const {
    const std::lock_guard lock(mutex_);
    return !digests_.empty();
  }

 private:
  using Digest = std::array<unsigned char, 32>;
  static Digest digest_of(std::string_view key);

  mutable std::mutex mutex_;
  std::vector<Digest> digests_;  // of one length, whatever the keys' are
};

}  // namespace loracle::service
