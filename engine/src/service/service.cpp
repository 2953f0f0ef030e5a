/// The service put together: routes, connections, leases, events, recording.

#include "loracle/service/service.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "loracle/service/discovery_loop.hpp"
#include "service/api.hpp"
#include "service/settings_table.hpp"

namespace loracle {
namespace {

using service::Api;
using service::HttpExchange;
using service::HttpReply;
using service::LogLevel;

constexpr std::size_t kLeasesMax = 65'536;
constexpr std::uint32_t kLastAnswersMs = 2'000;
constexpr std::uint32_t kDrainStepMs = 10;

bool is_request_id(std::string_view text) noexcept {
  if (text.empty() || text.size() > 128) return false;
  for (const char c : text) {
    const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          c == '-' || c == '_' || c == '.';
    if (!is_plain) return false;
  }
  return true;
}

bool only_looks(const HttpExchange& exchange) noexcept {
  return exchange.method == "GET" || exchange.method == "HEAD";
}

/// True for a page from elsewhere in somebody's browser, which may send simple requests to any address. Where
/// keys are asked for, such a page has none.
bool is_from_another_page(const Api& api, const HttpExchange& exchange) {
  if (only_looks(exchange) || api.keys.are_asked_for()) return false;
  const std::string_view origin = exchange.header("origin");
  const std::size_t authority = origin.find("://");
  return !origin.empty() &&
         (authority == std::string_view::npos || origin.substr(authority + 3) != exchange.header("host"));
}

/// What every request goes through: a request id, an API key.
bool admit(Api& api, HttpExchange& exchange, HttpReply& refusal) {
  const std::string_view given = exchange.header("x-request-id");
  exchange.request_id = is_request_id(given) ? std::string(given) : service::random_hex(8);
  if (exchange.path.starts_with("/v1") && !api.keys.allow(exchange.header("authorization"))) {
    refusal.status = 401;
    refusal.body = R"({"error":"Unauthorized"})";  // vLLM's
    refusal.headers.emplace_back("WWW-Authenticate", "Bearer");
    return false;
  }
  const bool is_new_work = exchange.route != nullptr && !exchange.route->ends_work && !only_looks(exchange);
  if (is_new_work) exchange.work = api.begin_work();  // before the look: drain() waits for what is counted
  if (api.draining && is_new_work) {
    refusal = service::busy_reply("the service is shutting down: ask another one");
    return false;
  }
  if (is_from_another_page(api, exchange)) {
    refusal =
        service::error_reply(403, "ForbiddenError",
                             "a page of another origin may not change this service: set API keys to allow "
                             "those who have one");
    return false;
  }
  return true;
}

void note_answer(Api& api, const HttpExchange& exchange, int status, std::size_t bytes) {
  const std::uint64_t took_ns = api.clock.now_ns() - exchange.begun_ns;
  const std::string_view route = exchange.route == nullptr ? "none" : exchange.route->path;
  api.metrics.count_http(exchange.method, route, status, took_ns);
  // Probes and scrapes come every few seconds, and say nothing.
  const bool is_probe = exchange.route != nullptr && !exchange.route->path.starts_with("/v1/");
  const LogLevel level = is_probe && status < 400 ? LogLevel::kDebug : LogLevel::kInfo;
  if (!api.log->wants(level)) return;
  const auto write = [&api, level, status, bytes, took_ns, id = exchange.request_id, method = exchange.method,
                      target = exchange.target()] {
    api.log->write(level, "http",
                   {{"id", id},
                    {"method", method},
                    {"target", target},
                    {"status", static_cast<std::uint64_t>(status)},
                    {"bytes", static_cast<std::uint64_t>(bytes)},
                    {"seconds", static_cast<double>(took_ns) / 1e9}});
  };
  // The front's thread must not wait for whoever reads the log.
  if (exchange.route != nullptr && exchange.route->is_instant)
    api.server.load()->run_soon(write);
  else
    write();
}

/// A lease has ended: tell it, and record the request.
void note_end(Api& api, const std::string& id, const service::LeaseRecord& record, service::LeaseEnd how) {
  const bool expired = how == service::LeaseEnd::kExpired;
  const nlohmann::ordered_json event = {{"lease", id.substr(0, 8)}, {"names", record.names}};
  api.events.publish(expired ? "expired" : "released",
                     event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  if (expired)
    api.log->write(LogLevel::kWarning, "lease expired",
                   {{"lease", std::string_view(id).substr(0, 8)}, {"adapter", record.names.front()}});
  if (!api.capture) return;
  service::CapturedRequest request;
  request.adapters = record.adapters;
  request.tenant = record.tenant;
  request.arrived_ns = record.arrived_ns;
  request.held_ns = api.clock.now_ns() - record.granted_ns;
  api.capture->add(request);
}

Result<Unit> check_config(const ServiceConfig& config, const ServiceParts& parts) {
  if (parts.engine == nullptr || parts.clock == nullptr)
    return fail(Errc::kInvalid, "service: engine and clock must be given");
  const HttpServerConfig& http = config.http;
  const std::pair<std::string_view, std::uint32_t> positive[] = {
      {"http.threads", http.threads},
      {"http.queue_max", http.queue_max},
      {"http.body_bytes_max", http.body_bytes_max},
      {"http.header_bytes_max", http.header_bytes_max},
      {"http.read_timeout_ms", http.read_timeout_ms},
      {"http.write_timeout_ms", http.write_timeout_ms},
      {"http.request_timeout_ms", http.request_timeout_ms}};
  for (const auto& [name, value] : positive)
    if (value == 0) return fail(Errc::kInvalid, fmt::format("{} 0: give 1 or more", name));
  for (const std::string& key : http.api_keys)
    if (key.empty()) return fail(Errc::kInvalid, "http.api_keys: an empty key would let everybody in");
  return Unit{};
}

}  // namespace

struct Service::Parts {
  explicit Parts(std::unique_ptr<Api> shared) : api(std::move(shared)) {}

  // Destroyed in reverse: the server's threads end before what their handlers use.
  std::unique_ptr<Api> api;
  std::unique_ptr<service::HttpServer> server;
  std::uint32_t drain_timeout_ms = 0;
  std::mutex draining;
  bool drained = false;
  std::atomic<bool> hurried = false;  // nobody waits any longer
  std::mutex noting;
  std::set<std::string> told;  // what the last round of discovery had to complain of
  bool has_seen_prefix = false;
};

Service::Service(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Service::~Service() {
  hurry();
  static_cast<void>(drain());
}

std::uint16_t Service::port() const noexcept { return parts_->server->port(); }

Result<std::unique_ptr<Service>> Service::start(const ServiceConfig& config, const ServiceParts& given) {
  try {
    return begin(config, given);
  } catch (const std::system_error& error) {  // what std::thread throws
    return fail(Errc::kIo,
                fmt::format("a thread cannot be started: {}: see ulimit -u, and http.threads", error.what()),
                error.code().value());
  }
}

Result<std::unique_ptr<Service>> Service::begin(const ServiceConfig& config, const ServiceParts& given) {
  if (Result<Unit> ok = check_config(config, given); !ok) return fail(std::move(ok.error()));
  Result<std::unique_ptr<service::Log>> log = service::Log::open(config.log);
  if (!log) return fail(std::move(log.error()));
  auto parts = std::make_unique<Parts>(std::make_unique<Api>(config, given, std::move(*log)));
  Api& api = *parts->api;
  parts->drain_timeout_ms = config.http.drain_timeout_ms;
  api.keys.set(config.http.api_keys);
  api.config.http.api_keys.clear();  // digests are enough
  api.left_out.set(api.engine.rejected());
  for (const LoraModuleSetting& module : config.lora_modules)
    api.base_models.set(module.name, module.base_model);
  if (!config.capture.path.empty()) {
    Result<std::unique_ptr<service::Capture>> capture =
        service::Capture::open(config.capture, api.clock.now_ns(), [&api](const Error& error) {
          api.log->write(LogLevel::kError, "requests are not recorded", {{"error", error.message}});
        });
    if (!capture) return fail(std::move(capture.error()));
    api.capture = std::move(*capture);
  }
  api.leases =
      std::make_unique<service::LeaseBook>(api.clock, kLeasesMax,
                                           [&api](const std::string& id, const service::LeaseRecord& record,
                                                  service::LeaseEnd how) { note_end(api, id, record, how); });
  service::add_vllm_routes(api, api.routes);
  service::add_adapter_routes(api, api.routes);
  service::add_lease_routes(api, api.routes);
  service::add_operator_routes(api, api.routes);
  api.openapi = service::openapi_of(api.routes, api.config);

  service::HttpHooks hooks;
  hooks.admit = [&api](HttpExchange& exchange, HttpReply& refusal) { return admit(api, exchange, refusal); };
  hooks.done = [&api](const HttpExchange& exchange, int status, std::size_t bytes) {
    note_answer(api, exchange, status, bytes);
  };
  hooks.hung_up = [&api] { api.engine.drop_abandoned(); };
  Result<std::unique_ptr<service::HttpServer>> server =
      service::HttpServer::start(config.http, api.routes, std::move(hooks), api.clock,
                                 [&api](service::HttpServer& made) { api.server = &made; });
  if (!server) return fail(std::move(server.error()));
  parts->server = std::move(*server);
  api.events.start([&api](const std::shared_ptr<service::HttpConnection>& connection, std::string bytes) {
    return api.server.load()->push(connection, std::move(bytes));
  });
  const bool is_local =
      config.http.host == "localhost" || config.http.host == "::1" || config.http.host.starts_with("127.");
  if (!is_local && !api.keys.are_asked_for())
    api.log->write(
        LogLevel::kWarning,
        "everybody who reaches this address may load, pin and unload adapters: give --api-key-file",
        {{"host", config.http.host}});
  api.log->write(LogLevel::kInfo, "serving",
                 {{"host", config.http.host}, {"port", std::uint64_t{parts->server->port()}}});
  return std::unique_ptr<Service>(new Service(std::move(parts)));
}

Result<Unit> Service::apply(const ServiceConfig& config) {
  Api& api = *parts_->api;
  if (Result<Unit> ok = check_config(config, {&api.engine, &api.clock}); !ok) return ok;
  if (Result<Unit> set = api.log->set_level(config.log.level); !set) return set;
  api.keys.set(config.http.api_keys);
  api.request_timeout_ms = config.http.request_timeout_ms;
  constexpr std::string_view kApplied[] = {"http.api_keys", "log.level", "http.request_timeout_ms"};
  for (const service::SettingRow& row : service::setting_rows()) {
    if (std::find(std::begin(kApplied), std::end(kApplied), row.name) != std::end(kApplied)) continue;
    if (service::toml_value(config, row) != service::toml_value(api.config, row))
      api.log->write(LogLevel::kWarning, "needs a restart to change", {{"setting", row.name}});
  }
  api.log->write(LogLevel::kInfo, "configuration reloaded");
  return Unit{};
}

void Service::note_round(const DiscoveryRound& round) {
  Api& api = *parts_->api;
  const std::lock_guard lock(parts_->noting);
  api.metrics.count_discovery(round.prefixes_failed == 0);
  std::vector<std::string> left_out = round.rejected;
  left_out.insert(left_out.end(), round.unloaded.begin(), round.unloaded.end());
  api.left_out.set(std::move(left_out));
  std::string trouble = trouble_of(round);
  parts_->has_seen_prefix = parts_->has_seen_prefix || trouble.empty();
  api.readiness.set(parts_->has_seen_prefix ? std::string() : std::move(trouble));
  const std::pair<std::string_view, const std::vector<std::string>*> complaints[] = {
      {"adapter left out", &round.rejected},
      {"adapter left out", &round.clashes},
      {"discovery failed", &round.failures}};
  std::set<std::string> told;
  for (const auto& [event, reasons] : complaints) {
    for (const std::string& reason : *reasons) {
      if (told.insert(reason).second && !parts_->told.contains(reason))
        api.log->write(LogLevel::kWarning, event, {{"reason", reason}});
    }
  }
  parts_->told = std::move(told);
  for (const std::vector<std::string>* const names : {&round.added, &round.changed})
    for (const std::string& name : *names) api.tell("loaded", name);
  for (const std::string& name : round.removed) {
    api.base_models.forget(name);
    api.tell("unloaded", name);
  }
  // Rounds come every interval: one that changed nothing is no news.
  if (round.number != 1 && round.added.empty() && round.changed.empty() && round.removed.empty()) return;
  const nlohmann::ordered_json event = {{"discovered_adapters", round.added},
                                        {"changed_adapters", round.changed},
                                        {"removed_adapters", round.removed},
                                        {"total_adapters", round.found_total}};
  api.events.publish("discovery",
                     event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  api.log->write(LogLevel::kInfo, "adapters discovered",
                 {{"added", std::uint64_t{round.added.size()}},
                  {"changed", std::uint64_t{round.changed.size()}},
                  {"removed", std::uint64_t{round.removed.size()}},
                  {"total", round.found_total}});
}

void Service::note(std::string_view text) { parts_->api->log->write(LogLevel::kInfo, text); }

void Service::warn(std::string_view text) { parts_->api->log->write(LogLevel::kWarning, text); }

void Service::hurry() noexcept { parts_->hurried = true; }

Result<Unit> Service::drain() {
  const std::lock_guard lock(parts_->draining);
  if (std::exchange(parts_->drained, true)) return Unit{};
  Api& api = *parts_->api;
  service::HttpServer& server = *parts_->server;
  const std::uint64_t ends_ns = api.clock.now_ns() + std::uint64_t{parts_->drain_timeout_ms} * 1'000'000;
  const auto may_wait = [&] { return !parts_->hurried && api.clock.now_ns() < ends_ns; };
  api.draining = true;
  api.log->write(LogLevel::kInfo, "draining", {{"leases", std::uint64_t{api.leases->size()}}});
  api.events.publish("shutdown", "{}");
  for (const auto& connection : api.events.stop()) server.finish(connection);
  // Who has a lease still uses the adapter, and releases it through the same door. Works first: one that ends
  // between the two looks has left its lease.
  while (may_wait() && (api.works > 0 || api.leases->size() > 0))
    std::this_thread::sleep_for(std::chrono::milliseconds(kDrainStepMs));
  server.stop_listening();
  bool all_answered = server.wait_empty(0);
  while (!all_answered && may_wait()) all_answered = server.wait_empty(kDrainStepMs);
  if (const std::uint64_t leases = api.leases->size(); leases > 0)
    api.log->write(LogLevel::kWarning,
                   parts_->hurried ? "leases end before they were released: told to hurry"
                                   : "leases end before they were released: http.drain_timeout_ms is over",
                   {{"leases", leases}});
  // Leases end first: they may be what the last requests wait for. Then the engine tells those who still
  // wait that it is over.
  api.leases->close();
  if (api.resolver != nullptr) api.resolver->stop();
  Result<Unit> closed = api.engine.shutdown();
  if (!all_answered) static_cast<void>(server.wait_empty(kLastAnswersMs));
  server.end();
  api.leases.reset();  // its thread may be telling the recording of a lease's end
  api.capture.reset();
  api.log->write(LogLevel::kInfo, "stopped");
  return closed;
}

}  // namespace loracle
