#include "service/metrics.hpp"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <utility>

namespace loracle::service {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

/// Adds families and their values in order.
class Page {
 public:
  void family(MetricType type, std::string name, std::string help) {
    MetricFamily family;
    family.name = std::move(name);
    family.help = std::move(help);
    family.type = type;
    families_.push_back(std::move(family));
  }
  void counter(std::string name, std::string help) {
    family(MetricType::Counter, std::move(name), std::move(help));
  }
  void gauge(std::string name, std::string help) {
    family(MetricType::Gauge, std::move(name), std::move(help));
  }
  void histogram(std::string name, std::string help) {
    family(MetricType::Histogram, std::move(name), std::move(help));
  }
  /// Of the family added last.
  void value(double value, Labels labels = {}) {
    ClientMetric metric;
    metric.label = std::move(labels);
    if (families_.back().type == MetricType::Counter)
      metric.counter.value = value;
    else
      metric.gauge.value = value;
    families_.back().metric.push_back(std::move(metric));
  }
  void value(std::uint64_t value, Labels labels = {}) {
    this->value(static_cast<double>(value), std::move(labels));
  }
  void value(const LatencyHistogram& latency, Labels labels = {}) {
    // Bucket i ends at 2^(i+1) ns: 1 us to 18 minutes of them are shown.
    constexpr std::size_t kFirst = 9;
    constexpr std::size_t kLast = 39;
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.histogram.sample_count = latency.count;
    metric.histogram.sample_sum = static_cast<double>(latency.sum_ns) / 1e9;
    std::uint64_t below = 0;
    for (std::size_t i = 0; i <= kLast; ++i) {
      below += latency.buckets[i];
      if (i < kFirst) continue;
      metric.histogram.bucket.push_back({below, static_cast<double>(2ULL << i) / 1e9});
    }
    families_.back().metric.push_back(std::move(metric));
  }
  [[nodiscard]] std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  std::vector<MetricFamily> families_;
};

const Labels kDevice = {{"tier", "device"}};
const Labels kHost = {{"tier", "host"}};

void add_tiers(Page& page, const EngineStats& stats) {
  const HierarchyCounts& counts = stats.counts;
  const auto both = [&](std::uint64_t device, std::uint64_t host) {
    page.value(device, kDevice);
    page.value(host, kHost);
  };
  page.counter("loracle_tier_hits_total", "Uses of adapters that were found in the tier.");
  both(counts.gpu_hits, counts.host_to_device_loads - counts.disk_loads);
  page.counter("loracle_tier_misses_total", "Uses of adapters that were not in the tier.");
  both(counts.host_to_device_loads, counts.disk_loads);
  page.counter("loracle_tier_refused_uses_total", "Uses refused because held adapters left no room.");
  page.value(counts.refused_uses);
  page.counter("loracle_tier_loads_total", "Adapters brought into the tier.");
  both(stats.copies, stats.loads);
  page.counter("loracle_tier_load_failures_total", "Adapters that could not be brought into the tier.");
  both(stats.copies_failed, stats.loads_failed);
  page.counter("loracle_tier_evictions_total", "Adapters that left the tier for others.");
  both(counts.gpu_evictions + counts.gpu_invalidations, counts.host_evictions);
  page.counter("loracle_tier_loaded_bytes_total", "Bytes brought into the tier.");
  both(stats.copied_bytes, stats.loaded_bytes);
  page.gauge("loracle_tier_adapters", "Adapters in the tier.");
  both(stats.device.entries, stats.host.entries);
  page.gauge("loracle_tier_adapters_max", "Adapters the tier has room for.");
  both(stats.device.entries_max, stats.host.entries_max);
  page.gauge("loracle_tier_bytes", "Bytes of the adapters in the tier.");
  both(stats.device.bytes, stats.host.bytes);
  page.gauge("loracle_tier_pinned", "Pinned adapters in the tier.");
  both(stats.device.pinned, stats.host.pinned);
  page.gauge("loracle_tier_policy_info", "The tier's eviction policy; always 1.");
  page.value(1.0, {{"tier", "device"}, {"policy", stats.device.policy}});
  page.value(1.0, {{"tier", "host"}, {"policy", stats.host.policy}});
  page.histogram("loracle_tier_load_seconds",
                 "Time to bring an adapter into the tier: storage to host, host to device.");
  page.value(stats.copy_latency, kDevice);
  page.value(stats.load_latency, kHost);
}

void add_engine(Page& page, const EngineStats& stats) {
  page.histogram("loracle_acquire_wait_seconds",
                 "Time of acquires that had to wait for anything, those that came too late among them.");
  page.value(stats.acquire_latency);
  page.counter("loracle_requests_total", "Acquires that reached the engine.");
  page.value(stats.requests);
  page.counter("loracle_requests_failed_total", "Acquires that ended without a lease.");
  page.value(stats.requests_failed);
  page.gauge("loracle_requests_waiting", "Acquires that wait for a load or for room.");
  page.value(stats.requests_waiting);
  page.gauge("loracle_adapters_known", "Adapters that can be acquired by name.");
  page.value(stats.adapters_known);
  page.gauge("loracle_loads_in_flight", "Reads from storage under way.");
  page.value(stats.loads_in_flight);
  page.counter("loracle_loads_shared_total", "Waits that joined a load which was under way.");
  page.value(stats.loads_shared);
  page.counter("loracle_prefetches_total", "Adapters prefetched.");
  page.value(stats.prefetches);
  page.counter("loracle_prefetches_dropped_total", "Prefetched adapters for which there was no room.");
  page.value(stats.prefetches_dropped);
}

void add_service(Page& page, const MetricsReading& reading) {
  page.gauge("loracle_ready", "1 while /readyz says that requests should be sent here.");
  page.value(reading.ready ? 1.0 : 0.0);
  page.gauge("loracle_leases", "Leases that clients hold.");
  page.value(reading.leases);
  page.counter("loracle_leases_expired_total", "Leases that ended because nobody renewed or released them.");
  page.value(reading.leases_expired);
  page.gauge("loracle_http_connections", "Connections that are open.");
  page.value(reading.front.connections);
  page.counter("loracle_http_connections_total", "Connections that were accepted.");
  page.value(reading.front.accepted);
  page.counter("loracle_http_refused_total", "Connections and requests refused before they reached a route.");
  page.value(reading.front.turned_away, {{"reason", "connections"}});
  page.value(reading.front.refused, {{"reason", "malformed_or_too_large"}});
  page.value(reading.http_queue_refusals, {{"reason", "queue"}});
  page.counter("loracle_http_timeouts_total", "Connections that were too slow, or idle for too long.");
  page.value(reading.front.timed_out);
  page.gauge("loracle_http_queue", "Requests that wait for a thread.");
  page.value(reading.http_queued);
  page.gauge("loracle_event_streams", "Clients that listen to /v1/events.");
  page.value(reading.event_streams);
  page.counter("loracle_capture_requests_total", "Requests recorded.");
  page.value(reading.capture.requests);
  page.counter("loracle_capture_dropped_total", "Requests not recorded: the disk was too slow.");
  page.value(reading.capture.dropped);
  page.counter("loracle_capture_bytes_total", "Bytes recorded.");
  page.value(reading.capture.bytes);
  page.counter("loracle_capture_failures_total", "Writes of the recording that failed.");
  page.value(reading.capture.failed_writes);
}

void add_resolvers(Page& page, const ResolverChainStats& chain) {
  page.counter("loracle_resolver_requests_total", "Unknown names that came to the resolvers.");
  page.value(chain.requests);
  page.counter("loracle_resolver_shared_total", "Of these, those that joined a question under way.");
  page.value(chain.shared);
  page.counter("loracle_resolver_negatives_total",
               "Of these, those of which it was known that nobody has it.");
  page.value(chain.negatives_answered);
  using Count = std::uint64_t ResolverStats::*;
  const auto each = [&](Count count) {
    for (const ResolverStats& resolver : chain.resolvers)
      page.value(resolver.*count, {{"resolver", resolver.name}});
  };
  page.counter("loracle_resolver_asked_total", "Calls of a resolver.");
  each(&ResolverStats::asked);
  page.counter("loracle_resolver_found_total", "Adapters a resolver has found.");
  each(&ResolverStats::found);
  page.counter("loracle_resolver_failed_total", "Calls of a resolver that failed.");
  each(&ResolverStats::failed);
  page.counter("loracle_resolver_timed_out_total", "Calls of a resolver that were given up.");
  each(&ResolverStats::timed_out);
  page.counter("loracle_resolver_passed_over_total",
               "Times a resolver was not asked, for what it did before.");
  each(&ResolverStats::passed_over);
  page.gauge("loracle_resolver_hung", "Calls of a resolver that were given up and have not come back.");
  each(&ResolverStats::hung);
  page.gauge("loracle_resolver_crashed", "1 for a resolver that crashed and is not asked any more.");
  for (const ResolverStats& resolver : chain.resolvers)
    page.value(resolver.crashed ? 1.0 : 0.0, {{"resolver", resolver.name}});
}

/// Copies of remote adapters, and what was fetched for them. Without a cache the families are empty.
void add_cache(Page& page, const SourceCounts& sources) {
  using Count = std::uint64_t CacheStats::*;
  const auto value = [&](Count count) {
    if (sources.cache) page.value((*sources.cache).*count);
  };
  page.gauge("loracle_cache_adapters", "Copies of remote adapters.");
  value(&CacheStats::entries);
  page.gauge("loracle_cache_bytes", "Their bytes, those that are being written included.");
  value(&CacheStats::bytes);
  page.gauge("loracle_cache_bytes_max", "Bytes the cache may take.");
  value(&CacheStats::bytes_max);
  page.gauge("loracle_cache_reserved_bytes", "Bytes that are being written.");
  value(&CacheStats::reserved_bytes);
  page.gauge("loracle_cache_leased", "Copies in use, which stay.");
  value(&CacheStats::leased);
  page.counter("loracle_cache_hits_total", "Adapters that were in the cache.");
  value(&CacheStats::hits);
  page.counter("loracle_cache_misses_total", "Adapters that were not.");
  value(&CacheStats::misses);
  page.counter("loracle_cache_published_total", "Copies made.");
  value(&CacheStats::published);
  page.counter("loracle_cache_evictions_total", "Copies that left for others.");
  value(&CacheStats::evictions);
  page.counter("loracle_cache_damaged_total", "Copies dropped because they were damaged.");
  value(&CacheStats::damaged);
  page.counter("loracle_cache_refused_total", "Copies not made for want of room.");
  value(&CacheStats::refused);
  using OriginCount = std::uint64_t RemoteOriginStats::*;
  const auto each = [&](OriginCount count) {
    for (const auto& [scheme, origin] : sources.origins) page.value(origin.*count, {{"scheme", scheme}});
  };
  page.counter("loracle_cache_requests_total", "Remote adapters asked for.");
  each(&RemoteOriginStats::requests);
  page.counter("loracle_cache_requests_failed_total", "Of these, those that could not be had.");
  each(&RemoteOriginStats::failed);
  page.counter("loracle_cache_downloads_total", "Downloads begun.");
  each(&RemoteOriginStats::downloads);
  page.counter("loracle_cache_downloaded_bytes_total", "Bytes downloaded.");
  each(&RemoteOriginStats::downloaded_bytes);
  page.counter("loracle_cache_downloads_shared_total", "Requests that joined a download under way.");
  each(&RemoteOriginStats::shared);
  page.counter("loracle_cache_restarts_total", "Downloads begun anew, the adapter having changed.");
  each(&RemoteOriginStats::restarts);
  page.counter("loracle_cache_stale_total", "Copies served because their origin could not be reached.");
  each(&RemoteOriginStats::served_stale);
}

void add_gateway(Page& page, const MetricsReading& reading) {
  const EngineStats& stats = reading.engine;
  page.gauge("vllm:lora_adapter_loaded", "An adapter that is resident; level gpu or cpu. Always 1.");
  std::string on_device;
  for (const AdapterStatus& adapter : reading.adapters) {
    const std::string pinned = adapter.pinned ? "true" : "false";
    if (adapter.on_device) {
      on_device += fmt::format("{}{}", on_device.empty() ? "" : ",", adapter.name);
      page.value(1.0, {{"adapter_name", adapter.name}, {"level", "gpu"}, {"pinned", pinned}});
    }
    if (adapter.on_host)
      page.value(1.0, {{"adapter_name", adapter.name}, {"level", "cpu"}, {"pinned", pinned}});
  }
  page.gauge("vllm:num_gpu_loaded_lora_adapters", "Adapters in slots of the device.");
  page.value(stats.device.entries);
  page.gauge("vllm:num_cpu_loaded_lora_adapters", "Adapters in host memory.");
  page.value(stats.host.entries);
  page.gauge("vllm:max_gpu_lora_adapters", "Slots of the device.");
  page.value(stats.device.entries_max);
  page.histogram("vllm:lora_adapter_load_seconds", "Time to bring an adapter into the level.");
  page.value(stats.copy_latency, {{"level", "gpu"}});
  page.value(stats.load_latency, {{"level", "cpu"}});
  page.gauge("vllm:lora_requests_info",
             "Adapters on the device and adapters waited for; the value is the time of this reading.");
  std::string waiting;
  for (const std::string& name : reading.waiting)
    waiting += fmt::format("{}{}", waiting.empty() ? "" : ",", name);
  page.value(static_cast<double>(reading.unix_s), {{"max_lora", std::to_string(stats.device.entries_max)},
                                                   {"running_lora_adapters", on_device},
                                                   {"waiting_lora_adapters", waiting}});
}

}  // namespace

void Metrics::count_http(std::string_view method, std::string_view route, int status, std::uint64_t took_ns) {
  const std::lock_guard lock(mutex_);
  ++http_[{std::string(method), std::string(route), status}];
  http_latency_[std::string(route)].add(took_ns);
}

void Metrics::count_resolve(std::string_view outcome) {
  const std::lock_guard lock(mutex_);
  ++resolves_[std::string(outcome)];
}

std::string Metrics::text(const MetricsReading& reading) const {
  Page page;
  add_tiers(page, reading.engine);
  add_engine(page, reading.engine);
  add_service(page, reading);
  const std::lock_guard lock(mutex_);
  page.counter("loracle_http_requests_total", "Requests answered.");
  for (const auto& [key, count] : http_) {
    const auto& [method, route, status] = key;
    page.value(count, {{"method", method}, {"route", route}, {"status", std::to_string(status)}});
  }
  page.histogram("loracle_http_request_seconds", "Time from a request's arrival to its answer.");
  for (const auto& [route, latency] : http_latency_) page.value(latency, {{"route", route}});
  page.counter("loracle_discoveries_total", "Looks at the places adapters come from.");
  page.value(discoveries_.load(), {{"outcome", "ok"}});
  page.value(discoveries_failed_.load(), {{"outcome", "failed"}});
  page.counter("loracle_resolves_total", "Unknown names that were looked for, by outcome.");
  for (const auto& [outcome, count] : resolves_) page.value(count, {{"outcome", outcome}});
  add_resolvers(page, reading.sources.resolvers);
  add_cache(page, reading.sources);
  add_gateway(page, reading);
  return page.text();
}

}  // namespace loracle::service
