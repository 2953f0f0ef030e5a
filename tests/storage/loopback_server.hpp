#pragma once
/// An HTTP server on loopback that answers as a script says, and breaks as a script says: cut bodies, resets,
/// stalls, answers that are none. Real sockets, and no HTTP library that would mend what is to be broken.
/// One thread a connection; connections are kept. Its port is any free one.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace loracle::testing {

struct Received {
  std::string method;
  std::string target;                          // path and query, as they came
  std::map<std::string, std::string> headers;  // lower-case names
  std::string body;

  [[nodiscard]] std::string header(const std::string& name) const {
    const auto at = headers.find(name);
    return at == headers.end() ? "" : at->second;
  }
  [[nodiscard]] std::string path() const { return target.substr(0, target.find('?')); }
};

struct Reply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool length = true;                   // send a Content-Length
  std::optional<std::size_t> cut_at{};  // so many bytes of the body, then the end
  bool reset = false;                   // the end is a reset, not a close; without cut_at before any byte
  std::uint32_t delay_ms = 0;           // before the answer
  std::uint32_t hang_ms = 0;            // before the end that cut_at brings
  std::uint32_t drip_ms = 0;            // after each byte of the body
  std::string raw{};                    // sent instead of everything, if it is not empty
};

class LoopbackServer {
 public:
  using Script = std::function<Reply(const Received&)>;

  explicit LoopbackServer(Script script);
  ~LoopbackServer();
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  /// "127.0.0.1:port".
  [[nodiscard]] std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] std::string url(const std::string& path = "") const { return "http://" + host() + path; }
  [[nodiscard]] std::vector<Received> requests() const;
  [[nodiscard]] std::size_t connections() const noexcept { return connections_.load(); }
  /// The most that were answered at one time.
  [[nodiscard]] std::size_t at_once_max() const noexcept { return at_once_max_.load(); }

 private:
  void accept_all();
  void serve(int fd);
  /// False: the connection is over.
  bool answer(int fd, const Received& request, const Reply& reply);
  void pause(std::uint32_t ms) const;

  Script script_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> connections_{0};
  std::atomic<std::size_t> at_once_{0};
  std::atomic<std::size_t> at_once_max_{0};
  mutable std::mutex mutex_;  // of what follows
  std::vector<Received> requests_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

/// "bytes=3-7" as (3, 7); nullopt: no such header.
[[nodiscard]] std::optional<std::pair<std::uint64_t, std::uint64_t>> asked_range(const Received& request);

/// How a store serves one object: HEAD, GET, ranges, If-Match.
[[nodiscard]] Reply serve_object(const Received& request, const std::string& body, const std::string& etag);

/// Bytes that are nowhere twice the same.
[[nodiscard]] std::string noise(std::size_t bytes, std::uint64_t seed);

/// A server between a client and a real one at 127.0.0.1:upstream that breaks what passes, by seed: 503,
/// resets, cut bodies, delays, of `faults_of_8` eighths of the requests. ETags change while the flag is up.
class FaultProxy {
 public:
  FaultProxy(std::uint16_t upstream, std::uint64_t seed, std::uint32_t faults_of_8);
  [[nodiscard]] std::string url() const { return server_->url(); }
  [[nodiscard]] std::size_t faults() const noexcept { return faults_.load(); }
  std::atomic<bool> change_etag{false};

 private:
  Reply pass(const Received& request);

  std::uint16_t upstream_;
  std::uint32_t faults_of_8_;
  std::mutex mutex_;  // of the seed
  std::uint64_t seed_;
  std::atomic<std::size_t> faults_{0};
  std::unique_ptr<LoopbackServer> server_;  // last: its threads use the rest
};

}  // namespace loracle::testing
