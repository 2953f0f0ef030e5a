#pragma once
/// One HTTP request and its answer, over connections that are kept: libcurl behind a plain interface.
///
/// No redirect is followed, no proxy, netrc file or cookie is used, nothing is decompressed. What a request
/// may do is bounded: the time to connect, the time without bytes, a rate below which it counts as stalled,
/// the header's size, the size of what is collected.
/// Threads: any. At most `max_concurrent` requests run at once; more wait for their turn.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

/// Name and value; in answers the names are lower case.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// The first header of that name; nullopt if there is none.
[[nodiscard]] std::optional<std::string> header_of(const HttpHeaders& headers, std::string_view lower_name);

struct HttpAnswer {
  std::int64_t status = 0;  // 0: there was none
  HttpHeaders headers;
  std::string body;  // what was collected of it
};

struct HttpCall {
  std::string method = "GET";  // GET HEAD POST PUT
  std::string url;
  HttpHeaders headers;
  std::string body;
  std::size_t collect_bytes_max = 64U << 10U;
  /// Once, when the header is complete. True: the body goes to `on_bytes`; false: it is collected. An error
  /// ends the request.
  std::function<Result<bool>(const HttpAnswer& head)> on_head;
  std::function<Result<Unit>(std::span<const std::byte>)> on_bytes;
};

struct HttpOutcome {
  HttpAnswer answer;
  std::optional<Error> error;  // there is no whole answer
  bool may_retry = false;      // of an error: it may be gone the next time
};

struct TransportOptions {
  std::uint32_t max_concurrent = 4;
  std::uint32_t connect_timeout_ms = 5'000;
  std::uint32_t stall_timeout_ms = 30'000;
  bool allow_private_addresses = true;
  std::string ca_file;  // empty: the system's
};

class HttpTransport {
 public:
  [[nodiscard]] static Result<std::unique_ptr<HttpTransport>> make(const TransportOptions& options);
  ~HttpTransport();
  HttpTransport(const HttpTransport&) = delete;
  HttpTransport& operator=(const HttpTransport&) = delete;

  /// Errors name host and cause, never the query or a header.
  [[nodiscard]] HttpOutcome perform(const HttpCall& call);

  /// Requests that run, wait for their turn, or are still to come end in kCancelled. For good.
  void stop() noexcept;
  [[nodiscard]] const std::atomic<bool>& stopped() const noexcept;

 private:
  struct Pool;
  explicit HttpTransport(std::unique_ptr<Pool> pool);
  std::unique_ptr<Pool> pool_;
};

}  // namespace loracle
