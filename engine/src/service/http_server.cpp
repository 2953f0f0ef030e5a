#include "service/http_server.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "service/http_listener.hpp"

namespace loracle::service {
namespace {

constexpr unsigned kQuickThreads = 4;
/// What loads adapters may take a third of a core that others want too: with as much as they, each quick
/// answer would wait for its turn among the loads.
constexpr int kWaitingNiceness = 5;
constexpr std::size_t kConnectionsMax = 4096;

std::size_t connections_max() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kConnectionsMax;
  return std::clamp<std::size_t>(limit.rlim_cur / 2, 16, kConnectionsMax);  // the rest is for adapters' files
}

}  // namespace

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
  server_->quick_->submit_always([self = shared_from_this()] { self->server_->write_answer(*self); });
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

HttpServer::HttpServer(const std::vector<HttpRoute>& routes, HttpHooks hooks, TimeSource& clock)
    : routes_(routes), hooks_(std::move(hooks)), clock_(clock) {}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerConfig& config,
                                                      const std::vector<HttpRoute>& routes, HttpHooks hooks,
                                                      TimeSource& clock,
                                                      const std::function<void(HttpServer&)>& made) {
  const Result<HttpListener> listener = listen_on(config.host, config.port);
  if (!listener) return fail(listener.error());
  auto server = std::unique_ptr<HttpServer>(new HttpServer(routes, std::move(hooks), clock));
  FrontOptions options;
  options.limits.head_bytes_max = config.header_bytes_max;
  options.limits.body_bytes_max = config.body_bytes_max;
  options.read_timeout_ms = config.read_timeout_ms;
  options.write_timeout_ms = config.write_timeout_ms;
  options.connections_max = connections_max();
  Result<std::unique_ptr<HttpFront>> front = HttpFront::make(
      options, clock, [raw = server.get()](WholeRequest request) { raw->deliver(std::move(request)); },
      [raw = server.get()] {
        if (raw->hooks_.hung_up) raw->quick_->submit_always(raw->hooks_.hung_up);
      });
  if (!front) {
    ::close(listener->socket);
    return fail(std::move(front.error()));
  }
  server->front_ = std::move(*front);
  server->quick_ = std::make_unique<WorkPool>(kQuickThreads, config.queue_max);
  server->waiting_ = std::make_unique<WorkPool>(config.threads, config.queue_max, kWaitingNiceness);
  server->port_ = listener->port;
  made(*server);
  server->listening_ = true;
  server->front_->listen(listener->socket);
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
  if (listening_.exchange(false)) front_->begin_drain();
}

void HttpServer::deliver(WholeRequest request) {
  auto exchange = std::make_shared<HttpExchange>();
  HttpTarget target = parse_target(request.head.target);
  FoundRoute found = routes_.find(request.head.method, target);
  exchange->server_ = this;
  exchange->method = request.head.method;
  exchange->path = std::move(target.path);
  exchange->query = std::move(target.query);
  exchange->path_parts = std::move(found.path_parts);
  exchange->body = std::move(request.body);
  exchange->route = found.route;
  exchange->allowed_methods = std::move(found.allowed);
  exchange->request_ = std::move(request);
  if (found.route != nullptr && found.route->is_instant) return serve(exchange);
  const std::shared_ptr<HttpConnection> connection = exchange->request_.connection;
  if (quick_->submit([this, exchange] { serve(exchange); })) return;
  ++queue_refusals_;
  front_->answer(connection, raw_refusal(503, "too many requests wait already: try again soon"), false);
}

void HttpServer::serve(const std::shared_ptr<HttpExchange>& exchange) {
  exchange->begun_ns = clock_.now_ns();
  call_handler(exchange);
  {
    const std::lock_guard lock(exchange->mutex_);
    if (exchange->state_ == HttpExchange::State::kOpen) {
      exchange->state_ = HttpExchange::State::kLeftOpen;
      return;
    }
    if (exchange->state_ != HttpExchange::State::kAnswered) return;
  }
  write_answer(*exchange);
}

void HttpServer::write_answer(HttpExchange& exchange) {
  HttpReply& reply = exchange.answer_;
  const std::string& body = reply.shared_body ? *reply.shared_body : reply.body;
  const bool keep_alive = exchange.request_.head.keep_alive && listening_;  // the last answer says so
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", reply.status, reason_of(reply.status));
  if (!body.empty()) text += fmt::format("Content-Type: {}\r\n", reply.type);
  for (const auto& [name, value] : reply.headers) text += fmt::format("{}: {}\r\n", name, value);
  text += fmt::format("Content-Length: {}\r\nX-Request-Id: {}\r\nConnection: {}\r\n\r\n", body.size(),
                      exchange.request_id, keep_alive ? "keep-alive" : "close");
  if (exchange.method != "HEAD") text += body;
  if (hooks_.done) hooks_.done(exchange, reply.status, body.size());
  std::function<void()> lost;
  if (reply.lost)  // not on the front's thread, which must not wait
    lost = [this, undo = std::move(reply.lost)] { quick_->submit_always(undo); };
  front_->answer(exchange.request_.connection, std::move(text), keep_alive, std::move(lost));
}

void HttpServer::call_handler(const std::shared_ptr<HttpExchange>& exchange) {
  HttpReply refusal;
  if (hooks_.admit && !hooks_.admit(*exchange, refusal)) return exchange->reply(std::move(refusal));
  const HttpRoute* const route = exchange->route;
  if (route == nullptr) {
    if (exchange->allowed_methods.empty()) return exchange->reply(error_reply(404, "Not Found", "Not Found"));
    HttpReply reply = error_reply(405, "Method Not Allowed", "Method Not Allowed");
    reply.headers.emplace_back("Allow", exchange->allowed_methods);
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
  return error.detail >= 300 && error.detail < 600 ? 502 : 500;
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
