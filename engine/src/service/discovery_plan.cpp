#include "service/discovery_plan.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <set>
#include <utility>

#include "loracle/service/discovery_loop.hpp"
#include "loracle/service/settings.hpp"

namespace loracle {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Takes the next run of digits, or of anything else but separators, off the front. A '+' and what follows
/// (a build's number) counts like any other part.
std::string_view next_part(std::string_view& rest) noexcept {
  while (!rest.empty() && !is_digit(rest[0]) && !is_letter(rest[0]) &&
         static_cast<unsigned char>(rest[0]) < 0x80)
    rest.remove_prefix(1);
  std::size_t length = 0;
  const auto same_kind = [&](char c) {
    if (is_digit(rest[0])) return is_digit(c);
    return is_letter(c) || static_cast<unsigned char>(c) >= 0x80;
  };
  while (length < rest.size() && same_kind(rest[length])) ++length;
  const std::string_view part = rest.substr(0, length);
  rest.remove_prefix(length);
  return part;
}

int compare_parts(std::string_view a, std::string_view b) noexcept {
  // Text, then the end, then a number: 1.0-rc1 is before 1.0, and 1.0 before 1.0.1.
  const auto kind = [](std::string_view part) { return part.empty() ? 1 : is_digit(part[0]) ? 2 : 0; };
  if (kind(a) != kind(b)) return kind(a) - kind(b);
  if (kind(a) == 2) {
    a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
    b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
    if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  }
  return a.compare(b);
}

}  // namespace

int compare_versions(std::string_view a, std::string_view b) noexcept {
  for (;;) {
    const std::string_view part_a = next_part(a);
    const std::string_view part_b = next_part(b);
    if (const int order = compare_parts(part_a, part_b); order != 0) return order;
    if (part_a.empty()) return 0;
  }
}

namespace service {
namespace {

bool matches(const std::vector<std::string>& patterns, const std::string& name) {
  const std::string base(split_version(name).base);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0 ||
           ::fnmatch(pattern.c_str(), base.c_str(), 0) == 0;
  });
}

/// Orders names so that what is required comes first, and drops what cannot have it.
class LoadOrder {
 public:
  LoadOrder(std::map<std::string, Wanted>& names, std::map<std::string, std::string>& reasons,
            const std::function<std::string(const std::string&)>& owner_of)
      : names_(names), reasons_(reasons), owner_of_(owner_of) {}

  std::vector<Wanted> run() {
    for (const auto& [name, wanted] : names_) visit(name);
    std::vector<Wanted> ordered;
    for (const std::string& name : order_)
      if (!reasons_.contains(name)) ordered.push_back(std::move(names_.at(name)));
    return ordered;
  }

 private:
  struct Frame {
    std::string name;
    std::size_t next = 0;  // of its requirements
  };

  /// Depth first, without recursion: a chain may be as long as there are adapters.
  void visit(const std::string& first) {
    if (done_.contains(first)) return;
    path_.push_back({first});
    on_path_.insert(first);
    while (!path_.empty()) {
      Frame& at = path_.back();
      const std::vector<std::string>& required = names_.at(at.name).choices[0]->required;
      if (at.next == required.size()) {
        order_.push_back(at.name);
        done_.insert(at.name);
        on_path_.erase(at.name);
        path_.pop_back();
        if (!path_.empty()) take_back(path_.back());
        continue;
      }
      const std::string& need = required[at.next];
      if (on_path_.contains(need)) {
        report_cycle(need);
        ++at.next;
      } else if (names_.contains(need) && !done_.contains(need)) {
        path_.push_back({need});  // `at` is no longer valid
        on_path_.insert(need);
      } else {
        take_back(at);
      }
    }
  }

  /// The requirement at hand has been looked at: goes to the next one.
  void take_back(Frame& at) {
    const std::string& need = names_.at(at.name).choices[0]->required[at.next++];
    if (!names_.contains(need) && owner_of_(need).empty() && !reasons_.contains(need))
      reasons_.try_emplace(at.name,
                           fmt::format("requires '{}', which is nowhere: add that adapter, or take it out of "
                                       "loracle.json",
                                       need));
    else if (const auto refused = reasons_.find(need); refused != reasons_.end())
      reasons_.try_emplace(at.name, fmt::format("requires '{}', which is not served", need));
  }

  void report_cycle(const std::string& need) {
    const auto begin =
        std::find_if(path_.begin(), path_.end(), [&](const Frame& f) { return f.name == need; });
    std::string cycle;
    for (auto frame = begin; frame != path_.end(); ++frame) cycle += frame->name + " -> ";
    cycle += need;
    for (auto frame = begin; frame != path_.end(); ++frame)
      reasons_.try_emplace(
          frame->name, fmt::format("requires itself: {}: take one of these out of its loracle.json", cycle));
  }

  std::map<std::string, Wanted>& names_;
  std::map<std::string, std::string>& reasons_;
  const std::function<std::string(const std::string&)>& owner_of_;
  std::vector<Frame> path_;
  std::set<std::string> on_path_;
  std::set<std::string> done_;
  std::vector<std::string> order_;
};

}  // namespace

VersionedName split_version(std::string_view name) noexcept {
  const std::size_t at = name.rfind('@');
  if (at == std::string_view::npos || at == 0 || at + 1 == name.size()) return {name, {}};
  return {name.substr(0, at), name.substr(at + 1)};
}

bool is_included(const DiscoveryConfig& config, const std::string& name) {
  return (config.include.empty() || matches(config.include, name)) && !matches(config.exclude, name);
}

DiscoveryPlan plan_discovery(const std::vector<Candidate>& found,
                             const std::function<std::string(const std::string&)>& owner_of) {
  DiscoveryPlan plan;
  std::map<std::string, Wanted> names;
  std::map<std::string, std::string> reasons;
  std::map<std::string, std::vector<const Candidate*>> versions;  // by name without version
  for (const Candidate& candidate : found) {
    const std::string where = without_secrets(candidate.location);
    if (const std::string owner = owner_of(candidate.name); !owner.empty()) {
      plan.clashes.push_back(
          fmt::format("{}: {} has that name; {} is left out", candidate.name, owner, where));
      continue;
    }
    if (const auto other = names.find(candidate.name); other != names.end()) {
      plan.clashes.push_back(fmt::format("{}: is at {}, which comes first; {} is left out", candidate.name,
                                         without_secrets(other->second.choices[0]->location), where));
      continue;
    }
    names[candidate.name] = {candidate.name, {&candidate}};
    if (!candidate.trouble.empty()) {
      reasons[candidate.name] = candidate.trouble;
      continue;
    }
    const auto [base, version] = split_version(candidate.name);
    if (version.empty()) continue;
    versions[std::string(base)].push_back(&candidate);
  }
  for (auto& [base, candidates] : versions) {
    // Versions that compare alike (1.0 and 1.00) stay in the order of their prefixes.
    std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate* a, const Candidate* b) {
      return compare_versions(split_version(a->name).version, split_version(b->name).version) > 0;
    });
    std::string owner = owner_of(base);
    if (owner.empty() && names.contains(base))
      owner = "the folder " + without_secrets(names.at(base).choices[0]->location);
    if (!owner.empty()) {
      plan.clashes.push_back(fmt::format("{}: {} has that name; {} is served under its full name only", base,
                                         owner, candidates[0]->name));
      continue;
    }
    names[base] = {base, std::move(candidates)};
  }
  plan.wanted = LoadOrder(names, reasons, owner_of).run();
  for (const auto& [name, reason] : reasons) plan.rejected.push_back(fmt::format("{}: {}", name, reason));
  std::sort(plan.clashes.begin(), plan.clashes.end());
  return plan;
}

}  // namespace service
}  // namespace loracle
