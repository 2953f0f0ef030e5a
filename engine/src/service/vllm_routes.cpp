/// vLLM's own routes. Bodies, codes and messages are vLLM's to the letter: clients compare them.

#include <fmt/format.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "loracle/engine/discovery.hpp"
#include "service/api.hpp"
#include "service/error_kinds.hpp"

namespace loracle::service {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

HttpReply text_reply(std::string text) {
  HttpReply reply;
  reply.body = std::move(text);
  reply.type = "text/plain; charset=utf-8";
  return reply;
}

/// vLLM lets unknown keys through, and answers what it cannot read with "Bad Request".
std::optional<JsonBody> take_vllm_body(HttpExchange& exchange) {
  const auto refuse = [&](std::string_view why) {
    exchange.reply(error_reply(400, "Bad Request", why));
    return std::nullopt;
  };
  if (!is_json_type(exchange.header("content-type")))
    return refuse("Unsupported Media Type: Only 'application/json' is allowed");
  if (exchange.body.empty()) return refuse("the body is empty: send a JSON object");
  Result<JsonBody> body = JsonBody::parse(exchange.body, {}, false);
  if (!body) return refuse(body.error().message);
  return std::move(*body);
}

bool may_update(const Api& api, HttpExchange& exchange) {
  if (api.config.runtime_updating) return true;
  exchange.reply(error_reply(404, "Not Found", "Not Found"));  // vLLM has no such route then
  return false;
}

void reply_user_error(HttpExchange& exchange, std::string_view message) {
  exchange.reply(error_reply(400, "InvalidUserInput", message));
}

void load_adapter(Api& api, HttpExchange& exchange) {
  if (!may_update(api, exchange)) return;
  const std::optional<JsonBody> body = take_vllm_body(exchange);
  if (!body) return;
  const Result<std::optional<std::string>> given_name = body->text("lora_name");
  const Result<std::optional<std::string>> given_path = body->text("lora_path");
  const Result<bool> in_place = body->boolean("load_inplace", false);
  for (const std::string* fault :
       {given_name ? nullptr : &given_name.error().message,
        given_path ? nullptr : &given_path.error().message, in_place ? nullptr : &in_place.error().message})
    if (fault != nullptr) return exchange.reply(error_reply(400, "Bad Request", *fault));
  const std::string name = given_name->value_or("");
  const std::string path = given_path->value_or("");
  if (name.empty() || path.empty())
    return reply_user_error(exchange, "Both 'lora_name' and 'lora_path' must be provided.");
  if (const Result<Unit> usable = check_adapter_name(name); !usable)
    return reply_user_error(exchange, usable.error().message);
  const auto lock = api.names.lock(name);
  if (!*in_place && api.engine.status(name)) {
    return reply_user_error(
        exchange,
        fmt::format("The lora adapter '{}' has already been loaded. If you want to load the adapter "
                    "in place, set 'load_inplace' to True.",
                    name));
  }
  const Result<AdapterStatus> before = api.engine.status(name);
  const auto failed = [&](const Error& error) {
    api.log->write(LogLevel::kWarning, "load failed",
                   {{"id", exchange.request_id}, {"adapter", name}, {"error", error.message}});
    if (error.code == Errc::kCancelled) return exchange.reply(error_reply(error));
    if (error.code == Errc::kInvalid && error.detail == EACCES)
      return reply_user_error(exchange, error.message);
    if (error.code == Errc::kNotFound) {
      return exchange.reply(error_reply(
          404, "NotFoundError", fmt::format("Loading lora {} failed: No adapter found for {}", name, path)));
    }
    exchange.reply(error_reply(500, "InternalServerError",
                               fmt::format("Call to add_lora method failed: {}", error.message)));
  };
  if (const Result<std::uint32_t> id = api.engine.add(name, path); !id) return failed(id.error());
  // vLLM answers when the adapter is in memory, so that a bad one is refused here and not when it is used.
  const std::string_view names[] = {name};
  if (const Result<Unit> loaded = api.engine.load_many(names, api.timeout()); !loaded) {
    if (!is_lack_of_room(loaded.error().code)) {
      // What was there before goes on being served, or is tried again where it cannot be had now.
      const Result<std::uint32_t> back =
          before ? api.engine.add(name, before->uri.empty() ? before->directory : before->uri)
                 : Result<std::uint32_t>(fail(Errc::kNotFound, "it was not there"));
      if (!back && !is_transient(back.error().code) && api.engine.remove(name)) {
        api.base_models.forget(name);
        if (before) api.tell("unloaded", name);
      }
      return failed(loaded.error());
    }
  }
  api.tell("loaded", name);
  api.log->write(LogLevel::kInfo, "adapter loaded",
                 {{"id", exchange.request_id}, {"adapter", name}, {"path", path}});
  exchange.reply(text_reply(fmt::format("Success: LoRA adapter '{}' added successfully.", name)));
}

void unload_adapter(Api& api, HttpExchange& exchange) {
  if (!may_update(api, exchange)) return;
  const std::optional<JsonBody> body = take_vllm_body(exchange);
  if (!body) return;
  const Result<std::optional<std::string>> given_name = body->text("lora_name");
  if (!given_name) return exchange.reply(error_reply(400, "Bad Request", given_name.error().message));
  const std::string name = given_name->value_or("");
  if (name.empty())
    return reply_user_error(exchange, "'lora_name' needs to be provided to unload a LoRA adapter.");
  const auto lock = api.names.lock(name);
  if (const Result<Unit> removed = api.engine.remove(name); !removed) {
    if (removed.error().code != Errc::kNotFound) return exchange.reply(error_reply(removed.error()));
    return exchange.reply(
        error_reply(404, "NotFoundError", fmt::format("The lora adapter '{}' cannot be found.", name)));
  }
  api.base_models.forget(name);
  api.tell("unloaded", name);
  api.log->write(LogLevel::kInfo, "adapter unloaded", {{"id", exchange.request_id}, {"adapter", name}});
  exchange.reply(text_reply(fmt::format("Success: LoRA adapter '{}' removed successfully.", name)));
}

void refresh_discovery(Api& api, HttpExchange& exchange) {
  if (!may_update(api, exchange)) return;
  if (!take_body(exchange, {})) return;
  if (api.discovery == nullptr) {
    return reply_user_error(exchange, "no directory prefix is configured: start with --lora-dir-prefix");
  }
  const Result<DiscoveryReport> report = api.discovery->refresh();
  if (!report) return exchange.reply(error_reply(report.error()));
  const Json json = {
      {"message",
       fmt::format("Successfully refreshed LoRA discovery. Found {} total adapters, {} newly discovered.",
                   report->found_total, report->added.size())},
      {"discovered_adapters", report->added},
      {"total_adapters", report->found_total}};
  exchange.reply({.body = dump(json)});
}

}  // namespace

void add_vllm_routes(Api& api, std::vector<HttpRoute>& routes) {
  routes.push_back({.method = "GET",
                    .path = "/v1/models",
                    .handler =
                        [&api](const auto& exchange) {
                          exchange->reply({.body = {}, .shared_body = api.models.text(api)});
                        },
                    .summary = "The base model and every adapter that is known, as OpenAI and vLLM list them",
                    .answers = {{200, "ModelList", "All of them"}}});
  routes.push_back({.method = "POST",
                    .path = "/v1/load_lora_adapter",
                    .handler = [&api](const auto& exchange) { load_adapter(api, *exchange); },
                    .may_wait = true,
                    .summary = "Makes an adapter known by a name, and brings it into memory",
                    .body = "LoadLoraAdapter",
                    .answers = {{200, "text", "It is loaded"},
                                {400, "Error", "A field is missing, or the name is taken"},
                                {404, "Error", "There is no adapter at the path"},
                                {500, "Error", "What is there cannot be loaded"}}});
  routes.push_back({.method = "POST",
                    .path = "/v1/unload_lora_adapter",
                    .handler = [&api](const auto& exchange) { unload_adapter(api, *exchange); },
                    .may_wait = true,
                    .summary = "Forgets an adapter and frees its memory, once nobody leases it",
                    .body = "UnloadLoraAdapter",
                    .answers = {{200, "text", "It is forgotten"},
                                {400, "Error", "The name is missing"},
                                {404, "Error", "There is no such adapter"},
                                {500, "Error", "The catalog cannot be written"}}});
  routes.push_back({.method = "POST",
                    .path = "/v1/refresh_lora_discovery",
                    .handler = [&api](const auto& exchange) { refresh_discovery(api, *exchange); },
                    .may_wait = true,
                    .summary = "Looks for adapters now",
                    .body = "Empty",
                    .answers = {{200, "Discovery", "What was found"},
                                {400, "Error", "There is nowhere to look"},
                                {500, "Error", "No prefix can be listed"}}});
}

}  // namespace loracle::service
