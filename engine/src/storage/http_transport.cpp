#include "storage/http_transport.hpp"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "storage/address_ranges.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kHeaderBytesMax = 256U << 10U;
/// Below one byte a millisecond, over a whole stall time, bytes do not count as any.
constexpr std::uint64_t kBytesPerMsMin = 1;
/// How often a request looks whether it is to stop.
constexpr std::int64_t kLookMs = 100;
// What a gateway says of a server that gave it no answer.
constexpr std::int64_t kBadGateway = 502;
constexpr std::int64_t kGatewayTimeout = 504;
constexpr auto kTurnWaitMax = std::chrono::minutes(10);

/// Once a process; libcurl asks for no counterpart where the process ends.
CURLcode global_init() {
  static const CURLcode code = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  return code;
}

/// An easy handle and the multi handle that drives it and keeps its connections.
struct Handle {
  CURL* easy = nullptr;
  CURLM* multi = nullptr;

  Handle() : easy(::curl_easy_init()), multi(::curl_multi_init()) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    ::curl_easy_cleanup(easy);
    ::curl_multi_cleanup(multi);
  }
};

/// What the callbacks of one request share.
struct Exchange {
  const HttpCall& call;
  bool allow_private;
  HttpAnswer answer = {};
  std::size_t header_bytes = 0;
  bool head_seen = false;
  bool to_sink = false;
  bool enough = false;  // the rest of an error's body is of no use
  std::optional<Error> error = {};
  std::string refused_address = {};
  bool connected = false;
  std::uint64_t bytes = 0;
  Clock::time_point last_bytes = {};
};

std::string host_of(const HttpCall& call) {
  const Result<HttpAddress> address = parse_http_url(call.url);
  return address ? address->host : "the server";
}

bool begin_body(Exchange& exchange) {
  if (exchange.head_seen) return true;
  exchange.head_seen = true;
  if (!exchange.call.on_head) return true;
  Result<bool> takes = exchange.call.on_head(exchange.answer);
  if (!takes) {
    exchange.error = std::move(takes.error());
    return false;
  }
  exchange.to_sink = *takes;
  return true;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::size_t bytes = size * count;
  exchange.last_bytes = Clock::now();
  exchange.header_bytes += bytes;
  if (exchange.header_bytes > kHeaderBytesMax) {
    exchange.error = Error{Errc::kTooLarge, fmt::format("{}: sends a header of more than {} bytes",
                                                        shown_uri(exchange.call.url), kHeaderBytesMax)};
    return 0;
  }
  std::string_view line(data, bytes);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  if (exchange.head_seen) return bytes;  // trailers of a chunked body: of no use
  if (line.starts_with("HTTP/")) {       // also after a 100: its headers are not the answer's
    exchange.answer.headers.clear();
    const std::size_t blank = line.find(' ');
    exchange.answer.status = 0;
    for (std::size_t at = blank; at != std::string_view::npos && at + 1 < line.size(); ++at) {
      const char c = line[at + 1];
      if (c < '0' || c > '9' || exchange.answer.status > 99) break;
      exchange.answer.status = exchange.answer.status * 10 + (c - '0');
    }
    return bytes;
  }
  if (line.empty()) {
    if (exchange.answer.status < 200) return bytes;
    return begin_body(exchange) ? bytes : 0;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return bytes;
  std::string name = lower_case(line.substr(0, colon));
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
  exchange.answer.headers.emplace_back(std::move(name), value);
  return bytes;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::size_t bytes = size * count;
  if (!begin_body(exchange)) return 0;
  exchange.bytes += bytes;
  if (exchange.to_sink) {
    Result<Unit> taken = exchange.call.on_bytes(std::as_bytes(std::span(data, bytes)));
    if (!taken) exchange.error = std::move(taken.error());
    exchange.last_bytes = Clock::now();  // after the sink: a slow one is not the server's stall
    return taken ? bytes : 0;
  }
  exchange.last_bytes = Clock::now();
  const std::size_t room = exchange.call.collect_bytes_max - exchange.answer.body.size();
  exchange.answer.body.append(data, std::min(room, bytes));
  if (bytes <= room) return bytes;
  if (exchange.answer.status >= 300) {
    exchange.enough = true;
  } else {
    exchange.error =
        Error{Errc::kTooLarge, fmt::format("{}: answers with more than {} bytes",
                                           shown_uri(exchange.call.url), exchange.call.collect_bytes_max)};
  }
  return 0;
}

/// The one place where a connection begins: what is checked is the address it goes to, whatever the name
/// was, and however often it is resolved.
curl_socket_t open_socket(void* user, curlsocktype purpose, curl_sockaddr* address) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (purpose != CURLSOCKTYPE_IPCXN) return CURL_SOCKET_BAD;
  if (!exchange.allow_private && is_private_address(address->addr)) {
    exchange.refused_address = text_of_address(address->addr);
    return CURL_SOCKET_BAD;
  }
  exchange.connected = true;
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

struct HeaderList {
  curl_slist* list = nullptr;
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList() { ::curl_slist_free_all(list); }
  void add(const std::string& line) { list = ::curl_slist_append(list, line.c_str()); }
};

void prepare(CURL* easy, const TransportOptions& options, Exchange& exchange, HeaderList& headers,
             std::array<char, CURL_ERROR_SIZE>& text) {
  const HttpCall& call = exchange.call;
  ::curl_easy_reset(easy);  // connections, sessions and resolved names stay
  ::curl_easy_setopt(easy, CURLOPT_URL, call.url.c_str());
  ::curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  ::curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  ::curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  ::curl_easy_setopt(easy, CURLOPT_PROXY, "");  // a proxy would resolve names where nobody checks
  ::curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  ::curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  // Of version 1.1, each request has a connection: parallel parts are not in each other's way.
  ::curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  ::curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 512L << 10);
  ::curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  ::curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout_ms));
  ::curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text.data());
  if (!options.ca_file.empty()) ::curl_easy_setopt(easy, CURLOPT_CAINFO, options.ca_file.c_str());
  ::curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  ::curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &exchange);
  ::curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &on_header);
  ::curl_easy_setopt(easy, CURLOPT_HEADERDATA, &exchange);
  ::curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_body);
  ::curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
  headers.add("Expect:");
  headers.add("User-Agent: loracle");
  if (call.method == "HEAD") {
    ::curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (call.method != "GET") {
    ::curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.body.size()));
    ::curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, call.body.c_str());
    ::curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call.method.c_str());
    if (call.body.empty()) headers.add("Content-Type:");
  }
  for (const auto& [name, value] : call.headers) headers.add(fmt::format("{}: {}", name, value));
  ::curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.list);
}

/// Drives the request to its end. kStalled: libcurl saw nothing wrong, but for too long nothing came.
enum class Driven : std::uint8_t { kDone, kStalled, kBroken, kStopped };

Driven drive(const Handle& handle, const TransportOptions& options, const std::atomic<bool>& stopped,
             Exchange& exchange, CURLcode& code) {
  const auto stall = std::chrono::milliseconds(options.stall_timeout_ms);
  // Resolving and connecting have a limit of their own, before the first byte is waited for.
  exchange.last_bytes = Clock::now() + std::chrono::milliseconds(options.connect_timeout_ms);
  std::optional<Clock::time_point> window;  // from the first byte of the body on
  std::uint64_t window_bytes = 0;
  while (true) {
    int running = 0;
    if (::curl_multi_perform(handle.multi, &running) != CURLM_OK) return Driven::kBroken;
    int left = 0;
    while (const CURLMsg* const message = ::curl_multi_info_read(handle.multi, &left)) {
      if (message->msg == CURLMSG_DONE) {
        code = message->data.result;
        return Driven::kDone;
      }
    }
    if (running == 0) return Driven::kBroken;
    if (stopped) return Driven::kStopped;
    const auto now = Clock::now();
    if (now - exchange.last_bytes >= stall) return Driven::kStalled;
    if (exchange.bytes > 0) {
      if (!window) window = now, window_bytes = exchange.bytes;
      if (now - *window >= stall) {
        if (exchange.bytes - window_bytes < options.stall_timeout_ms * kBytesPerMsMin)
          return Driven::kStalled;
        window = now;
        window_bytes = exchange.bytes;
      }
    }
    const auto until =
        std::chrono::duration_cast<std::chrono::milliseconds>(exchange.last_bytes + stall - now);
    const auto wait = std::clamp<std::int64_t>(until.count() + 1, 1, kLookMs);
    if (::curl_multi_poll(handle.multi, nullptr, 0, static_cast<int>(wait), nullptr) != CURLM_OK)
      return Driven::kBroken;
  }
}

bool is_passing(CURLcode code) noexcept {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_AGAIN:
      return true;
    default:
      return false;
  }
}

HttpOutcome outcome_of(Driven driven, CURLcode code, const TransportOptions& options, Exchange& exchange,
                       const char* text) {
  HttpOutcome outcome;
  outcome.answer = std::move(exchange.answer);
  const std::string where = shown_uri(exchange.call.url);
  if (exchange.error) {
    outcome.error = std::move(exchange.error);
  } else if (driven == Driven::kStopped) {
    outcome.error = Error{Errc::kCancelled, fmt::format("{}: storage is being stopped", where)};
  } else if (driven == Driven::kStalled) {
    outcome.error =
        Error{Errc::kIo,
              fmt::format("{}: nothing, or next to nothing, came for {} ms", where, options.stall_timeout_ms),
              kGatewayTimeout};
    outcome.may_retry = true;
  } else if (driven == Driven::kBroken) {
    outcome.error = Error{Errc::kIo, fmt::format("{}: libcurl gave up on the request", where), kBadGateway};
    outcome.may_retry = true;
  } else if (exchange.enough || (code == CURLE_OK && outcome.answer.status != 0)) {
    return outcome;
  } else if (!exchange.refused_address.empty() && !exchange.connected) {
    outcome.error = Error{Errc::kInvalid,
                          fmt::format("{}: {} is at {}, a private address, and those are not allowed: set "
                                      "allow_private_addresses if this server is meant",
                                      where, host_of(exchange.call), exchange.refused_address)};
  } else {
    outcome.error =
        Error{Errc::kIo, fmt::format("{}: {}", where, *text != '\0' ? text : ::curl_easy_strerror(code)),
              kBadGateway};
    outcome.may_retry = is_passing(code);
  }
  return outcome;
}

}  // namespace

std::optional<std::string> header_of(const HttpHeaders& headers, std::string_view lower_name) {
  for (const auto& [name, value] : headers)
    if (name == lower_name) return value;
  return std::nullopt;
}

struct HttpTransport::Pool {
  explicit Pool(TransportOptions given) : options(std::move(given)) {}

  TransportOptions options;
  std::mutex mutex;
  std::condition_variable returned;
  std::vector<std::unique_ptr<Handle>> idle;  // used last, back first: its connection is the freshest
  std::uint32_t running = 0;
  std::atomic<bool> stopped = false;

  /// Null when none came back in time, or it was stopped.
  std::unique_ptr<Handle> take() {
    std::unique_lock lock(mutex);
    const bool is_free =
        returned.wait_for(lock, kTurnWaitMax, [&] { return stopped || running < options.max_concurrent; });
    if (!is_free || stopped) return nullptr;
    ++running;
    if (idle.empty()) return std::make_unique<Handle>();
    std::unique_ptr<Handle> handle = std::move(idle.back());
    idle.pop_back();
    return handle;
  }

  void give_back(std::unique_ptr<Handle> handle) {
    {
      const std::lock_guard lock(mutex);
      --running;
      idle.push_back(std::move(handle));
    }
    returned.notify_one();
  }
};

HttpTransport::HttpTransport(std::unique_ptr<Pool> pool) : pool_(std::move(pool)) {}
HttpTransport::~HttpTransport() = default;

Result<std::unique_ptr<HttpTransport>> HttpTransport::make(const TransportOptions& options) {
  if (const CURLcode code = global_init(); code != CURLE_OK)
    return fail(Errc::kIo, fmt::format("libcurl cannot be used: {}", ::curl_easy_strerror(code)), code);
  if (options.max_concurrent == 0 || options.connect_timeout_ms == 0 || options.stall_timeout_ms == 0) {
    return fail(Errc::kInvalid,
                "storage: max_concurrent, connect_timeout_ms and stall_timeout_ms must be above 0");
  }
  if (!options.ca_file.empty() && ::access(options.ca_file.c_str(), R_OK) != 0)
    return fail(Errc::kInvalid, fmt::format("{}: this file of certificates cannot be read", options.ca_file));
  return std::unique_ptr<HttpTransport>(new HttpTransport(std::make_unique<Pool>(options)));
}

void HttpTransport::stop() noexcept {
  {
    const std::lock_guard lock(pool_->mutex);  // who is about to wait sees it
    pool_->stopped = true;
  }
  pool_->returned.notify_all();
}

const std::atomic<bool>& HttpTransport::stopped() const noexcept { return pool_->stopped; }

HttpOutcome HttpTransport::perform(const HttpCall& call) {
  std::unique_ptr<Handle> handle = pool_->take();
  if (handle == nullptr && pool_->stopped) {
    return {
        {}, Error{Errc::kCancelled, fmt::format("{}: storage is being stopped", shown_uri(call.url))}, false};
  }
  if (handle == nullptr) {
    return {{},
            Error{Errc::kBusy,
                  fmt::format("{}: no turn in {} minutes, {} requests run already: raise "
                              "max_concurrent",
                              shown_uri(call.url), kTurnWaitMax.count(), pool_->options.max_concurrent)},
            false};
  }
  Exchange exchange{.call = call, .allow_private = pool_->options.allow_private_addresses};
  HeaderList headers;
  std::array<char, CURL_ERROR_SIZE> text{};
  Driven driven = Driven::kBroken;
  CURLcode code = CURLE_OK;
  if (handle->easy != nullptr && handle->multi != nullptr) {
    prepare(handle->easy, pool_->options, exchange, headers, text);
    if (::curl_multi_add_handle(handle->multi, handle->easy) == CURLM_OK) {
      driven = drive(*handle, pool_->options, pool_->stopped, exchange, code);
      ::curl_multi_remove_handle(handle->multi, handle->easy);
    }
    ::curl_easy_reset(handle->easy);  // it names this frame's variables
  }
  pool_->give_back(std::move(handle));
  return outcome_of(driven, code, pool_->options, exchange, text.data());
}

}  // namespace loracle
