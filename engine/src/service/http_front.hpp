#pragma once
/// All connections of the service on one thread: requests are read whole before anybody works on them, and
/// answers are written as clients take them. Nobody's slowness holds a thread.
///
/// A connection is reading, busy (its request is being worked on; nothing is read meanwhile), writing, or
/// streaming. A request's head and body have `read_timeout_ms` from their first byte, an answer
/// `write_timeout_ms` from its last progress, an idle connection kIdleMs. What breaks a limit is answered in
/// vLLM's error form, and the connection ends.
/// Cost: a connection is a socket and what it has sent so far, at most a head and a body.
/// Threads: the front has its own; `listen`, `answer`, `push`, `finish` may be called from any.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/env.hpp"
#include "service/http_head.hpp"

namespace loracle::service {

/// One connection; the service holds it by shared_ptr, and knows nothing else of it.
class HttpConnection;

struct WholeRequest {
  std::shared_ptr<HttpConnection> connection;
  RequestHead head;
  std::string body;
};

struct FrontOptions {
  HeadLimits limits;
  std::uint32_t read_timeout_ms = 10'000;
  std::uint32_t write_timeout_ms = 30'000;
  std::size_t connections_max = 4096;
  std::size_t stream_bytes_max = 256U << 10U;  // unread by the client of a stream: it is dropped
};

struct FrontCounts {
  std::uint64_t connections = 0;  // now
  std::uint64_t accepted = 0;
  std::uint64_t turned_away = 0;  // over connections_max
  std::uint64_t refused = 0;      // requests that broke a limit
  std::uint64_t timed_out = 0;
};

/// An error as vLLM writes it.
[[nodiscard]] std::string error_body(int status, std::string_view type, std::string_view message);
/// A whole answer in vLLM's error form, after which the connection ends.
[[nodiscard]] std::string raw_refusal(int status, std::string_view message);

class HttpFront {
 public:
  using Deliver = std::function<void(WholeRequest)>;

  /// `deliver`, and `on_hang_up` (a client has ended its side while its request was worked on), run on the
  /// front's thread and must not wait.
  [[nodiscard]] static Result<std::unique_ptr<HttpFront>> make(const FrontOptions& options, TimeSource& clock,
                                                               Deliver deliver,
                                                               std::function<void()> on_hang_up);
  HttpFront(const HttpFront&) = delete;
  HttpFront& operator=(const HttpFront&) = delete;
  ~HttpFront();
  /// Ends the thread; what is told from then on has no effect.
  void end();

  /// Takes over a socket that listens and does not block, and accepts what comes.
  void listen(int socket);
  /// Writes the answer to a delivered request; then reads on, or ends the connection. `lost` is called, on
  /// the front's thread, if the client is known not to have got all of it.
  void answer(const std::shared_ptr<HttpConnection>& connection, std::string bytes, bool keep_alive,
              std::function<void()> lost = {});
  /// The answer to a delivered request begins with `bytes` and goes on by `push`.
  void stream(const std::shared_ptr<HttpConnection>& connection, std::string bytes);
  /// False when the stream has ended: its client is gone, too slow, or `finish` was called.
  bool push(const std::shared_ptr<HttpConnection>& connection, std::string bytes);
  void finish(const std::shared_ptr<HttpConnection>& connection);
  /// True once the client has ended the connection, or its side of it: what is done for it may be undone.
  [[nodiscard]] static std::shared_ptr<const std::atomic<bool>> hung_up_flag(
      const std::shared_ptr<HttpConnection>& connection);

  /// Nothing is accepted any more; idle connections are closed, others after their answer.
  void begin_drain();
  /// True when no connection is left.
  [[nodiscard]] bool wait_empty(std::uint32_t timeout_ms);
  [[nodiscard]] FrontCounts counts() const;

 private:
  HttpFront(const FrontOptions& options, TimeSource& clock, Deliver deliver, std::function<void()> on_hang_up,
            int epoll, int wake);
  struct Message;
  void tell(Message message);
  void run();
  void take_messages();
  void take_message(Message& message);
  void accept_some();
  void watch_listener(bool is_on);
  void close_listener();
  void add(int socket);
  void hung_up(HttpConnection& connection, bool both_sides);
  void read_some(HttpConnection& connection);
  void take_requests(HttpConnection& connection);
  void refuse(HttpConnection& connection, int status, std::string_view message);
  void write_some(HttpConnection& connection);
  void written(HttpConnection& connection);
  void watch(HttpConnection& connection) const;
  void drop(HttpConnection& connection);
  void drop_late(std::uint64_t now_ns);

  FrontOptions options_;
  TimeSource& clock_;
  Deliver deliver_;
  std::function<void()> on_hang_up_;
  int epoll_;
  int wake_;

  mutable std::mutex mutex_;  // guards the rest of this group
  std::condition_variable changed_;
  std::vector<Message> messages_;
  FrontCounts counts_;
  bool ending_ = false;

  // The front's thread only.
  std::map<int, std::shared_ptr<HttpConnection>> connections_;
  bool draining_ = false;
  int listener_ = -1;
  std::uint64_t accept_again_ns_ = kNoDeadline;  // there was no descriptor left, say

  std::thread thread_;
};

}  // namespace loracle::service
