#include "service/http_front.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

namespace loracle::service {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kIdleMs = 60'000;
constexpr std::uint64_t kLingerMs = 1'000;
constexpr int kTickMs = 100;  // how late a deadline may be noticed
constexpr std::size_t kReadBytes = 16U << 10U;
constexpr std::size_t kBlankBytesMax = 64;

}  // namespace

class HttpConnection {
 public:
  enum class State : std::uint8_t { kReading, kBusy, kWriting, kStreaming, kLingering, kClosed };

  int socket = -1;
  State state = State::kReading;
  std::string in;
  std::string out;
  std::size_t out_sent = 0;
  bool keep_alive = true;
  bool told_continue = false;
  bool finished = false;        // of a stream: what is in `out` is the last
  std::size_t head_bytes = 0;   // 0: the head is not whole yet
  std::size_t searched = 0;     // of `in`, for the head's end
  std::size_t blank_bytes = 0;  // of empty lines since the last request
  RequestHead head;
  std::uint64_t deadline_ns = kNoDeadline;
  std::uint32_t watched = 0;  // epoll's events
  std::atomic<bool> is_open = true;
  std::atomic<bool> has_hung_up = false;
  std::function<void()> lost = {};  // of the answer that is being written
};

struct HttpFront::Message {
  enum class Kind : std::uint8_t { kListen, kAnswer, kStream, kPush, kFinish, kDrain };
  Kind kind = Kind::kListen;
  int socket = -1;
  std::shared_ptr<HttpConnection> connection = {};
  std::string bytes = {};
  bool keep_alive = false;
  std::function<void()> lost = {};
};

std::string error_body(int status, std::string_view type, std::string_view message) {
  const nlohmann::ordered_json json = {
      {"error", {{"message", message}, {"type", type}, {"param", nullptr}, {"code", status}}}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string raw_refusal(int status, std::string_view message) {
  const std::string body = error_body(status, reason_of(status), message);
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}Connection: "
      "close\r\n\r\n{}",
      status, reason_of(status), body.size(), status == 503 ? "Retry-After: 1\r\n" : "", body);
}

Result<std::unique_ptr<HttpFront>> HttpFront::make(const FrontOptions& options, TimeSource& clock,
                                                   Deliver deliver, std::function<void()> on_hang_up) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const int wake = epoll < 0 ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    const int error = errno;
    if (epoll >= 0) ::close(epoll);
    return fail(Errc::kIo, fmt::format("cannot watch connections: {}", std::strerror(error)), error);
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake;
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event);
  return std::unique_ptr<HttpFront>(
      new HttpFront(options, clock, std::move(deliver), std::move(on_hang_up), epoll, wake));
}

HttpFront::HttpFront(const FrontOptions& options, TimeSource& clock, Deliver deliver,
                     std::function<void()> on_hang_up, int epoll, int wake)
    : options_(options),
      clock_(clock),
      deliver_(std::move(deliver)),
      on_hang_up_(std::move(on_hang_up)),
      epoll_(epoll),
      wake_(wake) {
  thread_ = std::thread([this] { run(); });
}

void HttpFront::end() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_, &one, sizeof one));
  thread_.join();
}

HttpFront::~HttpFront() {
  end();
  for (const Message& message : messages_)
    if (message.kind == Message::Kind::kListen) ::close(message.socket);
  if (listener_ >= 0) ::close(listener_);
  for (const auto& [socket, connection] : connections_) {
    connection->is_open = false;
    ::close(socket);
  }
  ::close(wake_);
  ::close(epoll_);
}

void HttpFront::tell(Message message) {
  bool is_first = false;
  {
    const std::lock_guard lock(mutex_);
    is_first = messages_.empty();
    messages_.push_back(std::move(message));
  }
  if (!is_first || std::this_thread::get_id() == thread_.get_id()) return;  // it looks before it sleeps
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_, &one, sizeof one));  // can only fail by being full, and then it is awake
}

void HttpFront::listen(int socket) { tell({.kind = Message::Kind::kListen, .socket = socket}); }
void HttpFront::answer(const std::shared_ptr<HttpConnection>& connection, std::string bytes, bool keep_alive,
                       std::function<void()> lost) {
  tell({.kind = Message::Kind::kAnswer,
        .connection = connection,
        .bytes = std::move(bytes),
        .keep_alive = keep_alive,
        .lost = std::move(lost)});
}
void HttpFront::stream(const std::shared_ptr<HttpConnection>& connection, std::string bytes) {
  tell({.kind = Message::Kind::kStream, .connection = connection, .bytes = std::move(bytes)});
}
bool HttpFront::push(const std::shared_ptr<HttpConnection>& connection, std::string bytes) {
  if (!connection->is_open) return false;
  tell({.kind = Message::Kind::kPush, .connection = connection, .bytes = std::move(bytes)});
  return true;
}
void HttpFront::finish(const std::shared_ptr<HttpConnection>& connection) {
  tell({.kind = Message::Kind::kFinish, .connection = connection});
}
std::shared_ptr<const std::atomic<bool>> HttpFront::hung_up_flag(
    const std::shared_ptr<HttpConnection>& connection) {
  return {connection, &connection->has_hung_up};
}
void HttpFront::begin_drain() { tell({.kind = Message::Kind::kDrain}); }

bool HttpFront::wait_empty(std::uint32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return counts_.connections == 0 && messages_.empty(); });
}

FrontCounts HttpFront::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void HttpFront::run() {
  std::array<epoll_event, 64> events{};
  std::uint64_t looked_ns = clock_.now_ns();
  for (;;) {
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), kTickMs);
    for (int i = 0; i < count; ++i) {
      const int socket = events[static_cast<std::size_t>(i)].data.fd;
      const std::uint32_t what = events[static_cast<std::size_t>(i)].events;
      if (socket == wake_) {
        std::uint64_t ignored = 0;
        static_cast<void>(!::read(wake_, &ignored, sizeof ignored));
        continue;
      }
      if (socket == listener_) {
        accept_some();
        continue;
      }
      const auto found = connections_.find(socket);
      if (found == connections_.end()) continue;
      const std::shared_ptr<HttpConnection> connection = found->second;
      if (connection->state == HttpConnection::State::kBusy &&
          (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        hung_up(*connection, (what & (EPOLLHUP | EPOLLERR)) != 0);
      else if ((what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        read_some(*connection);
      if (connection->is_open && (what & EPOLLOUT) != 0) write_some(*connection);
    }
    take_messages();
    const std::uint64_t now_ns = clock_.now_ns();
    if (now_ns >= accept_again_ns_) watch_listener(true);
    if (now_ns - looked_ns >= kTickMs * kMs) {
      looked_ns = now_ns;
      drop_late(now_ns);
    }
    const std::lock_guard lock(mutex_);
    if (ending_) return;
  }
}

/// Until there are none: an answer may let in the connection's next request, which is answered here as well.
void HttpFront::take_messages() {
  for (;;) {
    std::vector<Message> messages;
    {
      const std::lock_guard lock(mutex_);
      messages.swap(messages_);
    }
    if (messages.empty()) return;
    for (Message& message : messages) take_message(message);
    changed_.notify_all();
  }
}

void HttpFront::take_message(Message& message) {
  using State = HttpConnection::State;
  if (message.kind == Message::Kind::kListen) {
    listener_ = message.socket;
    epoll_event event{};
    event.data.fd = listener_;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
    return watch_listener(true);
  }
  if (message.kind == Message::Kind::kDrain) {
    draining_ = true;
    close_listener();
    std::vector<std::shared_ptr<HttpConnection>> idle;
    for (const auto& [socket, connection] : connections_)
      if (connection->state == State::kReading && connection->in.empty()) idle.push_back(connection);
    for (const auto& connection : idle) drop(*connection);
    return;
  }
  HttpConnection& connection = *message.connection;
  if (!connection.is_open) {
    if (message.lost) message.lost();
    return;
  }
  switch (message.kind) {
    case Message::Kind::kAnswer:
      connection.state = State::kWriting;
      connection.out = std::move(message.bytes);
      connection.out_sent = 0;
      connection.keep_alive = message.keep_alive && !draining_;
      connection.lost = std::move(message.lost);
      break;
    case Message::Kind::kStream:
      connection.state = State::kStreaming;
      connection.out = std::move(message.bytes);
      connection.out_sent = 0;
      break;
    case Message::Kind::kPush:
      if (connection.state != State::kStreaming || connection.finished) return;
      connection.out.erase(0, std::exchange(connection.out_sent, 0));
      connection.out += message.bytes;
      if (connection.out.size() > options_.stream_bytes_max) return drop(connection);
      break;
    case Message::Kind::kFinish:
      connection.finished = true;  // also of a stream that is still to begin
      if (connection.state != State::kStreaming) return;
      break;
    case Message::Kind::kListen:
    case Message::Kind::kDrain:
      return;
  }
  // More to write is no progress: only a client that has nothing left to read gets a new deadline.
  const bool has_stalled = message.kind == Message::Kind::kPush && connection.deadline_ns != kNoDeadline;
  if (!has_stalled) connection.deadline_ns = clock_.now_ns() + options_.write_timeout_ms * kMs;
  write_some(connection);
}

void HttpFront::accept_some() {
  for (;;) {
    const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket >= 0) {
      add(socket);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    // No descriptor or memory left: some connections may end meanwhile, and those who come wait in the queue.
    watch_listener(false);
    accept_again_ns_ = clock_.now_ns() + kTickMs * kMs;
    return;
  }
}

void HttpFront::watch_listener(bool is_on) {
  accept_again_ns_ = kNoDeadline;
  if (listener_ < 0) return;
  epoll_event event{};
  event.events = is_on ? static_cast<std::uint32_t>(EPOLLIN) : 0U;
  event.data.fd = listener_;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, listener_, &event);
}

void HttpFront::close_listener() {
  if (listener_ >= 0) ::close(std::exchange(listener_, -1));
}

void HttpFront::add(int socket) {
  if (connections_.size() >= options_.connections_max || draining_) {
    {
      const std::lock_guard lock(mutex_);
      ++counts_.turned_away;
    }
    const std::string answer = raw_refusal(503, "too many connections: try again soon");
    static_cast<void>(!::send(socket, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    ::close(socket);
    return;
  }
  auto connection = std::make_shared<HttpConnection>();
  connection->socket = socket;
  connection->deadline_ns = clock_.now_ns() + options_.read_timeout_ms * kMs;
  epoll_event event{};
  event.data.fd = socket;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) != 0) {
    ::close(socket);
    return;
  }
  connections_.emplace(socket, connection);
  {
    const std::lock_guard lock(mutex_);
    ++counts_.accepted;
    counts_.connections = connections_.size();
  }
  watch(*connection);
}

/// Asks for what the state needs. Of a busy connection nothing is read: its client may send the next request
/// whenever it likes, into its own socket's buffer. Only that it ends its side is noticed, once.
void HttpFront::watch(HttpConnection& connection) const {
  using State = HttpConnection::State;
  std::uint32_t events = 0;
  if (connection.state == State::kReading || connection.state == State::kStreaming ||
      connection.state == State::kLingering)
    events |= EPOLLIN | EPOLLRDHUP;
  if (connection.state == State::kBusy && !connection.has_hung_up) events |= EPOLLRDHUP;
  if (connection.out_sent < connection.out.size()) events |= EPOLLOUT;
  if (events == connection.watched) return;
  connection.watched = events;
  epoll_event event{};
  event.events = events;
  event.data.fd = connection.socket;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.socket, &event);
}

/// Of a busy connection. A client that ended only its own side can still read an answer.
void HttpFront::hung_up(HttpConnection& connection, bool both_sides) {
  connection.has_hung_up = true;
  if (both_sides)
    drop(connection);
  else
    watch(connection);
  on_hang_up_();
}

void HttpFront::read_some(HttpConnection& connection) {
  using State = HttpConnection::State;
  std::array<char, kReadBytes> buffer;
  const ssize_t count = ::recv(connection.socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return drop(connection);
  if (connection.state != State::kReading) return;  // a stream's client has nothing to say
  if (connection.in.empty() && connection.blank_bytes == 0)
    connection.deadline_ns = clock_.now_ns() + options_.read_timeout_ms * kMs;
  connection.in.append(buffer.data(), static_cast<std::size_t>(count));
  take_requests(connection);
}

/// Hands on the first request in `in`, if it is whole.
void HttpFront::take_requests(HttpConnection& connection) {
  using State = HttpConnection::State;
  std::string& in = connection.in;
  if (connection.head_bytes == 0) {
    // Empty lines before a request are passed over, as RFC 9112 asks.
    std::size_t blank = 0;
    while (in.compare(blank, 2, "\r\n") == 0) blank += 2;
    in.erase(0, blank);
    if (connection.blank_bytes += blank; connection.blank_bytes > kBlankBytesMax)
      return refuse(connection, 400, "too many empty lines come before a request");
    const std::size_t from = connection.searched > 3 ? connection.searched - 3 : 0;
    const std::size_t end = in.find("\r\n\r\n", from);
    connection.searched = in.size();
    const std::size_t head_bytes = end == std::string::npos ? in.size() : end + 4;
    if (head_bytes > options_.limits.head_bytes_max)
      return refuse(connection, 431,
                    fmt::format("the request's head has more than {} bytes", options_.limits.head_bytes_max));
    if (end == std::string::npos) return watch(connection);
    Result<RequestHead> head = parse_head(std::string_view(in).substr(0, head_bytes), options_.limits);
    if (!head) return refuse(connection, static_cast<int>(head.error().detail), head.error().message);
    connection.head = std::move(*head);
    connection.head_bytes = head_bytes;
  }
  const std::size_t whole = connection.head_bytes + connection.head.body_bytes;
  if (in.size() < whole) {
    if (connection.head.expects_continue && !std::exchange(connection.told_continue, true)) {
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      // A client whose buffer has no room for this is answered at the end.
      static_cast<void>(
          !::send(connection.socket, kContinue.data(), kContinue.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    }
    return watch(connection);
  }
  WholeRequest request;
  request.connection = connections_.at(connection.socket);
  request.head = std::move(connection.head);
  request.body = in.substr(connection.head_bytes, request.head.body_bytes);
  in.erase(0, whole);
  connection.head = {};
  connection.head_bytes = 0;
  connection.searched = 0;
  connection.told_continue = false;
  connection.blank_bytes = 0;
  connection.state = State::kBusy;
  connection.deadline_ns = kNoDeadline;
  watch(connection);
  deliver_(std::move(request));
}

void HttpFront::refuse(HttpConnection& connection, int status, std::string_view message) {
  {
    const std::lock_guard lock(mutex_);
    ++counts_.refused;
  }
  connection.state = HttpConnection::State::kWriting;
  connection.keep_alive = false;
  connection.out = raw_refusal(status, message);
  connection.out_sent = 0;
  connection.deadline_ns = clock_.now_ns() + options_.write_timeout_ms * kMs;
  write_some(connection);
}

void HttpFront::write_some(HttpConnection& connection) {
  while (connection.out_sent < connection.out.size()) {
    const ssize_t count = ::send(connection.socket, connection.out.data() + connection.out_sent,
                                 connection.out.size() - connection.out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return watch(connection);
    if (count <= 0) return drop(connection);
    connection.out_sent += static_cast<std::size_t>(count);
    connection.deadline_ns = clock_.now_ns() + options_.write_timeout_ms * kMs;
  }
  written(connection);
}

void HttpFront::written(HttpConnection& connection) {
  using State = HttpConnection::State;
  connection.out.clear();
  connection.out_sent = 0;
  connection.lost = {};
  if (connection.state == State::kLingering) return watch(connection);
  if (connection.state == State::kStreaming && !connection.finished) {
    connection.deadline_ns = kNoDeadline;  // a quiet stream is no late one
    return watch(connection);
  }
  if (connection.state == State::kStreaming || !connection.keep_alive) {
    // Closing while the client still sends would reset the connection, and the answer with it: say that no
    // more comes, and read what it sends for a moment.
    ::shutdown(connection.socket, SHUT_WR);
    connection.state = State::kLingering;
    connection.deadline_ns = clock_.now_ns() + kLingerMs * kMs;
    return watch(connection);
  }
  if (draining_ && connection.in.empty()) return drop(connection);
  connection.state = State::kReading;
  const std::uint64_t wait_ms = connection.in.empty() ? kIdleMs : options_.read_timeout_ms;
  connection.deadline_ns = clock_.now_ns() + wait_ms * kMs;
  take_requests(connection);  // one may be there already
}

void HttpFront::drop(HttpConnection& connection) {
  if (!connection.is_open.exchange(false)) return;
  connection.has_hung_up = true;
  if (const std::function<void()> lost = std::exchange(connection.lost, {})) lost();
  connection.state = HttpConnection::State::kClosed;
  const std::shared_ptr<HttpConnection> kept = connections_.at(connection.socket);
  connections_.erase(connection.socket);
  ::close(connection.socket);
  {
    const std::lock_guard lock(mutex_);
    counts_.connections = connections_.size();
  }
  changed_.notify_all();
}

void HttpFront::drop_late(std::uint64_t now_ns) {
  using State = HttpConnection::State;
  std::vector<std::shared_ptr<HttpConnection>> late;
  for (const auto& [socket, connection] : connections_)
    if (connection->deadline_ns <= now_ns) late.push_back(connection);
  for (const auto& connection : late) {
    if (connection->state != State::kLingering) {
      const std::lock_guard lock(mutex_);
      ++counts_.timed_out;
    }
    if (connection->state == State::kReading && !connection->in.empty()) {
      refuse(*connection, 408,
             fmt::format("the request did not come whole within {} ms", options_.read_timeout_ms));
    } else {
      drop(*connection);
    }
  }
}

}  // namespace loracle::service
