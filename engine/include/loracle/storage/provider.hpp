#pragma once
/// Storage providers: what lies under a URI, wherever that is. Chosen by the URI's scheme.
///
///   file:///srv/adapters, /srv/adapters     s3://bucket/prefix     https://host/path, http://host/path
///
/// Invariants:
///  1. Nothing outside the configured directories, buckets and hosts is ever read: what was opened or
///     connected to is checked, not the text that named it.
///  2. Bytes handed to a sink are those of one object: one that changes under the reader ends in kCorrupt.
///  3. No secret is in an error, a log line or a URI.
/// Threads: any, several at once. Cost: a call is at least one round trip; nothing is cached here.
/// Errors: kNotFound, kInvalid (a URI, or one that leads outside), kIo (detail: errno or HTTP status, 502
/// or 504 of a server that gave no answer; after the retries), kCorrupt (changed, or length or checksum are
/// wrong), kTooLarge, kCancelled (the sink said so, or the provider was stopped), kDeadline, kUnsupported (a
/// range far into an object of a server that knows no ranges).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

struct StoredObject {
  std::string name;  // below what was listed, '/' between folders; of a stat: the last part
  std::uint64_t size = 0;
  std::string etag;  // changes whenever the bytes do; opaque
  std::int64_t modified_unix_s = 0;
};

/// Both ascending.
struct StoredListing {
  std::vector<StoredObject> objects;
  std::vector<std::string> folders;  // without a trailing slash; empty when listed recursively
};

struct FetchRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::string etag;       // the object must still have it; empty: whatever it has
  bool is_whole = false;  // the object's all: stores may name a checksum of that, and of no part
};

/// Takes the bytes of a range, in order, each once. An error ends the fetch and is its error.
using ByteSink = std::function<Result<Unit>(std::uint64_t offset, std::span<const std::byte> bytes)>;

class StorageProvider {
 public:
  virtual ~StorageProvider() = default;
  /// "file", "s3", "https", "http".
  [[nodiscard]] virtual std::string_view scheme() const noexcept = 0;
  /// What lies directly below `uri`, or, recursively, all objects below it. Nothing there: kNotFound.
  /// kUnsupported where listing is not possible (plain HTTP).
  [[nodiscard]] virtual Result<StoredListing> list(const std::string& uri, bool recursive) = 0;
  [[nodiscard]] virtual Result<StoredObject> stat(const std::string& uri) = 0;
  /// REQUIRES: length > 0, and the range lies within the object.
  [[nodiscard]] virtual Result<Unit> fetch(const std::string& uri, const FetchRange& range,
                                           const ByteSink& sink) = 0;
  /// Calls that wait for a server, or to try again, end in kCancelled soon; so do those to come. For good.
  virtual void stop() noexcept {}
};

struct FileStorageOptions {
  std::vector<std::string> allowed_paths;  // empty: everything this process may read
  bool create_dirs = false;                // allowed paths that are absent
  bool verify_permissions = true;          // at the start: each allowed path can be listed
};

struct RetryOptions {
  std::uint32_t attempts_max = 5;
  std::uint32_t first_delay_ms = 100;  // doubled each time, then a random share of it
  std::uint32_t delay_ms_max = 10'000;
  std::uint32_t connect_timeout_ms = 5'000;
  std::uint32_t stall_timeout_ms = 30'000;  // without a byte
};

struct S3StorageOptions {
  std::string region;       // empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's, us-east-1
  std::string endpoint;     // http(s)://host[:port]; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, Amazon's
  std::string profile;      // empty: AWS_PROFILE, "default"
  bool path_style = false;  // always, of an endpoint that is an address or localhost
  std::uint32_t max_concurrent = 4;          // requests at once, over all adapters
  bool anonymous = false;                    // unsigned
  std::vector<std::string> allowed_buckets;  // empty: any
  RetryOptions retry;
};

struct HttpStorageOptions {
  bool allow_http = false;                 // beside https
  std::vector<std::string> allowed_hosts;  // "host" (any port), "host:port", "*.domain"; empty: none
  bool allow_private_addresses = false;    // loopback, link-local, RFC 1918, unique local, ...
  std::uint32_t redirects_max = 5;
  std::uint32_t max_concurrent = 4;
  std::string ca_file;  // empty: the system's
  RetryOptions retry;
};

[[nodiscard]] Result<std::unique_ptr<StorageProvider>> make_file_storage(const FileStorageOptions& options);
[[nodiscard]] Result<std::unique_ptr<StorageProvider>> make_s3_storage(const S3StorageOptions& options);
/// `scheme`: "https" or "http".
[[nodiscard]] Result<std::unique_ptr<StorageProvider>> make_http_storage(std::string_view scheme,
                                                                         const HttpStorageOptions& options);

/// The provider of the URI's scheme ("file" for a plain path). kUnsupported names the schemes there are.
[[nodiscard]] Result<StorageProvider*> provider_of(std::span<StorageProvider* const> providers,
                                                   const std::string& uri);

/// Whether the object is there. Errors: those of stat, but kNotFound.
[[nodiscard]] Result<bool> exists(StorageProvider& provider, const std::string& uri);

}  // namespace loracle
