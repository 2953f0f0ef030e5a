#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "plan_sentences.hpp"

namespace loracle::detail {
namespace {

/// Of the gap from `lru` down to `bound`; above 1 where a policy may refuse, and Belady may not.
double closed_share(double lru, double bound, double missed) { return (lru - missed) / (lru - bound); }

std::string closed_text(double lru, double bound, double missed) {
  if (lru <= bound) return "-";
  const double closed = closed_share(lru, bound, missed);
  return closed < 0 ? "worse" : fmt::format("{:.0f} %", closed * 100);
}

/// "Of this gap s3fifo closes 57 %, lfu 44 % and sieve 20 %": the best three that a server can have.
template <class Missed, class Refuses>
std::string best_closed(const Plan& plan, double lru, double bound, const Missed& missed,
                        const Refuses& refuses) {
  constexpr std::size_t kNamed = 3;
  std::vector<std::pair<double, std::string>> best;
  for (const PolicyRow& row : plan.policies) {
    if (row.clairvoyant || refuses(row) || row.policy == "lru") continue;
    const double closed = closed_share(lru, bound, missed(row));
    if (closed > 0) best.emplace_back(closed, row.policy);
  }
  std::stable_sort(best.begin(), best.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  best.resize(std::min(best.size(), kNamed));
  if (best.empty()) return "No other policy tried closes any of this gap";
  std::string text = fmt::format("Of this gap {} closes {:.0f} %", best[0].second, best[0].first * 100);
  for (std::size_t i = 1; i < best.size(); ++i)
    text += fmt::format("{} {} {:.0f} %", i + 1 == best.size() ? " and" : ",", best[i].second,
                        best[i].first * 100);
  return text;
}

/// What follows from the gap.
std::string conclusion(bool policy_matters, const std::string& closed) {
  return policy_matters ? closed + " (vLLM itself has LRU only)."
                        : closed + ": policy does not matter here, size does.";
}

}  // namespace

std::string closed_text(const PolicyGap& gap, std::uint64_t misses) {
  return closed_text(static_cast<double>(gap.lru), static_cast<double>(gap.belady),
                     static_cast<double>(misses));
}

std::string closed_text(const ByteGap& gap, Bytes loaded) {
  if (!gap.known) return "-";
  return closed_text(static_cast<double>(gap.lru.value), static_cast<double>(gap.bound.value),
                     static_cast<double>(loaded.value));
}

std::string loaded_text(const ByteGap& gap, Bytes loaded) { return gap.known ? human_bytes(loaded) : "-"; }

std::string policy_note(const PolicyRow& row, bool refuses) {
  if (row.clairvoyant) return "knows the future";
  return refuses ? "refuses some; a server cannot" : "";
}

std::string first_uses_text(const Plan& plan) {
  constexpr double kFew = 0.001;  // of uses
  const std::uint64_t loads = std::max(served_at_choice(plan).disk_loads, plan.adapters);
  const std::string text = fmt::format(
      "{} ({} of uses, {} of the disk loads) are compulsory: an adapter's first use, which no "
      "size and no policy saves",
      counted(plan.adapters, "load"), share_text(plan.adapters, plan.uses), share_text(plan.adapters, loads));
  if (static_cast<double>(plan.adapters) <= kFew * static_cast<double>(plan.uses))
    return text + ". They are few.";
  if (2 * plan.adapters < loads) return text + ". More host memory saves some of the others.";
  return text +
         ". More host memory saves the others at most: let replicas share the disk tier, or route requests "
         "by adapter, so that fewer of them load each one.";
}

std::string gap_text(const Plan& plan, bool on_device) {
  const PolicyGap& gap = on_device ? plan.device_gap : plan.host_gap;
  const std::string lru = fmt::format(
      "At {} LRU misses {}",
      on_device ? counted(gap.entries, "slot") : counted(gap.entries, "adapter") + " in host memory",
      share_text(gap.lru, plan.uses));
  if (gap.lru <= gap.belady) return lru + ": no policy can do better.";
  const std::string closed = best_closed(
      plan, static_cast<double>(gap.lru), static_cast<double>(gap.belady),
      [on_device](const PolicyRow& row) {
        return static_cast<double>(on_device ? row.device_misses : row.host_misses);
      },
      [](const PolicyRow& row) { return row.refuses; });
  return fmt::format("{}, Belady, which knows the future, {}. {}", lru, share_text(gap.belady, plan.uses),
                     conclusion(gap.policy_matters, closed));
}

std::string byte_gap_text(const Plan& plan, bool on_device) {
  const ByteGap& gap = on_device ? plan.device_byte_gap : plan.host_byte_gap;
  if (!gap.known) return "";
  const std::string lru =
      fmt::format("By bytes, {} LRU loads {} of {}",
                  on_device ? "into these slots" : "with " + human_bytes(gap.capacity) + " of host memory",
                  human_bytes(gap.lru), human_bytes(plan.bytes_used));
  if (gap.lru <= gap.bound) return lru + ": no policy can do better.";
  const std::string closed = best_closed(
      plan, static_cast<double>(gap.lru.value), static_cast<double>(gap.bound.value),
      [on_device](const PolicyRow& row) {
        return static_cast<double>((on_device ? row.device_bytes : row.host_bytes).value);
      },
      [](const PolicyRow& row) { return row.refuses_by_bytes; });
  return fmt::format("{}; no policy can load less than {}. {}", lru, human_bytes(gap.bound),
                     conclusion(gap.policy_matters, closed));
}

}  // namespace loracle::detail
