#include "storage/part_digests.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loracle/core/check.hpp"
#include "storage/cache_io.hpp"

namespace loracle {
namespace {

constexpr std::size_t kBufferBytes = 256U
                                     << 10U;  // what was read is still in the core's cache when it is hashed

}  // namespace

PartDigests::PartDigests(std::span<const int> descriptors, std::span<const FilePart> parts)
    : descriptors_(descriptors), parts_(parts), came_(parts.size()), digests_(descriptors.size()) {}

void PartDigests::came(std::size_t part) {
  came_[part].store(true, std::memory_order_release);
  // Another thread may have looked just before and be on its way out: `finish` hashes what both left.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock) hash_what_is_there();
}

Result<std::vector<std::string>> PartDigests::finish() {
  const std::lock_guard lock(mutex_);
  hash_what_is_there();
  if (error_) return fail(std::move(*error_));
  LORACLE_CHECK(next_ == parts_.size());
  std::vector<std::string> digests;
  for (RunningSha256& digest : digests_) digests.push_back(digest.hex());
  return digests;
}

void PartDigests::hash_what_is_there() {
  while (!error_ && next_ < parts_.size() && came_[next_].load(std::memory_order_acquire)) {
    if (Result<Unit> hashed = hash(parts_[next_]); !hashed)
      error_ = std::move(hashed.error());
    else
      ++next_;
  }
}

Result<Unit> PartDigests::hash(const FilePart& part) {
  buffer_.resize(kBufferBytes);
  for (std::uint64_t done = 0; done < part.length;) {
    const std::size_t wanted = std::min<std::uint64_t>(part.length - done, buffer_.size());
    const Result<std::size_t> got = read_at(descriptors_[part.file], "a file that was just written",
                                            part.offset + done, std::span(buffer_).first(wanted));
    if (!got) return fail(got.error());
    if (*got == 0) return io_failed("a file that was just written", "read", EIO);
    digests_[part.file].add(std::span(buffer_).first(*got));
    done += *got;
  }
  return Unit{};
}

}  // namespace loracle
