/// Routes for whoever runs the service: health, metrics, statistics, events, policy.

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "service/api.hpp"

namespace loracle::service {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json tier_json(const TierStats& tier) {
  return {{"adapters", tier.entries},
          {"adapters_max", tier.entries_max},
          {"bytes", tier.bytes},
          {"bytes_max", tier.bytes_max == Bytes::max().value ? Json(nullptr) : Json(tier.bytes_max)},
          {"pinned", tier.pinned},
          {"policy", tier.policy}};
}

Json latency_json(const LatencyHistogram& latency) {
  return {{"count", latency.count},
          {"sum_s", static_cast<double>(latency.sum_ns) / 1e9},
          {"p50_below_s", static_cast<double>(latency.quantile_ns(0.5)) / 1e9},
          {"p99_below_s", static_cast<double>(latency.quantile_ns(0.99)) / 1e9}};
}

void reply_stats(Api& api, HttpExchange& exchange) {
  const EngineStats stats = api.engine.stats();
  Json json = {{"adapters_known", stats.adapters_known},
               {"requests", stats.requests},
               {"requests_waiting", stats.requests_waiting},
               {"requests_failed", stats.requests_failed},
               {"leases", api.leases->size()},
               {"leases_expired", api.leases->expired()}};
  for (const NamedCount& named : kTwoTierCounts) json[named.name] = stats.counts.*named.count;
  json.update({{"loads", stats.loads},
               {"loads_failed", stats.loads_failed},
               {"loads_in_flight", stats.loads_in_flight},
               {"loaded_bytes", stats.loaded_bytes},
               {"copies", stats.copies},
               {"copies_failed", stats.copies_failed},
               {"copied_bytes", stats.copied_bytes},
               {"prefetches", stats.prefetches},
               {"prefetches_dropped", stats.prefetches_dropped},
               {"arena_bytes", stats.arena_bytes},
               {"device", tier_json(stats.device)},
               {"host", tier_json(stats.host)},
               {"load_latency", latency_json(stats.load_latency)},
               {"copy_latency", latency_json(stats.copy_latency)},
               {"acquire_latency", latency_json(stats.acquire_latency)}});
  exchange.reply({.body = dump(json)});
}

void reply_metrics(Api& api, HttpExchange& exchange) {
  HttpReply reply;
  reply.body = api.metrics.text(api.reading());
  reply.type = "text/plain; version=0.0.4; charset=utf-8";
  exchange.reply(std::move(reply));
}

void reply_ready(Api& api, HttpExchange& exchange) {
  if (const std::string trouble = api.trouble(); !trouble.empty()) return exchange.reply(busy_reply(trouble));
  exchange.reply({.body = R"({"status":"ready"})"});
}

void open_events(Api& api, HttpExchange& exchange) {
  std::uint64_t last_id = 0;
  if (const std::string_view given = exchange.header("last-event-id"); !given.empty()) {
    const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), last_id);
    if (error != std::errc{} || end != given.data() + given.size())
      return exchange.reply(error_reply(400, "InvalidUserInput", "Last-Event-ID is not one of ours"));
  }
  if (exchange.method == "HEAD") return exchange.reply({.body = {}, .type = "text/event-stream"});
  if (!api.events.add(exchange.connection(), last_id))
    return exchange.reply(busy_reply("too many clients listen already"));
  exchange.reply_with_stream(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: "
      "no-store\r\nX-Request-Id: " +
      exchange.request_id + "\r\nConnection: close\r\n\r\n: hello\n\n");
  api.events.begin(exchange.connection());
}

Json policy_json(const EngineStats& stats) {
  return {{"device", stats.device.policy}, {"host", stats.host.policy}};
}

void put_policy(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"device", "host"};
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<std::optional<std::string>> device = body->text("device");
  const Result<std::optional<std::string>> host = body->text("host");
  if (!good(exchange, device) || !good(exchange, host)) return;
  if (!*device && !*host)
    return exchange.reply(error_reply(400, "InvalidUserInput",
                                      "give a policy for device, or host, or both: {\"host\":\"gdsf\"}"));
  const std::string before = api.engine.stats().device.policy;
  const auto refused = [&](Error error) {
    if (error.code == Errc::kNotFound) error.code = Errc::kInvalid;  // a name in the body is no missing page
    exchange.reply(error_reply(error));
  };
  if (*device)
    if (const Result<Unit> set = api.engine.set_policy(EngineTier::kDevice, **device); !set)
      return refused(set.error());
  if (*host) {
    if (const Result<Unit> set = api.engine.set_policy(EngineTier::kHost, **host); !set) {
      if (*device) static_cast<void>(api.engine.set_policy(EngineTier::kDevice, before));  // both or none
      return refused(set.error());
    }
  }
  const std::string text = dump(policy_json(api.engine.stats()));
  api.events.publish("policy", text);
  exchange.reply({.body = text});
}

}  // namespace

void add_operator_routes(Api& api, std::vector<HttpRoute>& routes) {
  routes.push_back({.method = "PUT",
                    .path = "/v1/policy",
                    .handler = [&api](const auto& exchange) { put_policy(api, *exchange); },
                    .summary = "Another eviction policy for a tier; what is resident stays",
                    .body = "Policy",
                    .answers = {{200, "Policy", "What rules now"},
                                {400, "Error", "There is no such policy"},
                                {409, "Error", "Held adapters are more than it would keep"}}});
  routes.push_back(
      {.method = "GET",
       .path = "/v1/policy",
       .handler =
           [&api](const auto& exchange) { exchange->reply({.body = dump(policy_json(api.engine.stats()))}); },
       .summary = "The tiers' eviction policies",
       .answers = {{200, "Policy", "What rules now"}}});
  routes.push_back({.method = "GET",
                    .path = "/v1/stats",
                    .handler = [&api](const auto& exchange) { reply_stats(api, *exchange); },
                    .summary = "What the engine has counted",
                    .answers = {{200, "Stats", "Since the start"}}});
  routes.push_back(
      {.method = "GET",
       .path = "/v1/events",
       .handler = [&api](const auto& exchange) { open_events(api, *exchange); },
       .summary = "What happens, as server-sent events; Last-Event-ID is honoured",
       .answers = {{200, "events", "A stream without end"}, {503, "Error", "Too many listen already"}}});
  for (const std::string_view path : {"/healthz", "/health"}) {  // the second is vLLM's
    routes.push_back(
        {.method = "GET",
         .path = path,
         .handler = [](const auto& exchange) { exchange->reply({.body = R"({"status":"ok"})"}); },
         .summary = "Whether the process lives",
         .answers = {{200, "Health", "It does"}},
         .is_instant = true});
  }
  routes.push_back(
      {.method = "GET",
       .path = "/readyz",
       .handler = [&api](const auto& exchange) { reply_ready(api, *exchange); },
       .summary = "Whether requests should be sent here",
       .answers = {{200, "Health", "They should"},
                   {503, "Error", "It still looks for adapters, sees no prefix, or is shutting down"}},
       .is_instant = true});
  routes.push_back({.method = "GET",
                    .path = "/metrics",
                    .handler = [&api](const auto& exchange) { reply_metrics(api, *exchange); },
                    .summary = "Prometheus metrics",
                    .answers = {{200, "text", "The text format, version 0.0.4"}}});
  routes.push_back({.method = "GET",
                    .path = "/openapi.json",
                    .handler = [&api](const auto& exchange) { exchange->reply({.body = api.openapi}); },
                    .summary = "This description",
                    .answers = {{200, "Object", "OpenAPI 3.1"}}});
}

}  // namespace loracle::service
