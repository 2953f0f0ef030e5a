// fetch_adapters CACHE URI...: brings adapters from S3 into a disk cache, all at once, and prints the seconds
// it took. For s3_against_curl.py.

#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "loracle/engine/env.hpp"
#include "loracle/storage/disk_cache.hpp"
#include "loracle/storage/provider.hpp"
#include "loracle/storage/remote_origin.hpp"

namespace loracle {
namespace {

int run(const std::string& directory, const std::vector<std::string>& uris) {
  S3StorageOptions storage_options;
  storage_options.max_concurrent = 16;
  Result<std::unique_ptr<StorageProvider>> storage = make_s3_storage(storage_options);
  DiskCacheOptions cache_options;
  cache_options.cache_dir = directory;
  cache_options.max_size_bytes = Bytes{std::uint64_t{1} << 40U};
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(cache_options);
  if (!storage || !cache) {
    fmt::print(stderr, "{}\n", storage ? cache.error().message : storage.error().message);
    return 1;
  }
  const std::unique_ptr<RemoteOrigin> origin = make_remote_origin(**storage, **cache);
  std::atomic<int> failed = 0;
  const std::uint64_t begun = posix_clock().now_ns();
  std::vector<std::thread> threads;
  for (const std::string& uri : uris) {
    threads.emplace_back([&] {
      const Result<LocalCopy> copy = origin->localize(uri);
      if (!copy) {
        ++failed;
        fmt::print(stderr, "{}\n", copy.error().message);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  fmt::print("{}\n", static_cast<double>(posix_clock().now_ns() - begun) / 1e9);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace loracle

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "fetch_adapters CACHE URI...\n");
    return 2;
  }
  return loracle::run(argv[1], {argv + 2, argv + argc});
}
