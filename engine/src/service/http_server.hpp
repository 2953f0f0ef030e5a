#pragma once
/// Requests to routes and answers back. The front reads whole requests and writes the answers; a handler may
/// answer later, from any thread.
///
/// A route that may wait for storage or for other requests has its own threads (`may_wait`): what is quick,
/// and above all what ends a lease, is never behind what waits. What is instant changes no thread at all: on
/// a machine whose cores are busy each change costs more than the answer.
/// cpp-httplib is not under it: that gives each connection a thread for as long as it lives, so that a few
/// slow clients, listeners to events or waiting leases would shut out all others. It is the peer of the
/// benchmark.
/// Threads: handlers run on the server's threads, several at once.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/service/config.hpp"
#include "service/http_front.hpp"
#include "service/http_routes.hpp"
#include "service/work_pool.hpp"

namespace loracle::service {

struct HttpReply {
  int status = 200;
  std::string body;
  std::string type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
  /// Called if the client is known not to have got the answer: undoes what only the client could have ended.
  std::function<void()> lost = {};
  /// Instead of `body`, where several answers have the same.
  std::shared_ptr<const std::string> shared_body = {};
};

class HttpServer;
struct HttpRoute;

/// One request, until it is answered.
class HttpExchange : public std::enable_shared_from_this<HttpExchange> {
 public:
  // What was asked; set before a handler sees it, and constant from then on.
  std::string method;
  std::string path;                               // decoded
  std::vector<std::string> path_parts;            // what stood for {..} of the route's path
  std::multimap<std::string, std::string> query;  // decoded
  std::string body;
  std::string request_id;
  const HttpRoute* route = nullptr;  // null: none was found
  std::string allowed_methods;       // then, of a path that is known: "GET, PUT"
  std::shared_ptr<void> work;        // goes with the exchange
  std::uint64_t begun_ns = 0;

  /// Of a header, by its name in lower case; empty if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const noexcept;
  /// Exactly once, from any thread. Further answers are not sent.
  void reply(HttpReply answer);
  /// Instead of `reply`: server-sent events from now on, by HttpServer::push.
  void reply_with_stream(std::string first_bytes);
  /// As it was sent: printable ASCII.
  [[nodiscard]] const std::string& target() const noexcept { return request_.head.target; }
  [[nodiscard]] const std::shared_ptr<HttpConnection>& connection() const noexcept {
    return request_.connection;
  }

 private:
  friend class HttpServer;
  enum class State : std::uint8_t { kOpen, kAnswered, kLeftOpen, kDone };

  HttpServer* server_ = nullptr;
  WholeRequest request_;
  std::mutex mutex_;
  State state_ = State::kOpen;
  HttpReply answer_;
};

using HttpHandler = std::function<void(const std::shared_ptr<HttpExchange>&)>;

/// A JSON answer of a route, for its description.
struct HttpAnswerDoc {
  int status = 200;
  std::string_view schema;  // a name of openapi.cpp; "text" for plain text
  std::string_view what;
};

/// A field of the query, for the description.
struct HttpQueryDoc {
  std::string_view name;
  std::string_view what;
  std::string_view schema;  // JSON
  bool is_required = false;
};

struct HttpRoute {
  std::string_view method;
  std::string_view path;  // "/v1/adapters/{name}/pin"
  HttpHandler handler;
  bool may_wait = false;
  std::string_view summary = {};
  std::string_view body = {};  // a schema's name; empty: none is read
  std::vector<HttpAnswerDoc> answers = {};
  std::vector<HttpQueryDoc> query = {};
  bool ends_work = false;   // let in while the service drains, as GET is
  bool is_instant = false;  // waits for nothing but a short lock: answered on the front's own thread
};

/// What the server does not know itself. Called on its threads.
struct HttpHooks {
  /// Before a handler; an answer of its own ends the request.
  std::function<bool(HttpExchange& exchange, HttpReply& refusal)> admit;
  /// After each answer, `status` of it.
  std::function<void(const HttpExchange& exchange, int status, std::size_t bytes)> done;
  /// A client has gone whose request was worked on.
  std::function<void()> hung_up = {};
};

class HttpServer {
 public:
  /// Listens; requests are served from now on. `routes` and what they hold outlive the server. `made` is told
  /// of the server before the first request is.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> start(
      const HttpServerConfig& config, const std::vector<HttpRoute>& routes, HttpHooks hooks,
      TimeSource& clock, const std::function<void(HttpServer&)>& made);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();
  /// Stops listening and ends all threads. Answers given from then on reach nobody.
  void end();

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  /// New connections are refused from now on; connections end after their answer.
  void stop_listening();
  /// True when every connection has ended.
  [[nodiscard]] bool wait_empty(std::uint32_t timeout_ms) { return front_->wait_empty(timeout_ms); }

  /// Runs what may block for a while, a line of the log say, on a thread that is not the front's.
  void run_soon(std::function<void()> task) { quick_->submit_always(std::move(task)); }
  /// Runs a task of a request on the threads that may wait; false at the queue's limit.
  [[nodiscard]] bool run_waiting(std::function<void()> task) { return waiting_->submit(std::move(task)); }
  bool push(const std::shared_ptr<HttpConnection>& connection, std::string bytes) {
    return front_->push(connection, std::move(bytes));
  }
  void finish(const std::shared_ptr<HttpConnection>& connection) { front_->finish(connection); }
  [[nodiscard]] FrontCounts counts() const { return front_->counts(); }
  [[nodiscard]] std::size_t queued() const { return quick_->waiting() + waiting_->waiting(); }
  [[nodiscard]] std::uint64_t queue_refusals() const noexcept { return queue_refusals_; }

 private:
  friend class HttpExchange;
  HttpServer(const std::vector<HttpRoute>& routes, HttpHooks hooks, TimeSource& clock);
  void deliver(WholeRequest request);
  void serve(const std::shared_ptr<HttpExchange>& exchange);
  void call_handler(const std::shared_ptr<HttpExchange>& exchange);
  void write_answer(HttpExchange& exchange);

  HttpRoutes routes_;
  HttpHooks hooks_;
  TimeSource& clock_;
  std::uint16_t port_ = 0;
  std::atomic<std::uint64_t> queue_refusals_ = 0;
  std::unique_ptr<HttpFront> front_;
  std::unique_ptr<WorkPool> quick_;
  std::unique_ptr<WorkPool> waiting_;
  std::atomic<bool> listening_ = false;
};

/// "Please try again": 503 with Retry-After.
[[nodiscard]] HttpReply busy_reply(std::string_view message);
[[nodiscard]] HttpReply error_reply(int status, std::string_view type, std::string_view message);
/// An error of the engine as an answer of our own routes.
[[nodiscard]] HttpReply error_reply(const Error& error);
[[nodiscard]] int status_of(const Error& error) noexcept;

}  // namespace loracle::service
