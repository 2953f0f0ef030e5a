#pragma once
/// Which of the adapters that were found are to be served, under which names, and in which order. Pure.

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/service/config.hpp"

namespace loracle::service {

/// A folder with an adapter in it.
struct Candidate {
  std::string name;      // of the folder
  std::string location;  // a directory or a URI
  std::string stamp;     // changes with its files
  std::vector<std::string> required;
  std::string trouble;    // why it cannot be served; empty: nothing known
  bool is_fresh = false;  // its files changed in the last minute
};

/// A name to be served, and what it is to be.
struct Wanted {
  std::string name;
  std::vector<const Candidate*>
      choices;  // of `found`; the first that can be served: the latest version first
};

struct DiscoveryPlan {
  std::vector<Wanted> wanted;         // in load order: what is required comes first, else by name
  std::vector<std::string> clashes;   // sorted
  std::vector<std::string> rejected;  // "name: reason", sorted
};

/// "support", "1.2" of "support@1.2"; the version is empty where there is none.
struct VersionedName {
  std::string_view base;
  std::string_view version;
};
[[nodiscard]] VersionedName split_version(std::string_view name) noexcept;

[[nodiscard]] bool is_included(const DiscoveryConfig& config, const std::string& name);

/// `found` in the order of the prefixes; it outlives the plan. `owner_of` says who else has a name
/// ("--lora-modules", "a client"), or nothing.
[[nodiscard]] DiscoveryPlan plan_discovery(const std::vector<Candidate>& found,
                                           const std::function<std::string(const std::string&)>& owner_of);

}  // namespace loracle::service
