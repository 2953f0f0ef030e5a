#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "loracle/storage/provider.hpp"
#include "storage/http_transport.hpp"
#include "storage/ranged_fetch.hpp"
#include "storage/retry.hpp"
#include "storage/storage_uri.hpp"
#include "storage/utc_time.hpp"

namespace loracle {
namespace {

/// One entry of allowed_hosts.
struct HostPattern {
  std::string host;        // lower case; without the "*" of "*.domain"
  bool below = false;      // names below the domain, not itself
  std::uint16_t port = 0;  // 0: any
};

Result<HostPattern> parse_pattern(const std::string& text) {
  HostPattern pattern;
  std::string rest = text;
  pattern.below = rest.starts_with("*.");
  if (pattern.below) rest.erase(0, 2);
  const std::size_t colon = rest.rfind(':');
  const std::size_t bracket = rest.rfind(']');  // of an IPv6 address, whose colons are its own
  const bool port = colon != std::string::npos && (bracket == std::string::npos || colon > bracket);
  // Read as URLs are, so that both are written the same way.
  const Result<HttpAddress> address = parse_http_url("http://" + rest + "/");
  if (!address || rest.find_first_of("/?#@*") != std::string::npos)
    return fail(Errc::kInvalid, fmt::format("allowed_hosts: '{}': write host, host:port or *.domain", text));
  pattern.host = address->host;
  if (port) pattern.port = address->port;
  return pattern;
}

bool matches(const HostPattern& pattern, const HttpAddress& address) {
  if (pattern.port != 0 && pattern.port != address.port) return false;
  if (!pattern.below) return address.host == pattern.host;
  return address.host.size() > pattern.host.size() + 1 && address.host.ends_with("." + pattern.host);
}

bool is_redirect(std::int64_t status) noexcept {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

class HttpStorage final : public StorageProvider {
 public:
  HttpStorage(std::string_view scheme, HttpStorageOptions options, std::vector<HostPattern> hosts,
              std::unique_ptr<HttpTransport> transport)
      : scheme_(scheme),
        options_(std::move(options)),
        hosts_(std::move(hosts)),
        transport_(std::move(transport)) {}

  [[nodiscard]] std::string_view scheme() const noexcept override { return scheme_; }

  [[nodiscard]] Result<StoredListing> list(const std::string& uri, bool /*recursive*/) override {
    return fail(Errc::kUnsupported,
                fmt::format("{}: plain HTTP cannot be listed: name an adapter's own URL", shown_uri(uri)));
  }

  [[nodiscard]] Result<StoredObject> stat(const std::string& uri) override {
    if (Result<Unit> good = check_url(uri, uri); !good) return fail(std::move(good.error()));
    const std::string shown = shown_uri(uri);
    HttpCall call;
    call.method = "HEAD";
    Backoff backoff(options_.retry, backoff_seed());
    HttpOutcome outcome = with_retries(backoff, transport_->stopped(), [&] { return send(uri, call); });
    const std::int64_t refused = outcome.answer.status;
    if (!outcome.error && (refused == 403 || refused == 405 || refused == 501)) {
      call.method = "GET";  // some know no HEAD, and a signed URL is signed for one method
      call.headers = {{"Range", "bytes=0-0"}};
      bool stopped = false;
      call.on_head = [](const HttpAnswer& head) -> Result<bool> { return head.status == 200; };
      call.on_bytes = [&](std::span<const std::byte>) -> Result<Unit> {
        stopped = true;  // knows no ranges either: the header was all that is needed
        return fail(Errc::kCancelled, "");
      };
      outcome = with_retries(backoff, transport_->stopped(), [&] { return send(uri, call); });
      if (stopped) outcome.error.reset();
    }
    if (outcome.error) return fail(given_up(*outcome.error, outcome, backoff));
    if (outcome.answer.status != 200 && outcome.answer.status != 206)
      return fail(given_up(error_of(outcome.answer, shown), outcome, backoff));
    Result<std::uint64_t> size = size_of_object(outcome.answer, shown);
    if (!size) return fail(std::move(size.error()));
    std::string version = version_of(outcome.answer);
    if (version.empty()) {
      return fail(
          Errc::kUnsupported,
          fmt::format("{}: the server names neither an ETag nor a Last-Modified, so that nobody could "
                      "tell when the file changes: let it send one",
                      shown));
    }
    const std::optional<std::string> date = header_of(outcome.answer.headers, "last-modified");
    const std::size_t slash = shown.rfind('/');
    return StoredObject{shown.substr(slash + 1), *size, std::move(version),
                        date ? parse_http_date(*date).value_or(0) : 0};
  }

  [[nodiscard]] Result<Unit> fetch(const std::string& uri, const FetchRange& range,
                                   const ByteSink& sink) override {
    if (Result<Unit> good = check_url(uri, uri); !good) return good;
    const std::string shown = shown_uri(uri);
    const SendCall send_part = [&](const HttpCall& call) { return send(uri, call); };
    const ErrorOfAnswer error = [&](const HttpAnswer& answer) { return error_of(answer, shown); };
    return fetch_range({shown, range, sink, send_part, error, transport_->stopped()}, options_.retry);
  }

  void stop() noexcept override { transport_->stop(); }

 private:
  /// `from` is what the caller asked for, `url` where it led.
  [[nodiscard]] Result<Unit> check_url(const std::string& url, const std::string& from) const {
    Result<HttpAddress> address = parse_http_url(url);
    if (!address) return fail(std::move(address.error()));
    const bool hop = &url != &from;
    const std::string shown =
        hop ? fmt::format("{}: redirects to {}", shown_uri(from), shown_uri(url)) : shown_uri(url);
    if (!hop && address->scheme != scheme_)
      return fail(Errc::kInvalid, fmt::format("{}: not {}://", shown, scheme_));
    if (scheme_ == "https" && address->scheme != "https")
      return fail(Errc::kInvalid, fmt::format("{}: from https to plain http: refused", shown));
    const bool allowed = std::any_of(hosts_.begin(), hosts_.end(),
                                     [&](const HostPattern& pattern) { return matches(pattern, *address); });
    if (!allowed) {
      return fail(Errc::kInvalid,
                  fmt::format("{}: host '{}:{}' is not allowed: allowed_hosts does not name it", shown,
                              address->host, address->port));
    }
    return Unit{};
  }

  /// One attempt, from the first URL on: where a redirect led a minute ago need not be good any more.
  [[nodiscard]] HttpOutcome send(const std::string& uri, const HttpCall& asked) {
    HttpCall call = asked;
    call.url = uri;
    for (std::uint32_t hops = 0;; ++hops) {
      HttpOutcome outcome = transport_->perform(call);
      if (outcome.error || !is_redirect(outcome.answer.status)) return outcome;
      const std::optional<std::string> location = header_of(outcome.answer.headers, "location");
      if (!location) {
        return {{},
                Error{Errc::kIo, fmt::format("{}: redirects to nowhere", shown_uri(call.url)),
                      outcome.answer.status},
                false};
      }
      if (hops == options_.redirects_max) {
        return {{},
                Error{Errc::kIo,
                      fmt::format("{}: more than {} redirects (redirects_max)", shown_uri(uri),
                                  options_.redirects_max),
                      outcome.answer.status},
                false};
      }
      Result<std::string> next = resolve_url(call.url, *location);
      if (!next) return {{}, std::move(next.error()), false};
      if (Result<Unit> good = check_url(*next, uri); !good) return {{}, std::move(good.error()), false};
      call.url = std::move(*next);
    }
  }

  [[nodiscard]] static Error error_of(const HttpAnswer& answer, const std::string& shown) {
    const std::int64_t status = answer.status;
    if (status == 404 || status == 410)
      return {Errc::kNotFound,
              fmt::format("{}: there is no such file (the server answers {})", shown, status), status};
    const bool login = status == 401 || status == 403;
    return {Errc::kIo,
            fmt::format("{}: the server answers {}{}", shown, status,
                        login ? ": it wants to know who asks, and nobody is told" : ""),
            status};
  }

  std::string scheme_;
  HttpStorageOptions options_;
  std::vector<HostPattern> hosts_;
  std::unique_ptr<HttpTransport> transport_;
};

}  // namespace

Result<std::unique_ptr<StorageProvider>> make_http_storage(std::string_view scheme,
                                                           const HttpStorageOptions& options) {
  if (scheme != "https" && scheme != "http")
    return fail(Errc::kInvalid, fmt::format("'{}' is not https or http", scheme));
  if (scheme == "http" && !options.allow_http)
    return fail(Errc::kInvalid,
                "http:// is off: anybody on the way could change the bytes; allow_http turns it on");
  if (Result<Unit> good = check_retry(options.retry); !good) return fail(std::move(good.error()));
  std::vector<HostPattern> hosts;
  for (const std::string& text : options.allowed_hosts) {
    Result<HostPattern> pattern = parse_pattern(text);
    if (!pattern) return fail(std::move(pattern.error()));
    hosts.push_back(std::move(*pattern));
  }
  auto transport =
      HttpTransport::make({options.max_concurrent, options.retry.connect_timeout_ms,
                           options.retry.stall_timeout_ms, options.allow_private_addresses, options.ca_file});
  if (!transport) return fail(std::move(transport.error()));
  return std::make_unique<HttpStorage>(scheme, options, std::move(hosts), std::move(*transport));
}

}  // namespace loracle
