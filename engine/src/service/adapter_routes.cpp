/// Routes about adapters: what they are and where, pins, prefetch, several at once.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "service/api.hpp"

namespace loracle::service {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kBatchMax = 1024;
constexpr std::size_t kPageMax = 10'000;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json adapter_json(const Api& api, const AdapterStatus& adapter) {
  std::string base_model = api.base_models.of(adapter.name);
  if (base_model.empty()) base_model = api.config.base_model;
  return {{"name", adapter.name},
          {"lora_int_id", adapter.id},
          {"rank", adapter.rank},
          {"bytes", adapter.bytes},
          {"residency", adapter.on_device ? "device"
                        : adapter.on_host ? "host"
                                          : "storage"},
          {"loading", adapter.loading},
          {"slot", adapter.on_device ? Json(adapter.slot) : Json(nullptr)},
          {"pinned", adapter.pinned},
          {"leases", adapter.leases},
          {"hits", adapter.uses},
          {"directory", adapter.uri.empty() ? Json(adapter.directory) : Json(nullptr)},
          {"uri", adapter.uri.empty() ? Json(nullptr) : Json(adapter.uri)},
          {"base_model", base_model.empty() ? Json(nullptr) : Json(base_model)}};
}

void reply_status(Api& api, HttpExchange& exchange, const std::string& name) {
  const Result<AdapterStatus> status = api.engine.status(name);
  if (!status) return exchange.reply(error_reply(api.left_out.explained(status.error(), name)));
  exchange.reply({.body = dump(adapter_json(api, *status))});
}

void list_adapters(Api& api, HttpExchange& exchange) {
  std::size_t limit = kPageMax;
  std::string after;
  if (const auto given = exchange.query.find("limit"); given != exchange.query.end()) {
    const std::string& text = given->second;
    const bool is_number =
        !text.empty() && text.size() <= 6 && text.find_first_not_of("0123456789") == std::string::npos;
    limit = is_number ? std::stoul(text) : 0;
    if (limit == 0 || limit > kPageMax)
      return exchange.reply(
          error_reply(400, "InvalidUserInput", fmt::format("limit must be from 1 to {}", kPageMax)));
  }
  if (const auto given = exchange.query.find("after"); given != exchange.query.end()) after = given->second;
  Json adapters = Json::array();
  Json next = nullptr;
  for (const AdapterStatus& adapter : api.engine.list()) {
    if (!after.empty() && adapter.name <= after) continue;
    if (adapters.size() == limit) {
      next = adapters.back()["name"];
      break;
    }
    adapters.push_back(adapter_json(api, adapter));
  }
  const Json json = {{"adapters", std::move(adapters)}, {"next", next}};
  exchange.reply({.body = dump(json)});
}

void pin(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"tier", "timeout_s"};
  const std::string& name = exchange.path_parts[0];
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<EngineTier> tier = tier_of(*body, EngineTier::kDevice);
  const Result<AcquireOptions> timeout = terms_of(api, exchange, *body);
  if (!good(exchange, tier) || !good(exchange, timeout)) return;
  if (!good(exchange, api.engine.pin(name, *tier, *timeout))) return;
  api.tell("pinned", name);
  reply_status(api, exchange, name);
}

void unpin(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"tier"};
  const std::string& name = exchange.path_parts[0];
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<EngineTier> tier = tier_of(*body, EngineTier::kHost);
  if (!good(exchange, tier)) return;
  if (!good(exchange, api.engine.unpin(name, *tier))) return;
  api.tell("unpinned", name);
  reply_status(api, exchange, name);
}

void prefetch(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"tier"};
  const std::string& name = exchange.path_parts[0];
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<EngineTier> tier = tier_of(*body, EngineTier::kHost);
  if (!good(exchange, tier)) return;
  const std::string_view names[] = {name};
  if (!good(exchange, api.engine.prefetch(names, *tier))) return;
  reply_status(api, exchange, name);
}

/// What became of each adapter of a batch.
struct BatchOutcome {
  Json loaded = Json::array();
  Json failed = Json::array();
  std::optional<Error> first;

  void fail_one(const std::string& name, const Error& error) {
    failed.push_back({{"name", name}, {"code", status_of(error)}, {"message", error.message}});
    if (!first) first = error;
  }
};

bool is_on_host(const Engine& engine, std::string_view name) {
  const Result<AdapterStatus> status = engine.status(name);
  return status && status->on_host;
}

void load_batch(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"adapters", "timeout_s"};
  constexpr std::string_view kAdapterKeys[] = {"name", "uri"};
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<AcquireOptions> timeout = terms_of(api, exchange, *body);
  const Result<std::vector<JsonBody>> adapters = body->objects("adapters", kAdapterKeys, kBatchMax);
  if (!good(exchange, timeout) || !good(exchange, adapters)) return;
  std::vector<std::pair<std::string, std::optional<std::string>>> asked;
  for (const JsonBody& adapter : *adapters) {
    Result<std::string> name = adapter.required_text("name");
    Result<std::optional<std::string>> uri = adapter.text("uri");
    if (!good(exchange, name) || !good(exchange, uri)) return;
    if (*uri && !api.config.runtime_updating) {
      return exchange.reply(error_reply(
          400, "InvalidUserInput", "uri: this service takes no new adapters while it runs: leave it out"));
    }
    asked.emplace_back(std::move(*name), std::move(*uri));
  }
  BatchOutcome outcome;
  std::vector<std::string_view> known;
  for (const auto& [name, uri] : asked) {
    Result<Unit> found = Unit{};
    if (uri) {
      const auto lock = api.names.lock(name);
      if (const Result<std::uint32_t> id = api.engine.add(name, *uri); !id)
        found = fail(id.error());
      else
        api.tell("loaded", name);
    } else if (!api.engine.status(name)) {
      found = api.resolve(name);
      if (!found) found = fail(api.left_out.explained(found.error(), name));
    }
    if (found)
      known.push_back(name);
    else
      outcome.fail_one(name, found.error());
  }
  // All at once, so that they are read in parallel; one by one only to learn which of them failed, in the
  // time that is left.
  const std::uint64_t begun_ns = api.clock.now_ns();
  const bool all_loaded = !known.empty() && api.engine.load_many(known, *timeout);
  for (const std::string_view name : known) {
    Result<Unit> loaded = Unit{};
    if (!all_loaded && !is_on_host(api.engine, name))
      loaded = api.engine.load_many({&name, 1}, left_of(*timeout, api.clock.now_ns() - begun_ns));
    if (loaded)
      outcome.loaded.push_back(name);
    else
      outcome.fail_one(std::string(name), loaded.error());
  }
  const Json json = {{"loaded", outcome.loaded}, {"failed", outcome.failed}};
  HttpReply reply;
  reply.status = outcome.loaded.empty() ? status_of(*outcome.first) : 200;
  if (reply.status == 503) reply.headers.emplace_back("Retry-After", "1");
  reply.body = dump(json);
  exchange.reply(std::move(reply));
}

void resolve(Api& api, HttpExchange& exchange) {
  const auto given = exchange.query.find("name");
  if (given == exchange.query.end() || given->second.empty())
    return exchange.reply(error_reply(400, "InvalidUserInput", "name is missing: ask /v1/resolve?name=NAME"));
  const std::string& name = given->second;
  Json json = {{"name", name}};
  if (const Result<AdapterStatus> known = api.engine.status(name)) {
    const std::string base_model = api.base_models.of(name);
    json["uri"] = known->uri.empty() ? known->directory : known->uri;
    json["base_model"] = base_model.empty() ? api.config.base_model : base_model;
    json["known"] = true;
    return exchange.reply({.body = dump(json)});
  }
  if (api.resolver == nullptr) return exchange.reply(unknown_reply(api, name));
  const Result<ResolvedAdapter> found = api.resolver->resolve(api.config.base_model, name);
  if (!found) return exchange.reply(error_reply(api.left_out.explained(found.error(), name)));
  json["uri"] = found->location;
  json["base_model"] = found->base_model.empty() ? api.config.base_model : found->base_model;
  json["known"] = false;
  exchange.reply({.body = dump(json)});
}

}  // namespace

void add_adapter_routes(Api& api, std::vector<HttpRoute>& routes) {
  routes.push_back(
      {.method = "GET",
       .path = "/v1/adapters",
       .handler = [&api](const auto& exchange) { list_adapters(api, *exchange); },
       .summary = "Every adapter that is known: where it is, how large, pinned, leased, used",
       .answers = {{200, "AdapterList", "By name; next is what to ask after, or null"},
                   {400, "Error", "limit is wrong"}},
       .query = {{"limit", "How many at most", R"({"type":"integer","minimum":1,"maximum":10000})"},
                 {"after", "Those behind this name", R"({"type":"string"})"}}});
  routes.push_back({.method = "POST",
                    .path = "/v1/adapters/load",
                    .handler = [&api](const auto& exchange) { load_batch(api, *exchange); },
                    .may_wait = true,
                    .summary = "Brings several adapters into host memory, and waits until they are there",
                    .body = "LoadBatch",
                    .answers = {{200, "BatchOutcome", "Some are there; failed says which are not"},
                                {400, "LoadRefusal", "The body is wrong, or the first adapter's name or uri"},
                                {404, "BatchOutcome", "None is there"},
                                {409, "BatchOutcome", "None is there"},
                                {413, "LoadRefusal", "None is there: the first is too large"},
                                {422, "BatchOutcome", "None is there: the first is damaged"},
                                {500, "BatchOutcome", "None is there: the first cannot be read"},
                                {502, "BatchOutcome", "None is there: its origin failed"},
                                {503, "BatchOutcome", "None is there: try again"},
                                {504, "BatchOutcome", "None is there: it took too long"}}});
  routes.push_back(
      {.method = "GET",
       .path = "/v1/adapters/{name}",
       .handler = [&api](const auto& exchange) { reply_status(api, *exchange, exchange->path_parts[0]); },
       .summary = "One adapter",
       .answers = {{200, "Adapter", "What is known of it"}, {404, "Error", "There is no such adapter"}},
       .is_instant = true});
  const std::vector<HttpAnswerDoc> moved = {{200, "Adapter", "What it is now"},
                                            {400, "Error", "The body is wrong"},
                                            {404, "Error", "There is no such adapter"},
                                            {409, "Error", "Held adapters leave no room"},
                                            {413, "Error", "More than a tier can hold"},
                                            {422, "Error", "Its files are damaged, or not served"},
                                            {500, "Error", "Its files cannot be read"},
                                            {502, "Error", "Its origin failed"},
                                            {503, "Error", "Try again"},
                                            {504, "Error", "It took too long"}};
  routes.push_back({.method = "POST",
                    .path = "/v1/adapters/{name}/pin",
                    .handler = [&api](const auto& exchange) { pin(api, *exchange); },
                    .may_wait = true,
                    .summary = "Brings an adapter into a tier and keeps it there",
                    .body = "Pin",
                    .answers = moved});
  routes.push_back({.method = "POST",
                    .path = "/v1/adapters/{name}/unpin",
                    .handler = [&api](const auto& exchange) { unpin(api, *exchange); },
                    .summary = "Lifts the pin of a tier and of those above it",
                    .body = "Tier",
                    .answers = moved});
  routes.push_back({.method = "POST",
                    .path = "/v1/adapters/{name}/prefetch",
                    .handler = [&api](const auto& exchange) { prefetch(api, *exchange); },
                    .summary = "Starts to bring an adapter into a tier; answers at once",
                    .body = "Tier",
                    .answers = moved});
  routes.push_back(
      {.method = "GET",
       .path = "/v1/resolve",
       .handler = [&api](const auto& exchange) { resolve(api, *exchange); },
       .may_wait = true,
       .summary = "Where an adapter comes from; nothing is loaded, no copy is named: leases do that",
       .answers = {{200, "Resolved", "It is there"},
                   {400, "Error", "name is missing"},
                   {404, "Error", "Nobody has it"},
                   {422, "Error", "What is there is no adapter of this service"},
                   {500, "Error", "A resolver failed, and nobody else has it"},
                   {502, "Error", "What a resolver asks failed"},
                   {503, "Error", "Try again"},
                   {504, "Error", "A resolver took too long, and nobody else has it"}},
       .query = {{"name", "Of the adapter", R"({"type":"string","minLength":1})", true}}});
}

}  // namespace loracle::service
