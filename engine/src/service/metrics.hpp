#pragma once
/// What /metrics says, in Prometheus' text format. Every family is there from the start, with HELP and TYPE,
/// also while it has nothing to report.
///
/// loracle_* are ours; vllm:* are the names gateways (llm-d, the Gateway API's inference extension) read, so
/// that they route to a loracle as they would to a vLLM that had them.
/// Cost of a scrape: one pass over the adapters that are resident, and one lock of the engine's.
/// Threads: any.

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "loracle/engine/engine.hpp"
#include "loracle/service/service.hpp"
#include "service/capture.hpp"
#include "service/http_front.hpp"

namespace loracle::service {

/// What others count; read at a scrape.
struct MetricsReading {
  EngineStats engine;
  std::vector<AdapterStatus> adapters;
  std::vector<std::string> waiting;  // names acquires wait for, sorted
  FrontCounts front;
  std::uint64_t http_queued = 0;
  std::uint64_t http_queue_refusals = 0;
  std::uint64_t leases = 0;
  std::uint64_t leases_expired = 0;
  std::uint64_t event_streams = 0;
  CaptureCounts capture;
  SourceCounts sources;
  bool ready = false;
  std::int64_t unix_s = 0;
};

class Metrics {
 public:
  void count_http(std::string_view method, std::string_view route, int status, std::uint64_t took_ns);
  void count_discovery(bool succeeded) noexcept { ++(succeeded ? discoveries_ : discoveries_failed_); }
  void count_resolve(std::string_view outcome);

  [[nodiscard]] std::string text(const MetricsReading& reading) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int>, std::uint64_t> http_;  // method, route, status
  std::map<std::string, LatencyHistogram> http_latency_;                     // by route
  std::map<std::string, std::uint64_t> resolves_;                            // by outcome
  std::atomic<std::uint64_t> discoveries_ = 0;
  std::atomic<std::uint64_t> discoveries_failed_ = 0;
};

}  // namespace loracle::service
