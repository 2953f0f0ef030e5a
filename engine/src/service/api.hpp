#pragma once
/// What the routes share.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/engine/engine.hpp"
#include "loracle/service/config.hpp"
#include "loracle/service/ports.hpp"
#include "loracle/service/service.hpp"
#include "service/api_keys.hpp"
#include "service/capture.hpp"
#include "service/event_hub.hpp"
#include "service/http_server.hpp"
#include "service/json_body.hpp"
#include "service/lease_book.hpp"
#include "service/log.hpp"
#include "service/metrics.hpp"
#include "service/model_list.hpp"

namespace loracle::service {

/// Names that somebody is waiting for, with how many are.
class WaitingNames {
 public:
  void add(const std::vector<std::string>& names);
  void remove(const std::vector<std::string>& names);
  [[nodiscard]] std::vector<std::string> sorted() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::uint32_t> counts_;
};

/// What happens to an adapter's name happens once at a time; other names do not wait for it.
class NameLocks {
 public:
  class Held {
   public:
    Held(NameLocks& locks, std::string name) : locks_(&locks), name_(std::move(name)) {}
    Held(Held&& other) noexcept
        : locks_(std::exchange(other.locks_, nullptr)), name_(std::move(other.name_)) {}
    Held& operator=(Held&&) = delete;
    ~Held() {
      if (locks_ != nullptr) locks_->unlock(name_);
    }

   private:
    NameLocks* locks_;
    std::string name_;
  };
  [[nodiscard]] Held lock(const std::string& name);

 private:
  void unlock(const std::string& name);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> held_;
};

/// Why requests should not be sent here yet; nothing: they should.
class Readiness {
 public:
  explicit Readiness(std::string trouble) : trouble_(std::move(trouble)) {}
  void set(std::string trouble) {
    const std::lock_guard lock(mutex_);
    trouble_ = std::move(trouble);
  }
  [[nodiscard]] std::string trouble() const {
    const std::lock_guard lock(mutex_);
    return trouble_;
  }

 private:
  mutable std::mutex mutex_;
  std::string trouble_;
};

/// Base models of adapters that were told one.
class BaseModels {
 public:
  void set(const std::string& name, const std::string& base_model);
  void forget(const std::string& name);
  [[nodiscard]] std::string of(const std::string& name) const;
  /// Grows with every change.
  [[nodiscard]] std::uint64_t changes() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> names_;
  std::uint64_t changes_ = 0;
};

/// Adapters that were found and are not served, as the last look had them. Names that nobody knows may be
/// one of these.
class LeftOut {
 public:
  /// "name: reason" each, as the engine and discovery put it.
  void set(std::vector<std::string> reasons);
  /// Why; empty: it is not one of them.
  [[nodiscard]] std::string reason_of(std::string_view name) const;
  /// The error, of kNotFound with the reason.
  [[nodiscard]] Error explained(Error error, std::string_view name) const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> reasons_;  // sorted
};

struct Api {
  Api(const ServiceConfig& service_config, const ServiceParts& service_parts,
      std::unique_ptr<Log> service_log)
      : config(service_config),
        engine(*service_parts.engine),
        clock(*service_parts.clock),
        discovery(service_parts.discovery),
        resolver(service_parts.resolver),
        log(std::move(service_log)),
        events(engine, clock),
        count_sources(service_parts.count_sources),
        readiness(service_parts.awaits_discovery ? "looking for adapters" : ""),
        request_timeout_ms(service_config.http.request_timeout_ms) {}

  ServiceConfig config;  // as it was at the start
  Engine& engine;
  TimeSource& clock;
  Discovery* discovery;
  Resolver* resolver;
  std::unique_ptr<Log> log;
  ApiKeys keys;
  Metrics metrics;
  EventHub events;
  std::unique_ptr<Capture> capture;  // null: nothing is recorded
  std::unique_ptr<LeaseBook> leases;
  WaitingNames waiting;
  NameLocks names;
  BaseModels base_models;
  ModelList models;
  LeftOut left_out;
  std::function<SourceCounts()> count_sources;
  Readiness readiness;
  std::atomic<std::uint32_t> request_timeout_ms;
  std::atomic<bool> draining = false;
  std::atomic<std::uint32_t> works = 0;  // requests other than looks and ends, until they are answered
  std::vector<HttpRoute> routes;
  std::string openapi;
  std::atomic<HttpServer*> server = nullptr;

  [[nodiscard]] AcquireOptions timeout() const noexcept {
    return {std::uint64_t{request_timeout_ms} * 1'000'000};
  }
  /// Makes the engine know the adapter, if a resolver finds it. May take long.
  /// Errors: kNotFound, and those of the resolver and of Engine::add.
  [[nodiscard]] Result<Unit> resolve(const std::string& name);
  /// Why not to send requests here; empty: do.
  [[nodiscard]] std::string trouble() const {
    return draining ? "the service is shutting down" : readiness.trouble();
  }
  /// Counts one until what is returned goes away.
  [[nodiscard]] std::shared_ptr<void> begin_work();
  /// `event` with the adapter's name.
  void tell(std::string_view event, std::string_view name);
  [[nodiscard]] MetricsReading reading();
};

/// vLLM's routes, with its bodies, codes and messages.
void add_vllm_routes(Api& api, std::vector<HttpRoute>& routes);
/// One adapter: what it is and where; pins, prefetch; several at once.
void add_adapter_routes(Api& api, std::vector<HttpRoute>& routes);
/// Acquire, renew, release.
void add_lease_routes(Api& api, std::vector<HttpRoute>& routes);
/// Health, metrics, statistics, events, policy.
void add_operator_routes(Api& api, std::vector<HttpRoute>& routes);

/// The OpenAPI 3.1 document of the routes.
[[nodiscard]] std::string openapi_of(const std::vector<HttpRoute>& routes, const ServiceConfig& config);

/// The request's body; or an answer that refuses it has been given, and this is empty.
[[nodiscard]] std::optional<JsonBody> take_body(HttpExchange& exchange,
                                                std::span<const std::string_view> keys);
/// The value, or the error has been answered.
template <class T>
[[nodiscard]] bool good(HttpExchange& exchange, const Result<T>& result) {
  if (result) return true;
  exchange.reply(error_reply(result.error()));
  return false;
}
/// `timeout_s` of a body, at most the service's own.
/// It ends early when the client hangs up.
[[nodiscard]] Result<AcquireOptions> terms_of(const Api& api, const HttpExchange& exchange,
                                              const JsonBody& body);
/// What is left of a time when this much is over.
[[nodiscard]] AcquireOptions left_of(AcquireOptions options, std::uint64_t gone_ns) noexcept;
/// 404 in vLLM's words, and why the adapter was left out, if it was.
[[nodiscard]] HttpReply unknown_reply(const Api& api, std::string_view name);
/// `tier` of a body.
[[nodiscard]] Result<EngineTier> tier_of(const JsonBody& body, EngineTier otherwise);
[[nodiscard]] bool is_json_type(std::string_view content_type);

}  // namespace loracle::service
