#include "storage/loopback_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstring>

#include "loracle/core/rng.hpp"

namespace loracle::testing {
namespace {

constexpr int kListenBacklog = 64;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// The lines of a header as pairs; the first line is left out.
std::vector<std::pair<std::string, std::string>> parse_headers(const std::string& head) {
  std::vector<std::pair<std::string, std::string>> headers;
  std::size_t at = head.find("\r\n");
  while (at != std::string::npos && at + 2 < head.size()) {
    const std::size_t end = head.find("\r\n", at + 2);
    const std::string line = head.substr(at + 2, end == std::string::npos ? end : end - at - 2);
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos) {
      std::size_t value = colon + 1;
      while (value < line.size() && line[value] == ' ') ++value;
      headers.emplace_back(lower(line.substr(0, colon)), line.substr(value));
    }
    at = end;
  }
  return headers;
}

/// A request from the connection; what is left over stays in `buffer`. nullopt: it is closed.
std::optional<Received> read_request(int fd, std::string& buffer) {
  const auto more = [&] {
    std::array<char, 16'384> chunk{};
    const ssize_t got = ::recv(fd, chunk.data(), chunk.size(), 0);
    if (got > 0) buffer.append(chunk.data(), static_cast<std::size_t>(got));
    return got > 0;
  };
  std::size_t end = 0;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos)
    if (!more()) return std::nullopt;
  const std::string head = buffer.substr(0, end);
  buffer.erase(0, end + 4);
  Received request;
  const std::size_t blank = head.find(' ');
  const std::size_t second = head.find(' ', blank + 1);
  request.method = head.substr(0, blank);
  request.target = head.substr(blank + 1, second - blank - 1);
  for (auto& [name, value] : parse_headers(head)) request.headers[name] = value;
  const std::string length = request.header("content-length");
  const std::size_t bytes = length.empty() ? 0 : std::stoul(length);
  while (buffer.size() < bytes)
    if (!more()) return std::nullopt;
  request.body = buffer.substr(0, bytes);
  buffer.erase(0, bytes);
  return request;
}

void reset_on_close(int fd) {
  const linger hard{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

}  // namespace

LoopbackServer::LoopbackServer(Script script) : script_(std::move(script)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      ::listen(listener_, kListenBacklog) == 0 &&
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

LoopbackServer::~LoopbackServer() {
  stopping_ = true;
  acceptor_.join();
  ::close(listener_);
  {
    const std::lock_guard lock(mutex_);
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
}

void LoopbackServer::accept_all() {
  while (!stopping_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ++connections_;
    const std::lock_guard lock(mutex_);
    open_.push_back(fd);
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

void LoopbackServer::serve(int fd) {
  std::string buffer;
  while (!stopping_) {
    std::optional<Received> request = read_request(fd, buffer);
    if (!request) break;
    const std::size_t now = ++at_once_;
    std::size_t most = at_once_max_;
    while (now > most && !at_once_max_.compare_exchange_weak(most, now)) {
    }
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(*request);
    }
    const bool more = answer(fd, *request, script_(*request));
    --at_once_;
    if (!more) break;
  }
  const std::lock_guard lock(mutex_);
  open_.erase(std::find(open_.begin(), open_.end(), fd));
  ::close(fd);
}

bool LoopbackServer::answer(int fd, const Received& request, const Reply& reply) {
  pause(reply.delay_ms);
  if (reply.reset && !reply.cut_at) {
    reset_on_close(fd);
    return false;
  }
  if (!reply.raw.empty()) {
    send_all(fd, reply.raw);
    return false;
  }
  std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Scripted\r\n";
  bool named = false;
  for (const auto& [name, value] : reply.headers) {
    named = named || lower(name) == "content-length";
    head += name + ": " + value + "\r\n";
  }
  if (reply.length && !named) head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
  if (!reply.length) head += "Connection: close\r\n";
  head += "\r\n";
  if (!send_all(fd, head)) return false;
  if (request.method == "HEAD") return request.header("connection") != "close";
  const std::string_view body =
      std::string_view(reply.body).substr(0, reply.cut_at.value_or(reply.body.size()));
  if (reply.drip_ms > 0) {
    for (const char& byte : body) {
      if (stopping_ || !send_all(fd, std::string_view(&byte, 1))) return false;
      pause(reply.drip_ms);
    }
  } else if (!send_all(fd, body)) {
    return false;
  }
  if (!reply.cut_at) return reply.length && request.header("connection") != "close";
  pause(reply.hang_ms);
  if (reply.reset) reset_on_close(fd);
  return false;
}

void LoopbackServer::pause(std::uint32_t ms) const {
  for (std::uint32_t waited = 0; waited < ms && !stopping_; waited += 5)
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min(5U, ms - waited)));
}

std::vector<Received> LoopbackServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> asked_range(const Received& request) {
  const std::string range = request.header("range");
  if (!range.starts_with("bytes=")) return std::nullopt;
  const std::size_t dash = range.find('-');
  return std::pair{std::stoull(range.substr(6, dash - 6)), std::stoull(range.substr(dash + 1))};
}

Reply serve_object(const Received& request, const std::string& body, const std::string& etag) {
  Reply reply;
  reply.headers = {{"ETag", etag}, {"Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT"}};
  if (const std::string match = request.header("if-match"); !match.empty() && match != etag) {
    reply.status = 412;
    return reply;
  }
  reply.body = body;
  if (const auto range = asked_range(request)) {
    if (range->first >= body.size()) {
      reply.status = 416;
      reply.body.clear();
      return reply;
    }
    const std::uint64_t last = std::min<std::uint64_t>(range->second, body.size() - 1);
    reply.status = 206;
    reply.body = body.substr(range->first, last - range->first + 1);
    reply.headers.emplace_back("Content-Range", "bytes " + std::to_string(range->first) + "-" +
                                                    std::to_string(last) + "/" + std::to_string(body.size()));
  }
  return reply;
}

std::string noise(std::size_t bytes, std::uint64_t seed) {
  std::string text(bytes, '\0');
  Rng rng(seed);
  for (std::size_t at = 0; at < bytes; at += 8) {
    const std::uint64_t word = rng.next();
    std::memcpy(text.data() + at, &word, std::min<std::size_t>(8, bytes - at));
  }
  return text;
}

FaultProxy::FaultProxy(std::uint16_t upstream, std::uint64_t seed, std::uint32_t faults_of_8)
    : upstream_(upstream), faults_of_8_(faults_of_8), seed_(seed) {
  server_ = std::make_unique<LoopbackServer>([this](const Received& request) { return pass(request); });
}

Reply FaultProxy::pass(const Received& request) {
  std::uint64_t dice = 0;
  {
    const std::lock_guard lock(mutex_);
    dice = splitmix64(seed_);
  }
  const bool fault = dice % 8 < faults_of_8_;
  const std::uint64_t kind = (dice >> 8U) % 4;
  if (fault) ++faults_;
  if (fault && kind == 0) {
    return {
        503, {}, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"};
  }
  Reply reply;
  if (fault && kind == 1) {
    reply.reset = true;
    return reply;
  }
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(upstream_);
  const timeval patience{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    reply.reset = true;  // as a client of the real one would see it
    return reply;
  }
  std::string text = request.method + " " + request.target + " HTTP/1.1\r\nConnection: close\r\n";
  for (const auto& [name, value] : request.headers)
    if (name != "connection") text += name + ": " + value + "\r\n";
  send_all(fd, text + "\r\n" + request.body);
  std::string answer;
  std::vector<char> chunk(1U << 18U);
  for (ssize_t got = 0; (got = ::recv(fd, chunk.data(), chunk.size(), 0)) > 0;)
    answer.append(chunk.data(), static_cast<std::size_t>(got));
  ::close(fd);
  const std::size_t end = answer.find("\r\n\r\n");
  if (end == std::string::npos) {
    reply.reset = true;
    return reply;
  }
  const std::string head = answer.substr(0, end);
  reply.status = std::stoi(head.substr(head.find(' ') + 1, 3));
  bool chunked = false;
  std::optional<std::size_t> length;
  for (auto& [name, value] : parse_headers(head)) {
    if (name == "connection") continue;
    if (name == "transfer-encoding") {
      chunked = true;
      continue;
    }
    if (name == "content-length") length = std::stoul(value);
    if (name == "etag" && change_etag) value = "\"another\"";
    reply.headers.emplace_back(name, value);
  }
  std::string rest = answer.substr(end + 4);
  if (chunked) {
    while (!rest.empty()) {
      const std::size_t size = std::stoul(rest, nullptr, 16);
      rest.erase(0, rest.find("\r\n") + 2);
      reply.body += rest.substr(0, size);
      rest.erase(0, size + 2);
      if (size == 0) break;
    }
  } else {
    reply.body = std::move(rest);
  }
  // What the real one cut stays cut.
  if (length && reply.body.size() < *length && request.method != "HEAD") reply.cut_at = reply.body.size();
  if (fault && kind == 2) {
    reply.cut_at = reply.body.empty() ? 0 : (dice >> 16U) % reply.body.size();
    reply.reset = (dice & 0x8000U) != 0;
  }
  if (fault && kind == 3) reply.delay_ms = static_cast<std::uint32_t>((dice >> 16U) % 50);
  return reply;
}

}  // namespace loracle::testing
