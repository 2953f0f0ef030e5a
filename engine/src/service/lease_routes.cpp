/// Acquire, renew, release: adapters on the device while a client uses them.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "service/api.hpp"
#include "service/error_kinds.hpp"

namespace loracle::service {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kBatchMax = 256;
constexpr int kClientClosedRequest = 499;  // as nginx has it; for the log and the metrics

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// One acquire on its way.
struct Asked {
  std::vector<std::string> names;
  bool is_single = false;  // by the adapter's own route
  bool wants_files = false;
  AcquireOptions options;
  double ttl_s = kLeaseTtlDefaultS;
  std::string tenant;
  std::uint64_t arrived_ns = 0;
};

/// `files`: where its files are held for the lease; or there are none, and the slot has it all the same.
Json leased_json(const std::string& name, const LeasedAdapter& leased, const Result<LocalCopy>& files) {
  return {{"name", name},
          {"lora_int_id", leased.id},
          {"slot", leased.slot},
          {"rank", leased.rank},
          {"directory", files ? Json(files->directory) : Json(nullptr)}};
}

/// A request that found no room, or was not waited for, is demand too: a plan must know of it.
void capture_in_vain(Api& api, const Asked& asked) {
  if (!api.capture) return;
  CapturedRequest request;
  for (const std::string& name : asked.names) {
    const Result<AdapterStatus> status = api.engine.status(name);
    request.adapters.push_back({name, status ? status->bytes : 0, status ? status->rank : 0});
  }
  request.tenant = asked.tenant;
  request.arrived_ns = asked.arrived_ns;
  api.capture->add(request);
}

/// May take long where files are wanted.
void grant(Api& api, HttpExchange& exchange, const Asked& asked, Lease lease) {
  Json adapters = Json::array();
  LeaseRecord record;
  const std::span<const LeasedAdapter> leased = lease.adapters();
  for (std::size_t i = 0; i < leased.size(); ++i) {
    const Result<AdapterStatus> status = api.engine.status(asked.names[i]);
    const std::string& name = asked.names[i];
    const Result<LocalCopy> files =
        api.engine.files_of(leased[i], asked.wants_files ? Fetching::kIfMissing : Fetching::kNotAllowed);
    if (asked.wants_files && !files) {
      lease.let_go();  // first: who is refused holds nothing
      return exchange.reply(error_reply(files.error()));
    }
    if (files) record.files.push_back(files->hold);
    adapters.push_back(leased_json(name, leased[i], files));
    // It may have been unloaded a moment ago; the lease is still good.
    record.adapters.push_back({name, status ? status->bytes : 0, leased[i].rank});
  }
  record.names = asked.names;
  record.tenant = asked.tenant;
  record.arrived_ns = asked.arrived_ns;
  const Result<std::string> id = api.leases->add(std::move(lease), std::move(record), asked.ttl_s);
  if (!good(exchange, id)) return;
  Json json = {{"lease", *id}, {"expires_in_s", asked.ttl_s}};
  if (asked.is_single)
    json.update(adapters[0]);
  else
    json["adapters"] = std::move(adapters);
  const Json event = {{"lease", id->substr(0, 8)}, {"names", asked.names}};
  api.events.publish("leased", dump(event));
  HttpReply reply;
  reply.body = dump(json);
  reply.lost = [&api, id = *id] { static_cast<void>(api.leases->release(id, {})); };
  exchange.reply(std::move(reply));
}

HttpReply abandoned_reply() {
  return error_reply(kClientClosedRequest, "ClientClosedRequest",
                     "the connection was ended before the lease was there: none is held");
}

/// Fetches the files first. Whoever tells of the lease must not wait for a disk or a bucket.
void grant_later(Api& api, const std::shared_ptr<HttpExchange>& exchange,
                 const std::shared_ptr<const Asked>& asked, Lease lease) {
  const auto held = std::make_shared<Lease>(std::move(lease));  // a std::function must be copyable
  const auto fetch_and_grant = [&api, exchange, asked, held] {
    const std::uint64_t gone_ns = api.clock.now_ns() - asked->arrived_ns;
    const bool is_abandoned = *asked->options.abandoned;
    if (!is_abandoned && left_of(asked->options, gone_ns).timeout_ns > 0)
      return grant(api, *exchange, *asked, std::move(*held));
    held->let_go();
    exchange->reply(is_abandoned
                        ? abandoned_reply()
                        : error_reply({Errc::kDeadline, "its files were not here in the time given", 0}));
  };
  if (api.server.load()->run_waiting(fetch_and_grant)) return;
  held->let_go();
  exchange->reply(busy_reply("too many requests wait already: try again soon"));
}

/// All names are known. Answers when the lease is there; no thread waits for it.
void acquire_known(Api& api, const std::shared_ptr<HttpExchange>& exchange,
                   const std::shared_ptr<const Asked>& asked) {
  api.waiting.add(asked->names);
  const std::vector<std::string_view> names(asked->names.begin(), asked->names.end());
  const AcquireOptions options = left_of(asked->options, api.clock.now_ns() - asked->arrived_ns);
  api.engine.acquire_async(names, options, [&api, exchange, asked](Result<Lease> lease) {
    api.waiting.remove(asked->names);
    if (*asked->options.abandoned) {
      // Nobody would learn the lease's id: it would hold a slot until its time is over.
      if (lease) lease->let_go();
      capture_in_vain(api, *asked);
      return exchange->reply(abandoned_reply());
    }
    if (lease) {
      const std::span<const LeasedAdapter> leased = lease->adapters();
      const bool must_fetch =
          asked->wants_files &&
          std::any_of(leased.begin(), leased.end(), [](const LeasedAdapter& one) { return one.is_remote; });
      return must_fetch ? grant_later(api, exchange, asked, std::move(*lease))
                        : grant(api, *exchange, *asked, std::move(*lease));
    }
    if (is_lack_of_room(lease.error().code)) capture_in_vain(api, *asked);
    exchange->reply(error_reply(lease.error()));
  });
}

void resolve_then_acquire(Api& api, const std::shared_ptr<HttpExchange>& exchange,
                          const std::shared_ptr<const Asked>& asked) {
  for (const std::string& name : asked->names) {
    if (api.engine.status(name)) continue;
    const Result<Unit> found = api.resolve(name);
    if (found) continue;
    if (found.error().code != Errc::kNotFound) return exchange->reply(error_reply(found.error()));
    return exchange->reply(unknown_reply(api, name));
  }
  acquire_known(api, exchange, asked);
}

/// What both forms of the request have in common.
bool take_terms(Api& api, HttpExchange& exchange, const JsonBody& body, Asked& asked) {
  const Result<AcquireOptions> timeout = terms_of(api, exchange, body);
  const Result<std::optional<double>> ttl = body.number("ttl_s", kLeaseTtlMinS, kLeaseTtlMaxS);
  Result<std::optional<std::string>> tenant = body.text("tenant");
  const Result<bool> files = body.boolean("files", false);
  if (!good(exchange, timeout) || !good(exchange, ttl) || !good(exchange, tenant) || !good(exchange, files))
    return false;
  asked.wants_files = *files;
  asked.options = *timeout;
  asked.ttl_s = ttl->value_or(kLeaseTtlDefaultS);
  asked.tenant = tenant->value_or("");
  asked.arrived_ns = exchange.begun_ns;
  return true;
}

void begin(Api& api, const std::shared_ptr<HttpExchange>& exchange, Asked terms) {
  const auto asked = std::make_shared<const Asked>(std::move(terms));
  bool all_known = true;
  for (const std::string& name : asked->names) all_known = all_known && api.engine.status(name).has_value();
  if (all_known) return acquire_known(api, exchange, asked);
  if (!api.server.load()->run_waiting(
          [&api, exchange, asked] { resolve_then_acquire(api, exchange, asked); }))
    exchange->reply(busy_reply("too many requests wait already: try again soon"));
}

void acquire_one(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  constexpr std::string_view kKeys[] = {"ttl_s", "timeout_s", "tenant", "files"};
  const std::optional<JsonBody> body = take_body(*exchange, kKeys);
  if (!body) return;
  Asked asked;
  if (!take_terms(api, *exchange, *body, asked)) return;
  asked.names = {exchange->path_parts[0]};
  asked.is_single = true;
  begin(api, exchange, std::move(asked));
}

void acquire_batch(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  constexpr std::string_view kKeys[] = {"adapters", "ttl_s", "timeout_s", "tenant", "files"};
  const std::optional<JsonBody> body = take_body(*exchange, kKeys);
  if (!body) return;
  Asked asked;
  if (!take_terms(api, *exchange, *body, asked)) return;
  Result<std::vector<std::string>> names = body->texts("adapters", kBatchMax);
  if (!good(*exchange, names)) return;
  asked.names = std::move(*names);
  begin(api, exchange, std::move(asked));
}

std::string name_in(const HttpExchange& exchange) {
  return exchange.path_parts.empty() ? std::string() : exchange.path_parts[0];
}

void release(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"lease"};
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<std::string> id = body->required_text("lease");
  if (!good(exchange, id)) return;
  if (!good(exchange, api.leases->release(*id, name_in(exchange)))) return;
  exchange.reply({.body = R"({"released":true})"});
}

void renew(Api& api, HttpExchange& exchange) {
  constexpr std::string_view kKeys[] = {"lease", "ttl_s"};
  const std::optional<JsonBody> body = take_body(exchange, kKeys);
  if (!body) return;
  const Result<std::string> id = body->required_text("lease");
  const Result<std::optional<double>> ttl = body->number("ttl_s", kLeaseTtlMinS, kLeaseTtlMaxS);
  if (!good(exchange, id) || !good(exchange, ttl)) return;
  const double ttl_s = ttl->value_or(kLeaseTtlDefaultS);
  if (!good(exchange, api.leases->renew(*id, name_in(exchange), ttl_s))) return;
  const Json json = {{"lease", *id}, {"expires_in_s", ttl_s}};
  exchange.reply({.body = dump(json)});
}

}  // namespace

void add_lease_routes(Api& api, std::vector<HttpRoute>& routes) {
  const std::vector<HttpAnswerDoc> acquired = {
      {400, "Error", "The body is wrong"},
      {404, "Error", "There is no such adapter, and no resolver found it"},
      {409, "Error", "Pins leave no room, and no lease will end that"},
      {413, "Error", "More than a tier can hold"},
      {499, "Error", "The client ended the connection while it waited: no lease is held"},
      {422, "Error", "The adapter's files are damaged or of a kind that is not served"},
      {500, "Error", "The adapter's files cannot be read"},
      {502, "Error", "Where they come from refuses them, or is out of order"},
      {503, "Error", "Too many wait already: try again after Retry-After"},
      {504, "Error", "There was no room in time"}};
  std::vector<HttpAnswerDoc> single = acquired;
  single.insert(single.begin(), {200, "Lease", "It is on the device until the lease ends"});
  std::vector<HttpAnswerDoc> batch = acquired;
  batch.insert(batch.begin(), {200, "BatchLease", "All are on the device until the lease ends"});
  routes.push_back({.method = "POST",
                    .path = "/v1/adapters/{name}/acquire",
                    .handler = [&api](const auto& exchange) { acquire_one(api, exchange); },
                    .summary = "Brings an adapter onto the device and keeps it there for the lease's time",
                    .body = "Acquire",
                    .answers = single});
  routes.push_back({.method = "POST",
                    .path = "/v1/acquire",
                    .handler = [&api](const auto& exchange) { acquire_batch(api, exchange); },
                    .summary = "The same for several adapters that are needed together",
                    .body = "AcquireBatch",
                    .answers = batch});
  const std::vector<HttpAnswerDoc> released = {{200, "Released", "It has ended"},
                                               {400, "Error", "lease is missing"},
                                               {404, "Error", "There is no such lease (any more)"}};
  const std::vector<HttpAnswerDoc> renewed = {{200, "Renewed", "It ends that much later, counted from now"},
                                              {400, "Error", "The body is wrong"},
                                              {404, "Error", "There is no such lease (any more)"}};
  for (const std::string_view path : {"/v1/adapters/{name}/release", "/v1/release"}) {
    routes.push_back({.method = "POST",
                      .path = path,
                      .handler = [&api](const auto& exchange) { release(api, *exchange); },
                      .summary = "Ends a lease",
                      .body = "LeaseId",
                      .answers = released,
                      .ends_work = true});
  }
  for (const std::string_view path : {"/v1/adapters/{name}/renew", "/v1/renew"}) {
    routes.push_back({.method = "POST",
                      .path = path,
                      .handler = [&api](const auto& exchange) { renew(api, *exchange); },
                      .summary = "Gives a lease more time",
                      .body = "Renew",
                      .answers = renewed,
                      .ends_work = true});
  }
}

}  // namespace loracle::service
