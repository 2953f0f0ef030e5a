#include "service/http_server.hpp"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <regex>

namespace loracle::service {
namespace {

constexpr unsigned kQuickThreads = 4;
constexpr int kBacklog = 512;  // httplib's own is 5, compiled in
constexpr std::size_t kConnectionsMax = 4096;

/// A request that is in memory already, and an answer that stays there.
class MemoryStream final : public httplib::Stream {
 public:
  MemoryStream(std::string_view head, std::string_view body) : parts_{head, body} {}
  [[nodiscard]] bool is_readable() const override { return true; }
  [[nodiscard]] bool is_writable() const override { return true; }
  ssize_t read(char* into, std::size_t size) override {
    std::string_view& part = parts_[0].empty() ? parts_[1] : parts_[0];
    const std::size_t count = std::min(size, part.size());
    std::memcpy(into, part.data(), count);
    part.remove_prefix(count);
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* bytes, std::size_t size) override {
    written_.append(bytes, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  [[nodiscard]] socket_t socket() const override { return INVALID_SOCKET; }
  [[nodiscard]] std::string take() { return std::move(written_); }

 private:
  std::string_view parts_[2];
  std::string written_;
};

/// Runs what it is given at once: handing a socket over takes no time.
class InlineQueue final : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> task) override { task(); }
  void shutdown() override {}
};

std::string pattern_of(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    if (path.front() == '{') {
      out += "([^/]+)";
      path.remove_prefix(path.find('}') + 1);
    } else {
      if (path.front() == '.') out += '\\';
      out += path.front();
      path.remove_prefix(1);
    }
  }
  return out;
}

std::size_t connections_max() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kConnectionsMax;
  return std::clamp<std::size_t>(limit.rlim_cur / 2, 16, kConnectionsMax);  // the rest is for adapters' files
}

}  // namespace

/// httplib's parser, routes and writer, without its sockets: what it accepts goes to the front.
class HttpServer::Router final : public httplib::Server {
 public:
  Router(HttpServer& server, const std::vector<HttpRoute>& routes) : server_(server) {
    new_task_queue = [] { return new InlineQueue; };
    // No idle interval: httplib then waits in accept(), which `stop` ends; between two selects it could look
    // at a socket that is gone.
    set_tcp_nodelay(true);  // accepted sockets inherit it
    set_socket_options([this](socket_t socket) {
      const int yes = 1;  // not SO_REUSEPORT: two servers on one port would share its clients unnoticed
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      listening_socket_ = socket;
    });
    for (const HttpRoute& route : routes) {
      const auto handler = [this, &route](const httplib::Request& request, httplib::Response& response) {
        answer(&route, request, response);
      };
      const std::string pattern = pattern_of(route.path);
      paths_.emplace_back(std::regex(pattern), route.method);
      if (route.method == "GET") Get(pattern, handler);
      if (route.method == "POST") Post(pattern, handler);
      if (route.method == "PUT") Put(pattern, handler);
    }
    // What no route took: the error handler sees every answer of 400 and more, and tells them apart.
    set_error_handler([this](const httplib::Request& request, httplib::Response& response) {
      if (taken_ || current_ == nullptr) return;
      answer(nullptr, request, response);
    });
  }

  /// Takes the exchange through httplib. The bytes of its answer, if it has one by now.
  std::optional<std::string> run(const std::shared_ptr<HttpExchange>& exchange, bool keep_alive) {
    current_ = &exchange;
    taken_ = false;
    answered_ = false;
    const std::string head = exchange->request_.head.text();
    MemoryStream stream(head, exchange->request_.body);
    bool closed = false;
    process_request(stream, !keep_alive, closed, nullptr);
    current_ = nullptr;
    if (!answered_) return std::nullopt;
    return stream.take();
  }

  /// "GET, PUT": what routes of this path take.
  [[nodiscard]] std::string methods_of(const std::string& path) const {
    std::string methods;
    for (const auto& [pattern, method] : paths_)
      if (std::regex_match(path, pattern))
        methods += fmt::format("{}{}", methods.empty() ? "" : ", ", method);
    return methods;
  }
  [[nodiscard]] int listening_socket() const noexcept { return listening_socket_; }

 private:
  bool process_and_close_socket(socket_t socket) override {
    server_.front_->adopt(socket);
    return true;
  }

  void answer(const HttpRoute* route, const httplib::Request& request, httplib::Response& response) {
    taken_ = true;
    const std::shared_ptr<HttpExchange>& exchange = *current_;
    if (exchange->begun_ns == 0) {
      exchange->begun_ns = server_.clock_.now_ns();
      exchange->route = route;
      exchange->method = request.method;
      exchange->path = request.path;
      exchange->body = request.body;
      for (std::size_t i = 1; i < request.matches.size(); ++i)
        exchange->path_parts.push_back(request.matches[i].str());
      for (const auto& [name, value] : request.params) exchange->query.emplace(name, value);
      server_.call_handler(exchange);
      const std::lock_guard lock(exchange->mutex_);
      if (exchange->state_ == HttpExchange::State::kOpen) {
        exchange->state_ = HttpExchange::State::kLeftOpen;
        return;
      }
      if (exchange->state_ != HttpExchange::State::kAnswered) return;
    }
    answered_ = true;
    const HttpReply& reply = exchange->answer_;
    response.status = reply.status;
    response.body = reply.body;
    response.headers.clear();
    if (!reply.body.empty()) response.set_header("Content-Type", reply.type);
    for (const auto& [name, value] : reply.headers) response.set_header(name, value);
    response.set_header("X-Request-Id", exchange->request_id);
  }

  HttpServer& server_;
  std::vector<std::pair<std::regex, std::string_view>> paths_;
  int listening_socket_ = -1;
  // One request is in httplib at a time on each thread, and its callbacks know only httplib's types.
  static thread_local const std::shared_ptr<HttpExchange>* current_;
  static thread_local bool taken_;
  static thread_local bool answered_;
};

thread_local const std::shared_ptr<HttpExchange>* HttpServer::Router::current_ = nullptr;
thread_local bool HttpServer::Router::taken_ = false;
thread_local bool HttpServer::Router::answered_ = false;

std::string_view HttpExchange::header(std::string_view name) const noexcept {
  for (const auto& [key, value] : request_.head.headers)
    if (key == name) return value;
  return {};
}

void HttpExchange::reply(HttpReply answer) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kOpen && state_ != State::kLeftOpen) return;
    answer_ = std::move(answer);
    if (std::exchange(state_, State::kAnswered) == State::kOpen) return;  // whoever called the handler writes
  }
  // Who answers late is somebody's callback, with work of its own.
  server_->quick_->submit_always([self = shared_from_this()] { self->server_->write_answer(self); });
}

void HttpExchange::reply_with_stream(std::string first_bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kOpen && state_ != State::kLeftOpen) return;
    state_ = State::kDone;
  }
  server_->front_->stream(request_.connection, std::move(first_bytes));
  if (server_->hooks_.done) server_->hooks_.done(*this, 200, 0);
}

HttpServer::HttpServer(HttpHooks hooks, TimeSource& clock) : hooks_(std::move(hooks)), clock_(clock) {}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerConfig& config,
                                                      const std::vector<HttpRoute>& routes, HttpHooks hooks,
                                                      TimeSource& clock,
                                                      const std::function<void(HttpServer&)>& made) {
  auto server = std::unique_ptr<HttpServer>(new HttpServer(std::move(hooks), clock));
  server->router_ = std::make_unique<Router>(*server, routes);
  FrontOptions options;
  options.limits.head_bytes_max = config.header_bytes_max;
  options.limits.body_bytes_max = config.body_bytes_max;
  options.read_timeout_ms = config.read_timeout_ms;
  options.write_timeout_ms = config.write_timeout_ms;
  options.connections_max = connections_max();
  Result<std::unique_ptr<HttpFront>> front = HttpFront::make(
      options, clock, [raw = server.get()](WholeRequest request) { raw->deliver(std::move(request)); });
  if (!front) return fail(std::move(front.error()));
  server->front_ = std::move(*front);
  server->quick_ = std::make_unique<WorkPool>(kQuickThreads, config.queue_max);
  server->waiting_ = std::make_unique<WorkPool>(config.threads, config.queue_max);
  int port = config.port;
  errno = 0;
  if (port == 0) {
    port = server->router_->bind_to_any_port(config.host);
  } else if (!server->router_->bind_to_port(config.host, port)) {
    port = -1;
  }
  if (port < 0) {
    const int error = errno;
    return fail(
        Errc::kIo,
        fmt::format("cannot listen on {} port {}: {}; give an address of this machine as --host and a "
                    "port nobody has as --port",
                    config.host, config.port, error == 0 ? "no such host" : std::strerror(error)),
        error);
  }
  ::listen(server->router_->listening_socket(), kBacklog);
  server->port_ = static_cast<std::uint16_t>(port);
  made(*server);
  server->listening_ = true;
  server->listener_ = std::thread([raw = server.get()] {
    raw->router_->listen_after_bind();
    raw->listener_ended_ = true;
  });
  // Until it runs, `stop` would be lost.
  while (!server->router_->is_running() && !server->listener_ended_) std::this_thread::yield();
  return server;
}

HttpServer::~HttpServer() { end(); }

void HttpServer::end() {
  stop_listening();
  // The objects stay until all threads have ended: each may still want to hand something to another.
  if (waiting_) waiting_->end();
  if (quick_) quick_->end();
  if (front_) front_->end();
}

void HttpServer::stop_listening() {
  if (!listening_.exchange(false)) return;
  router_->stop();
  listener_.join();
  front_->begin_drain();
}

void HttpServer::deliver(WholeRequest request) {
  auto exchange = std::make_shared<HttpExchange>();
  exchange->server_ = this;
  exchange->request_ = std::move(request);
  const std::shared_ptr<HttpConnection> connection = exchange->request_.connection;
  if (quick_->submit([this, exchange] { serve(exchange); })) return;
  ++queue_refusals_;
  front_->answer(connection, raw_refusal(503, "too many requests wait already: try again soon"), false);
}

void HttpServer::serve(const std::shared_ptr<HttpExchange>& exchange) {
  const bool keep_alive = exchange->request_.head.keep_alive && listening_;  // the last answer says so
  std::optional<std::string> bytes = router_->run(exchange, keep_alive);
  if (!bytes && exchange->begun_ns == 0) {  // httplib understood less of it than we did
    front_->answer(exchange->request_.connection, raw_refusal(400, "the request was not understood"), false);
    return;
  }
  if (!bytes) return;
  if (hooks_.done) hooks_.done(*exchange, exchange->answer_.status, exchange->answer_.body.size());
  front_->answer(exchange->request_.connection, std::move(*bytes), keep_alive);
}

void HttpServer::write_answer(const std::shared_ptr<HttpExchange>& exchange) { serve(exchange); }

void HttpServer::call_handler(const std::shared_ptr<HttpExchange>& exchange) {
  HttpReply refusal;
  if (hooks_.admit && !hooks_.admit(*exchange, refusal)) return exchange->reply(std::move(refusal));
  const HttpRoute* const route = exchange->route;
  if (route == nullptr) {
    const std::string allowed = router_->methods_of(exchange->path);
    if (allowed.empty()) return exchange->reply(error_reply(404, "Not Found", "Not Found"));
    HttpReply reply = error_reply(405, "Method Not Allowed", "Method Not Allowed");
    reply.headers.emplace_back("Allow", allowed);
    return exchange->reply(std::move(reply));
  }
  if (!route->may_wait) return route->handler(exchange);
  if (!waiting_->submit([route, exchange] { route->handler(exchange); }))
    exchange->reply(busy_reply("too many requests wait already: try again soon"));
}

HttpReply error_reply(int status, std::string_view type, std::string_view message) {
  HttpReply reply;
  reply.status = status;
  reply.body = error_body(status, type, message);
  return reply;
}

HttpReply busy_reply(std::string_view message) {
  HttpReply reply = error_reply(503, "ServiceUnavailableError", message);
  reply.headers.emplace_back("Retry-After", "1");
  return reply;
}

int status_of(const Error& error) noexcept {
  switch (error.code) {
    case Errc::kInvalid:
      return 400;
    case Errc::kNotFound:
      return 404;
    case Errc::kAllPinned:
      return 409;
    case Errc::kTooLarge:
      return 413;
    case Errc::kCorrupt:
    case Errc::kUnsupported:
      return 422;
    case Errc::kBusy:
    case Errc::kCancelled:
      return 503;
    case Errc::kDeadline:
      return 504;
    case Errc::kIo:
      break;
  }
  // An origin's HTTP status: what is behind us failed, not we.
  return error.detail >= 400 && error.detail < 600 ? 502 : 500;
}

HttpReply error_reply(const Error& error) {
  const int status = status_of(error);
  if (status == 503) return busy_reply(error.message);
  std::string_view type = "InternalServerError";
  if (status == 400) type = "InvalidUserInput";
  if (status == 404) type = "NotFoundError";
  if (status == 409) type = "ConflictError";
  if (status == 413) type = "ContentTooLargeError";
  if (status == 422) type = "UnprocessableEntityError";
  if (status == 502) type = "BadGatewayError";
  if (status == 504) type = "GatewayTimeoutError";
  return error_reply(status, type, error.message);
}

}  // namespace loracle::service
