#include "start_record.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

namespace loracle {
namespace {

constexpr std::uint64_t kGroupRequestsMin = 20;  // with fewer, one unlucky request is all there is to see
constexpr std::size_t kLevels = 58;

/// 0 to 98 % in steps of two, then where p99 and what lies beyond it are read.
constexpr std::array<double, kLevels> kLevelsOf = [] {
  std::array<double, kLevels> levels{};
  for (std::size_t i = 0; i < 50; ++i) levels[i] = static_cast<double>(2 * i) / 100;
  constexpr std::array<double, 8> kLast = {0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999, 0.9995, 1};
  for (std::size_t i = 0; i < kLast.size(); ++i) levels[50 + i] = kLast[i];
  return levels;
}();

/// As times_of rounds.
std::size_t place_of(double share, std::size_t count) noexcept {
  return static_cast<std::size_t>(share * static_cast<double>(count - 1));
}

/// Reorders what it is given.
Spread spread_of(std::vector<float>& times) {
  Spread spread;
  spread.count = times.size();
  const auto above = std::partition(times.begin(), times.end(), [](float time) { return !(time > 0); });
  spread.positive = static_cast<std::uint64_t>(times.end() - above);
  if (spread.positive == 0) return spread;
  std::sort(above, times.end());
  for (const double level : kLevelsOf)
    spread.at_s.push_back(above[static_cast<std::ptrdiff_t>(place_of(level, spread.positive))]);
  return spread;
}

/// REQUIRES: not empty. Reorders what it is given.
double p99_of(std::span<float> times) {
  const auto at = times.begin() + static_cast<std::ptrdiff_t>(place_of(0.99, times.size()));
  std::nth_element(times.begin(), at, times.end());
  return static_cast<double>(*at);
}

std::string name_at(const NameColumn& names, std::size_t i) {
  return i < names.size() ? std::string(names[i]) : "#" + std::to_string(i);
}

}  // namespace

std::span<const double> spread_levels() noexcept { return kLevelsOf; }

namespace detail {

StartRecord::StartRecord(const BatchStream& stream)
    : stream_(&stream),
      slot_wait_s_(stream.requests(), -1.0F),
      load_wait_s_(stream.requests(), 0.0F),
      load_s_(stream.uses.uses.size(), 0.0F),
      found_(stream.uses.uses.size(), Place::kNowhere),
      evictions_(stream.uses.uses.size(), 0) {}

void StartRecord::on_start(const StartedRequest& request) noexcept {
  slot_wait_s_[request.batch] = static_cast<float>(request.slot_wait_s);
  load_wait_s_[request.batch] = static_cast<float>(request.load_wait_s);
  std::uint64_t at = stream_->begin[request.batch];
  for (const StartedUse& use : request.uses) {
    load_s_[at] = static_cast<float>(use.load_s);
    found_[at] = use.found;
    for (const Caused& one : caused_)
      if (one.row == use.row) evictions_[at] += one.evictions;
    ++at;
  }
  caused_.clear();
}

void StartRecord::on_decision(const Decision& decision) noexcept {
  if (decision.action == Action::kEvict && decision.from == Place::kDevice) ++evicted_;
  if (decision.action != Action::kLoad || decision.from == Place::kDevice || evicted_ == 0) return;
  caused_.push_back({decision.row, std::exchange(evicted_, 0)});
}

DelayCauses StartRecord::delays(const EventOutcome& outcome) const {
  DelayCauses causes;
  causes.known = true;
  causes.slot_times = outcome.slot_wait;
  causes.load_times = outcome.load_wait;
  causes.delay_times = outcome.delay;
  std::vector<float> slot;
  std::vector<float> load;
  std::vector<float> both;
  for (std::uint64_t batch = 0; batch < stream_->requests(); ++batch) {
    if (!was_served(batch)) continue;
    slot.push_back(slot_wait_s_[batch]);
    load.push_back(load_wait_s_[batch]);
    both.push_back(slot_wait_s_[batch] + load_wait_s_[batch]);
  }
  causes.slot_wait = spread_of(slot);
  causes.load_wait = spread_of(load);
  causes.delay = spread_of(both);
  std::array<std::vector<float>, 3> by_tier;
  for (std::size_t use = 0; use < found_.size(); ++use) {
    if (found_[use] == Place::kNowhere) continue;
    by_tier[found_[use] == Place::kDevice ? 0 : found_[use] == Place::kHost ? 1 : 2].push_back(load_s_[use]);
  }
  for (std::size_t tier = 0; tier < by_tier.size(); ++tier) causes.load[tier] = spread_of(by_tier[tier]);
  return causes;
}

template <class Visit>
void StartRecord::for_each_request(std::span<const std::uint32_t> group_of, Visit visit) const {
  for (std::uint64_t batch = 0; batch < stream_->requests(); ++batch) {
    if (!was_served(batch)) continue;
    const std::uint64_t first = stream_->begin[batch];
    for (std::uint64_t use = first; use < stream_->begin[batch + 1]; ++use)
      if (use == first || group_of[use] != group_of[use - 1]) visit(group_of[use], batch);
  }
}

std::vector<ServedGroup> StartRecord::tally(std::span<const std::uint32_t> group_of,
                                            std::uint32_t groups) const {
  std::vector<ServedGroup> all(groups);
  for_each_request(group_of, [&](std::uint32_t group, std::uint64_t batch) {
    ++all[group].requests;
    all[group].waited += slot_wait_s_[batch] > 0 ? 1U : 0U;
  });
  for (std::size_t use = 0; use < found_.size(); ++use) {
    if (found_[use] == Place::kNowhere) continue;
    ServedGroup& one = all[group_of[use]];
    ++one.uses;
    one.gpu_hits += found_[use] == Place::kDevice ? 1U : 0U;
    one.disk_loads += found_[use] == Place::kDisk ? 1U : 0U;
    one.evictions += evictions_[use];
  }
  return all;
}

WorstServed StartRecord::worst_of(std::span<const std::uint32_t> group_of, std::uint32_t groups,
                                  const std::function<std::string(std::uint32_t)>& name_of) const {
  WorstServed result;
  std::vector<ServedGroup> all = tally(group_of, groups);
  std::vector<std::uint64_t> busiest;
  for (const ServedGroup& group : all) {
    result.evictions += group.evictions;
    if (group.requests > 0) busiest.push_back(group.requests);
  }
  result.groups = busiest.size();
  if (result.groups < 2) return result;
  const std::size_t last = std::min(kWorstServed, busiest.size()) - 1;
  std::nth_element(busiest.begin(), busiest.begin() + static_cast<std::ptrdiff_t>(last), busiest.end(),
                   std::greater<>());
  result.requests_min = std::min(kGroupRequestsMin, busiest[last]);

  const auto is_ranked = [&](std::uint32_t group) { return all[group].requests >= result.requests_min; };
  std::vector<std::uint32_t> order;
  std::vector<std::uint64_t> end(groups, 0);  // of the group's delays, written so far
  std::uint64_t count = 0;
  for (std::uint32_t group = 0; group < groups; ++group) {
    end[group] = count;
    if (!is_ranked(group)) continue;
    count += all[group].requests;
    order.push_back(group);
  }
  std::vector<float> delays(count);
  for_each_request(group_of, [&](std::uint32_t group, std::uint64_t batch) {
    if (is_ranked(group)) delays[end[group]++] = slot_wait_s_[batch] + load_wait_s_[batch];
  });
  for (const std::uint32_t group : order)
    all[group].delay_p99_s =
        p99_of(std::span(delays).subspan(end[group] - all[group].requests, all[group].requests));
  const std::size_t shown = std::min(kWorstServed, order.size());
  const auto is_worse = [&all](std::uint32_t a, std::uint32_t b) {
    return std::tuple(all[b].delay_p99_s, all[b].requests, a) <
           std::tuple(all[a].delay_p99_s, all[a].requests, b);
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(), is_worse);
  for (std::size_t i = 0; i < shown; ++i) {
    result.worst.push_back(std::move(all[order[i]]));
    result.worst.back().name = name_of(order[i]);
  }
  return result;
}

WorstServed StartRecord::worst_adapters(const Trace& trace) const {
  std::vector<std::uint32_t> group_of;
  group_of.reserve(found_.size());
  for (const Row row : stream_->uses.uses.view()) group_of.push_back(static_cast<std::uint32_t>(row));
  return worst_of(group_of, stream_->uses.rows,
                  [&trace](std::uint32_t row) { return name_at(trace.adapters.name, row); });
}

WorstServed StartRecord::worst_tenants(const Trace& trace) const {
  if (trace.tenant.empty()) return {};
  auto named = static_cast<std::uint32_t>(trace.tenant_name.size());
  for (const std::uint32_t tenant : trace.tenant.view())
    if (tenant != kNoTenant) named = std::max(named, tenant + 1);
  std::vector<std::uint32_t> group_of;
  group_of.reserve(found_.size());
  for (std::uint64_t batch = 0; batch < stream_->requests(); ++batch)
    group_of.resize(stream_->begin[batch + 1], std::min(trace.tenant[stream_->origin[batch]], named));
  return worst_of(group_of, named + 1, [&](std::uint32_t tenant) {
    return tenant == named ? "(no tenant)" : name_at(trace.tenant_name, tenant);
  });
}

}  // namespace detail
}  // namespace loracle
