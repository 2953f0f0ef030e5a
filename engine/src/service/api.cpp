#include "service/api.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace loracle::service {

void WaitingNames::add(const std::vector<std::string>& names) {
  const std::lock_guard lock(mutex_);
  for (const std::string& name : names) ++counts_[name];
}

void WaitingNames::remove(const std::vector<std::string>& names) {
  const std::lock_guard lock(mutex_);
  for (const std::string& name : names)
    if (const auto found = counts_.find(name); --found->second == 0) counts_.erase(found);
}

std::vector<std::string> WaitingNames::sorted() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, count] : counts_) names.push_back(name);
  return names;
}

NameLocks::Held NameLocks::lock(const std::string& name) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !held_.contains(name); });
  held_.insert(name);
  return {*this, name};
}

void NameLocks::unlock(const std::string& name) {
  {
    const std::lock_guard lock(mutex_);
    held_.erase(name);
  }
  changed_.notify_all();
}

void BaseModels::set(const std::string& name, const std::string& base_model) {
  const std::lock_guard lock(mutex_);
  ++changes_;
  if (base_model.empty())
    names_.erase(name);
  else
    names_[name] = base_model;
}

void BaseModels::forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  changes_ += names_.erase(name);
}

std::uint64_t BaseModels::changes() const {
  const std::lock_guard lock(mutex_);
  return changes_;
}

std::string BaseModels::of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(name);
  return found == names_.end() ? std::string() : found->second;
}

void LeftOut::set(std::vector<std::string> reasons) {
  std::sort(reasons.begin(), reasons.end());
  const std::lock_guard lock(mutex_);
  reasons_ = std::move(reasons);
}

std::string LeftOut::reason_of(std::string_view name) const {
  const std::string begin = fmt::format("{}: ", name);
  const std::lock_guard lock(mutex_);
  const auto found = std::lower_bound(reasons_.begin(), reasons_.end(), begin);
  return found != reasons_.end() && found->starts_with(begin) ? found->substr(begin.size()) : std::string();
}

Error LeftOut::explained(Error error, std::string_view name) const {
  if (error.code != Errc::kNotFound) return error;
  if (const std::string reason = reason_of(name); !reason.empty())
    error.message = fmt::format("adapter '{}' was found, and left out: {}", name, reason);
  return error;
}

HttpReply unknown_reply(const Api& api, std::string_view name) {
  const std::string reason = api.left_out.reason_of(name);
  return error_reply(404, "NotFoundError",
                     reason.empty()
                         ? fmt::format("LoRA adapter {} does not exist", name)
                         : fmt::format("LoRA adapter {} was found, and left out: {}", name, reason));
}

Result<Unit> Api::resolve(const std::string& name) {
  if (!config.runtime_updating)  // vLLM asks its resolvers only where clients may change adapters
    return fail(Errc::kNotFound, fmt::format("adapter '{}': is not known, and engine.runtime_updating is "
                                             "false: no resolver is asked",
                                             name));
  if (resolver == nullptr)
    return fail(Errc::kNotFound, fmt::format("adapter '{}': nobody has mentioned it, and no resolver is set "
                                             "up to look for it: load it, or refresh the discovery",
                                             name));
  const Result<ResolvedAdapter> found = resolver->resolve(config.base_model, name);
  if (!found) {
    metrics.count_resolve(found.error().code == Errc::kNotFound ? "not_found" : "failed");
    return fail(found.error());
  }
  const auto lock = names.lock(name);      // not before: those who ask for one name share one answer
  if (engine.status(name)) return Unit{};  // somebody else was quicker
  const Result<std::uint32_t> id = engine.add(name, found->location);
  metrics.count_resolve(id ? "found" : "failed");
  if (!id) return fail(id.error());
  base_models.set(name, found->base_model);
  log->write(LogLevel::kInfo, "adapter resolved", {{"adapter", name}, {"uri", found->location}});
  tell("loaded", name);
  return Unit{};
}

std::shared_ptr<void> Api::begin_work() {
  ++works;
  return {this, [this](void*) { --works; }};
}

void Api::tell(std::string_view event, std::string_view name) {
  const nlohmann::ordered_json json = {{"name", name}};
  events.publish(event, json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

MetricsReading Api::reading() {
  MetricsReading reading;
  reading.engine = engine.stats();
  reading.adapters = engine.list();
  std::erase_if(reading.adapters, [](const AdapterStatus& a) { return !a.on_device && !a.on_host; });
  reading.waiting = waiting.sorted();
  const HttpServer* const http = server;
  reading.front = http->counts();
  reading.http_queued = http->queued();
  reading.http_queue_refusals = http->queue_refusals();
  reading.leases = leases->size();
  reading.leases_expired = leases->expired();
  reading.event_streams = events.streams();
  if (capture) reading.capture = capture->counts();
  if (count_sources) reading.sources = count_sources();
  reading.ready = trouble().empty();
  reading.unix_s = clock.unix_s();
  return reading;
}

bool is_json_type(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return type == "application/json";
}

std::optional<JsonBody> take_body(HttpExchange& exchange, std::span<const std::string_view> keys) {
  // A page in somebody's browser may post forms to any address, but not JSON.
  if (!exchange.body.empty() && !is_json_type(exchange.header("content-type"))) {
    exchange.reply(error_reply(415, "UnsupportedMediaTypeError",
                               "the body must be JSON: send Content-Type: application/json"));
    return std::nullopt;
  }
  Result<JsonBody> body = JsonBody::parse(exchange.body, keys);
  if (!good(exchange, body)) return std::nullopt;
  return std::move(*body);
}

Result<AcquireOptions> terms_of(const Api& api, const HttpExchange& exchange, const JsonBody& body) {
  const double limit_s = api.request_timeout_ms / 1000.0;
  const Result<std::optional<double>> seconds = body.number("timeout_s", 0, limit_s);
  if (!seconds) return fail(seconds.error());
  AcquireOptions options = api.timeout();
  if (*seconds) options.timeout_ns = static_cast<std::uint64_t>(**seconds * 1e9);
  options.abandoned = HttpFront::hung_up_flag(exchange.connection());
  return options;
}

AcquireOptions left_of(AcquireOptions options, std::uint64_t gone_ns) noexcept {
  if (options.timeout_ns != kNoDeadline) options.timeout_ns -= std::min(options.timeout_ns, gone_ns);
  return options;
}

Result<EngineTier> tier_of(const JsonBody& body, EngineTier otherwise) {
  const Result<std::optional<std::string>> tier = body.text("tier");
  if (!tier) return fail(tier.error());
  if (!*tier) return otherwise;
  if (**tier == "device") return EngineTier::kDevice;
  if (**tier == "host") return EngineTier::kHost;
  return fail(Errc::kInvalid, "tier must be \"device\" or \"host\"");
}

}  // namespace loracle::service
