#include "loracle/service/resolver.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/core/nearest.hpp"
#include "loracle/engine/adapter_config.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/service/settings.hpp"
#include "service/guarded_call.hpp"
#include "service/locations.hpp"

namespace loracle {
namespace {

using service::CallEnd;
using service::CallOutcome;
using service::Location;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Counters that calls change which may outlive the chain.
struct Counters {
  std::atomic<std::uint64_t> asked = 0;
  std::atomic<std::uint64_t> found = 0;
  std::atomic<std::uint64_t> failed = 0;
  std::atomic<std::uint64_t> timed_out = 0;
  std::atomic<std::int64_t> hung = 0;  // a call may come back before it is counted
  std::atomic<std::uint64_t> passed_over = 0;
  std::atomic<bool> crashed = false;
};

struct Member {
  std::shared_ptr<AdapterResolver> resolver;
  std::shared_ptr<Counters> counters = std::make_shared<Counters>();
};

/// What lies at a location must be an adapter of the base model. Its base model; empty where it names none.
Result<std::string> check_location(const ResolverWorld& world, const std::string& base_model,
                                   const std::string& text) {
  const Result<Location> location = service::location_of(text);
  if (!location) return fail(location.error());
  const Result<std::string> json = service::read_beside(*world.files, world.storage, *location,
                                                        "adapter_config.json", kAdapterConfigBytesMax);
  if (!json) return fail(json.error());
  const std::string path = without_secrets(location->place) + "/adapter_config.json";
  const Result<AdapterConfig> config = parse_adapter_config(*json, path);
  if (!config) return fail(config.error());
  if (config->base_model.empty()) return std::string();
  const bool accepted = world.base_models.empty() ? base_model.empty() || config->base_model == base_model
                                                  : contains(world.base_models, config->base_model);
  if (!accepted) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: is an adapter of '{}', which is not the base model '{}': take it "
                    "elsewhere, or add that name to engine.base_model_aliases",
                    path, config->base_model, base_model.empty() ? world.base_models.front() : base_model));
  }
  return config->base_model;
}

/// An answer that is being looked for, and everybody who waits for it.
struct Round {
  std::condition_variable ended;
  std::optional<Result<ResolvedAdapter>> answer;
};

struct Negative {
  std::uint64_t until_ns = 0;
  Error error;
};

using Key = std::pair<std::string, std::string>;  // base model, name

}  // namespace

struct ResolverChain::Parts {
  Parts(const ResolverConfig& asked, ResolverWorld given) : config(asked), world(std::move(given)) {}

  [[nodiscard]] static tl::unexpected<Error> stopped_error() {
    return fail(Errc::kCancelled, "the service is shutting down: nobody is asked any more");
  }

  /// Asks one; what it answers has been checked. Counts.
  Result<ResolvedAdapter> ask(const Member& member, const std::string& base_model, const std::string& name) {
    if (stopped) return stopped_error();
    Counters& counters = *member.counters;
    if (counters.crashed || counters.hung >= static_cast<std::int64_t>(kHungMax)) {
      ++counters.passed_over;
      return fail(Errc::kBusy, counters.crashed ? "crashed before, and is not asked any more"
                                                : "is passed over: too many of its calls hang");
    }
    ++counters.asked;
    // The world is copied: the call may outlive the chain.
    auto base = std::make_shared<std::string>();
    const CallOutcome outcome = service::call_guarded(
        *world.clock, std::uint64_t{config.deadline_ms} * 1'000'000,
        [resolver = member.resolver, world = world, base_model, name, base]() -> Result<std::string> {
          Result<std::string> location = resolver->locate(base_model, name);
          if (!location) return location;
          Result<std::string> checked = check_location(world, base_model, *location);
          if (!checked) return checked;
          *base = std::move(*checked);
          return location;
        },
        [counters = member.counters] { --counters->hung; }, stopped);
    switch (outcome.end) {
      case CallEnd::kTimedOut:
        ++counters.timed_out;
        ++counters.hung;
        return fail(Errc::kDeadline, fmt::format("did not answer within {} ms", config.deadline_ms));
      case CallEnd::kCancelled:
        ++counters.hung;
        return stopped_error();
      case CallEnd::kCrashed:
        counters.crashed = true;
        ++counters.failed;
        return fail(Errc::kIo, "crashed, and is not asked any more");
      case CallEnd::kNoThread:
        ++counters.failed;
        return fail(Errc::kBusy, "could not be asked: the system has no thread left");
      case CallEnd::kAnswered:
        break;
    }
    if (!outcome.answer) {
      if (outcome.answer.error().code != Errc::kNotFound) ++counters.failed;
      return fail(outcome.answer.error());
    }
    ++counters.found;
    ResolvedAdapter adapter{name, *outcome.answer, base_model};
    if (adapter.base_model.empty() && !world.base_models.empty())
      adapter.base_model = world.base_models.front();
    if (adapter.base_model.empty()) adapter.base_model = *base;
    return adapter;
  }

  /// All of them in turn. A refusal or failure is what is answered if nobody after it has the adapter.
  Result<ResolvedAdapter> ask_all(const std::string& base_model, const std::string& name) {
    std::optional<Error> worst;
    std::string said;
    for (const Member& member : members) {
      Result<ResolvedAdapter> answer = ask(member, base_model, name);
      if (answer || answer.error().code == Errc::kCancelled) return answer;
      const Error& error = answer.error();
      said += fmt::format("{}{}: {}", said.empty() ? "" : "; ", member.resolver->name(),
                          error.code == Errc::kNotFound ? "has none" : without_secrets(error.message));
      if (error.code != Errc::kNotFound && !worst) worst = error;
    }
    if (said.empty()) said = "no resolver is configured: set resolver.chain";
    return fail(worst ? worst->code : Errc::kNotFound,
                fmt::format("adapter '{}' cannot be resolved: {}", name, said), worst ? worst->detail : 0);
  }

  /// REQUIRES: `mutex` is held.
  void remember(const Key& key, const Error& error) {
    const bool lasting = error.code == Errc::kNotFound || error.code == Errc::kInvalid;
    if (!lasting || config.negative_ttl_ms == 0) return;
    const std::uint64_t now_ns = world.clock->now_ns();
    if (negatives.size() >= kNamesRemembered) {
      std::erase_if(negatives, [now_ns](const auto& entry) { return entry.second.until_ns <= now_ns; });
      if (negatives.size() >= kNamesRemembered) negatives.erase(negatives.begin());
    }
    negatives[key] = {now_ns + std::uint64_t{config.negative_ttl_ms} * 1'000'000, error};
  }

  ResolverConfig config;
  ResolverWorld world;
  std::vector<Member> members;
  std::atomic<bool> stopped = false;

  std::mutex mutex;
  std::map<Key, std::shared_ptr<Round>> rounds;  // under way
  std::map<Key, Negative> negatives;
  std::uint64_t forgotten = 0;  // how often; an answer from before is not remembered
  std::uint64_t requests = 0;
  std::uint64_t shared = 0;
  std::uint64_t negatives_answered = 0;
};

ResolverChain::ResolverChain(std::vector<std::shared_ptr<AdapterResolver>> resolvers,
                             const ResolverConfig& config, ResolverWorld world)
    : parts_(std::make_unique<Parts>(config, std::move(world))) {
  LORACLE_CHECK(parts_->world.clock != nullptr && parts_->world.files != nullptr);
  for (std::shared_ptr<AdapterResolver>& resolver : resolvers)
    parts_->members.push_back({std::move(resolver)});
}

ResolverChain::~ResolverChain() = default;

Result<ResolvedAdapter> ResolverChain::resolve(const std::string& base_model, const std::string& name) {
  Parts& parts = *parts_;
  if (Result<Unit> ok = check_adapter_name(name); !ok) return fail(std::move(ok.error()));
  const std::vector<std::string>& served = parts.world.base_models;
  if (!base_model.empty() && !served.empty() && !contains(served, base_model)) {
    return fail(Errc::kInvalid, fmt::format("base model '{}' is not served here: ask for {}", base_model,
                                            fmt::join(served, " or ")));
  }
  const Key key(base_model, name);
  std::unique_lock lock(parts.mutex);
  ++parts.requests;
  if (const auto known = parts.negatives.find(key); known != parts.negatives.end()) {
    if (parts.world.clock->now_ns() < known->second.until_ns) {
      ++parts.negatives_answered;
      return fail(known->second.error);
    }
    parts.negatives.erase(known);
  }
  if (const auto under_way = parts.rounds.find(key); under_way != parts.rounds.end()) {
    const std::shared_ptr<Round> round = under_way->second;
    ++parts.shared;
    round->ended.wait(lock, [&round] { return round->answer.has_value(); });
    return *round->answer;
  }
  const auto round = std::make_shared<Round>();
  parts.rounds.emplace(key, round);
  const std::uint64_t forgotten = parts.forgotten;
  lock.unlock();
  Result<ResolvedAdapter> answer = parts.ask_all(base_model, name);
  lock.lock();
  parts.rounds.erase(key);
  if (!answer && forgotten == parts.forgotten) parts.remember(key, answer.error());
  round->answer = answer;
  round->ended.notify_all();
  return answer;
}

void ResolverChain::stop() noexcept { parts_->stopped = true; }

void ResolverChain::forget_negatives() {
  const std::lock_guard lock(parts_->mutex);
  parts_->negatives.clear();
  ++parts_->forgotten;
}

ResolverChainStats ResolverChain::stats() const {
  ResolverChainStats stats;
  for (const Member& member : parts_->members) {
    const Counters& counters = *member.counters;
    stats.resolvers.push_back({std::string(member.resolver->name()), counters.asked, counters.found,
                               counters.failed, counters.timed_out,
                               static_cast<std::uint64_t>(std::max<std::int64_t>(counters.hung, 0)),
                               counters.passed_over, counters.crashed});
  }
  const std::lock_guard lock(parts_->mutex);
  stats.requests = parts_->requests;
  stats.shared = parts_->shared;
  stats.negatives_answered = parts_->negatives_answered;
  return stats;
}

}  // namespace loracle
