#pragma once
/// The engine as a process: HTTP routes over one Engine, leases with an end, metrics, events, capture.
///
///   Result<std::unique_ptr<Service>> service = Service::start(config, {&engine, &posix_clock()});
///   ...                                        // until SIGTERM
///   Result<Unit> drained = (*service)->drain();
///
/// Routes: those of vLLM with its bodies, codes and messages (/v1/models, /v1/load_lora_adapter,
/// /v1/unload_lora_adapter), /v1/refresh_lora_discovery, and ours; GET /openapi.json describes all of them.
/// A request is read whole, by one thread for all connections, before anybody works on it: a client that
/// sends slowly holds nothing but its socket. An acquire that waits holds no thread either.
/// Invariants:
///  1. A lease ends: by release, after its ttl, or with the service. Who died pins nothing for ever.
///  2. Everything that can pile up has a limit: connections, heads, bodies, queues, leases, event streams. At
///     the limit a client gets 413, 431 or 503 with Retry-After, at once.
///  3. API keys are compared in constant time; no key is in a log line or an answer.
/// Keys protect what begins with /v1, as in vLLM; probes, /metrics and /openapi.json are open.
/// Threads: any may call. Errors: kInvalid (names the setting), kIo (cannot listen, cannot record).

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/service/config.hpp"
#include "loracle/service/ports.hpp"
#include "loracle/service/resolver.hpp"
#include "loracle/storage/cache.hpp"
#include "loracle/storage/remote_origin.hpp"

namespace loracle {

struct DiscoveryRound;

/// What is counted where adapters come from.
struct SourceCounts {
  ResolverChainStats resolvers;
  std::optional<CacheStats> cache;                                 // of what is remote
  std::vector<std::pair<std::string, RemoteOriginStats>> origins;  // by scheme
};

/// Borrowed; must outlive the service.
struct ServiceParts {
  Engine* engine = nullptr;
  TimeSource* clock = nullptr;
  Discovery* discovery = nullptr;  // null: /v1/refresh_lora_discovery says that there is none
  Resolver* resolver = nullptr;    // null: unknown names are not looked for
  bool awaits_discovery = false;   // not ready before note_round has told of a round that saw a prefix
  std::function<SourceCounts()> count_sources = {};  // at each scrape, on any thread; may be empty
};

inline constexpr double kLeaseTtlDefaultS = 60;
inline constexpr double kLeaseTtlMinS = 0.1;
inline constexpr double kLeaseTtlMaxS = 3600;

class Service {
 public:
  /// Listens and serves when this returns.
  [[nodiscard]] static Result<std::unique_ptr<Service>> start(const ServiceConfig& config,
                                                              const ServiceParts& given);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  /// hurry() and drain(), if that was not called.
  ~Service();

  /// The one that was bound, where 0 was asked for.
  [[nodiscard]] std::uint16_t port() const noexcept;

  /// What discovery has done goes into metrics, log and events: in the log what is new only, not in every
  /// round again. The first round in which a prefix could be listed makes /readyz answer 200.
  void note_round(const DiscoveryRound& round);
  /// A line for whoever runs the service, in the log and its format.
  void note(std::string_view text);
  void warn(std::string_view text);

  /// Takes over what can change while serving: API keys, log level, time limits of requests. What would need
  /// a restart is left as it is, and logged.
  [[nodiscard]] Result<Unit> apply(const ServiceConfig& config);

  /// New work gets 503; requests under way are answered, and leases can be renewed and released. When none is
  /// left, or after drain_timeout_ms, connections are refused, leases end and the engine is shut down, and
  /// requests that are not done get 503. Idempotent.
  [[nodiscard]] Result<Unit> drain();
  /// Whoever is in drain() waits no longer; nor will he who calls it now.
  void hurry() noexcept;

 private:
  struct Parts;
  [[nodiscard]] static Result<std::unique_ptr<Service>> begin(const ServiceConfig& config,
                                                              const ServiceParts& given);
  explicit Service(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loracle
