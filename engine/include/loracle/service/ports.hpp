#pragma once
/// What the HTTP server asks of discovery and of resolvers, so that neither knows the other.
/// Threads: any, several at once. Errors are typed and say what to do; no secret is in them.

#include <cstdint>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

struct DiscoveryReport {
  std::uint64_t found_total = 0;   // adapters that discovery serves now
  std::vector<std::string> added;  // newly discovered, sorted
};

class Discovery {
 public:
  virtual ~Discovery() = default;
  /// Looks everywhere, now.
  [[nodiscard]] virtual Result<DiscoveryReport> refresh() = 0;
};

struct ResolvedAdapter {
  std::string name;
  std::string location;  // a directory of this machine, or a URI that Engine::add takes
  std::string base_model;
};

class Resolver {
 public:
  virtual ~Resolver() = default;
  /// Where an adapter that nobody knows yet is to be had. `base_model` may be empty: the served one.
  [[nodiscard]] virtual Result<ResolvedAdapter> resolve(const std::string& base_model,
                                                        const std::string& name) = 0;
  /// What is being looked for ends in kCancelled soon, and so does what is asked for from now on. For good: a
  /// service stops its resolver when it has waited long enough for what is under way.
  virtual void stop() noexcept {}
};

}  // namespace loracle
