#pragma once
/// Resolvers: who is asked for an adapter that nobody knows yet, in order, until one has it.
///
/// A resolver turns a name into a location, a directory or a URI. The chain checks everything else, for all
/// of them alike: the name (nothing that could leave a directory), the base model that was asked for, and
/// what lies at the location: an adapter config, of the served base model where it names one.
/// Invariants:
///  1. A resolver that throws, crashes its call, hangs past its deadline or answers nonsense costs its call
///     and no more: the next one is asked. Each call runs on a thread of its own; one that hangs is given up
///     and counted, and its resolver is passed over while `hung_max` of its calls hang. A resolver that
///     crashed is not asked again.
///  2. Callers who want the same name at the same time share one round of questions.
///  3. That nobody has an adapter is remembered for negative_ttl_ms, of kNamesRemembered names at most; a
///     round in which somebody failed is not remembered.
/// Cost: a thread for each question; nothing here is on the path of an adapter that is known.
/// Threads: any. Errors: kInvalid (the name; a base model that is not served, or not the adapter's),
/// kNotFound (nobody has it; says what each resolver said), kDeadline, kCancelled (stopped), kIo, kCorrupt
/// and others of who failed, where nobody else had it.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/env.hpp"
#include "loracle/service/config.hpp"
#include "loracle/service/ports.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

/// One of a chain.
class AdapterResolver {
 public:
  virtual ~AdapterResolver() = default;
  /// As resolver.chain has it.
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;
  /// A directory or a URI; kNotFound: it has none. Called from several threads at once; the name is checked.
  [[nodiscard]] virtual Result<std::string> locate(const std::string& base_model,
                                                   const std::string& name) = 0;
};

/// What resolvers may need, borrowed. A call that hangs may come back to it after the chain has gone: keep it
/// until the process ends, or until no call hangs.
struct ResolverWorld {
  TimeSource* clock = nullptr;
  Files* files = nullptr;                 // adapters are read through
  std::vector<StorageProvider*> storage;  // of URIs
  std::vector<std::string> base_models;   // accepted; empty: any
  /// Where the catalog knows an adapter of this name to be; kNotFound. May be empty: there is no catalog.
  std::function<Result<std::string>(const std::string& name)> catalog;
};

/// Makes a resolver, or answers null where the config has nothing for it.
using MakeResolver = std::function<Result<std::shared_ptr<AdapterResolver>>(const ResolverConfig& config,
                                                                            const ResolverWorld& world)>;

/// NAME of `lora_NAME_resolver`, the form vLLM's plugins have; any other name as it is.
[[nodiscard]] std::string plain_resolver_name(const std::string& name);

/// Resolvers by name, in the order of "all". Holds filesystem, s3, catalog and http when it is made.
/// `lora_NAME_resolver`, vLLM's form, is accepted for each NAME.
class ResolverRegistry {
 public:
  ResolverRegistry();
  /// Errors: kInvalid (the name is taken, or is none).
  [[nodiscard]] Result<Unit> add(std::string name, MakeResolver make);
  [[nodiscard]] std::vector<std::string> names() const;
  /// Those of config.chain, plugins loaded. Errors: kInvalid for a name that is unknown or not configured,
  /// and those of load_resolver_plugin; nothing is half started.
  [[nodiscard]] Result<std::vector<std::shared_ptr<AdapterResolver>>> make_chain(
      const ResolverConfig& config, const ResolverWorld& world) const;

 private:
  struct Entry {
    std::string name;
    MakeResolver make;
  };
  std::vector<Entry> entries_;
};

/// A resolver of a shared object (loracle_resolver.h). Errors: kNotFound, kInvalid (no shared object, no
/// plugin, another version of the interface, it refused to start); messages begin with the path.
[[nodiscard]] Result<std::shared_ptr<AdapterResolver>> load_resolver_plugin(const std::string& path,
                                                                            std::uint32_t deadline_ms);

struct ResolverStats {
  std::string name;
  std::uint64_t asked = 0;
  std::uint64_t found = 0;
  std::uint64_t failed = 0;       // errors other than kNotFound
  std::uint64_t timed_out = 0;    // ever
  std::uint64_t hung = 0;         // now
  std::uint64_t passed_over = 0;  // while too many hung, or after a crash
  bool crashed = false;
};

struct ResolverChainStats {
  std::uint64_t requests = 0;
  std::uint64_t shared = 0;              // joined a round that was under way
  std::uint64_t negatives_answered = 0;  // from memory
  std::vector<ResolverStats> resolvers;
};

class ResolverChain final : public Resolver {
 public:
  static constexpr std::size_t kNamesRemembered = 1024;
  static constexpr std::uint32_t kHungMax = 4;

  ResolverChain(std::vector<std::shared_ptr<AdapterResolver>> resolvers, const ResolverConfig& config,
                ResolverWorld world);
  ResolverChain(const ResolverChain&) = delete;
  ResolverChain& operator=(const ResolverChain&) = delete;
  /// Calls that hang outlive it.
  ~ResolverChain() override;

  [[nodiscard]] Result<ResolvedAdapter> resolve(const std::string& base_model,
                                                const std::string& name) override;
  /// Calls that are under way then count as hung, until they come back.
  void stop() noexcept override;
  /// Adapters may have come: what was remembered is asked again.
  void forget_negatives();
  [[nodiscard]] ResolverChainStats stats() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace loracle
