#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loracle/sim/fit_traffic.hpp"

namespace loracle {
namespace {

using Json = nlohmann::ordered_json;

/// Six digits: what comes after them is the library's, not the trace's.
[[nodiscard]] double rounded(double value) {
  const std::string text = fmt::format("{:.6g}", value);
  double back = value;
  std::from_chars(text.data(), text.data() + text.size(), back);
  return back;
}

[[nodiscard]] std::string law_text(const Fitted<LogNormalFit>& law) {
  if (!law.fit) return "-  (" + law.why + ")";
  return fmt::format("lognormal, mu {:.3f} +- {:.3f}, sigma {:.3f} +- {:.3f}, KS {:.3f} (median {:.4g})",
                     law.fit->mu, law.fit->mu_se, law.fit->sigma, law.fit->sigma_se, law.fit->ks,
                     std::exp(law.fit->mu));
}

[[nodiscard]] std::string gaps_text(const GapFit& fit) {
  std::string text =
      fmt::format("mean {:.4g} s, scv {:.3g}; best: {}", fit.mean_s, fit.scv, name_of(fit.best));
  for (const GapFamily family : {GapFamily::kGamma, GapFamily::kWeibull}) {
    const GapLawFit& law = fit.law(family);
    text += fmt::format("; {} shape {:.4g} +- {:.2g}, KS {:.3f}", name_of(family), law.shape, law.shape_se,
                        law.ks);
  }
  return text + fmt::format("; exponential KS {:.3f}", fit.exponential.ks);
}

[[nodiscard]] Json law_json(const Fitted<LogNormalFit>& law) {
  if (!law.fit) return {{"why_not", law.why}};
  return {{"samples", law.fit->samples},
          {"mu", rounded(law.fit->mu)},
          {"mu_se", rounded(law.fit->mu_se)},
          {"sigma", rounded(law.fit->sigma)},
          {"sigma_se", rounded(law.fit->sigma_se)},
          {"ks", rounded(law.fit->ks)}};
}

[[nodiscard]] Json gaps_json(const GapFit& fit) {
  Json json = {{"gaps", fit.gaps},
               {"raised_to_clock_tick", fit.raised},
               {"mean_s", rounded(fit.mean_s)},
               {"scv", rounded(fit.scv)},
               {"best", name_of(fit.best)}};
  for (const GapFamily family : {GapFamily::kExponential, GapFamily::kGamma, GapFamily::kWeibull}) {
    const GapLawFit& law = fit.law(family);
    json[name_of(family)] = {
        {"shape", rounded(law.shape)},   {"shape_se", rounded(law.shape_se)},
        {"scale_s", rounded(law.scale)}, {"scale_s_se", rounded(law.scale_se)},
        {"ks", rounded(law.ks)},         {"log_likelihood", rounded(law.log_likelihood)}};
  }
  return json;
}

[[nodiscard]] Json match_json(const TraceMatch& match) {
  Json json = {{"accepted", match.accepted},      {"miss_difference", rounded(match.miss_difference)},
               {"at_entries", match.at_entries},  {"source_active_p99", nullptr},
               {"synthetic_active_p99", nullptr}, {"held_s_assumed", nullptr}};
  if (match.source_active_p99) json["source_active_p99"] = *match.source_active_p99;
  if (match.synthetic_active_p99) json["synthetic_active_p99"] = *match.synthetic_active_p99;
  if (match.held_s) json["held_s_assumed"] = *match.held_s;
  return json;
}

[[nodiscard]] Json popularity_json(const Fitted<ZipfFit>& popularity) {
  if (!popularity.fit) return {{"why_not", popularity.why}};
  const ZipfFit& zipf = *popularity.fit;
  return {{"alpha", rounded(zipf.alpha)}, {"alpha_se", rounded(zipf.alpha_se)},
          {"ranks", zipf.ranks},          {"draws", zipf.draws},
          {"ks", rounded(zipf.ks)},       {"log_likelihood", rounded(zipf.log_likelihood)}};
}

[[nodiscard]] std::string churn_text(const Churn& churn) {
  std::string text =
      churn.regimes == 0 ? "too few requests to look for regimes"
      : churn.regimes == 1
          ? "one regime: no change of popularity was found"
          : fmt::format(
                "{} regimes of {:.0f} requests; from one to the next {:.0f} % of the "
                "shares move, {:.0f} % of the ten most used stay among them",
                churn.regimes, churn.regime_requests, 100 * churn.distance, 100 * churn.top10_kept);
  return text + fmt::format(
                    "; {:.1f} % of the later half's uses are of adapters that the first half never "
                    "used",
                    100 * churn.late_use_share);
}

/// How much of the trace the model keeps: near 1 it would be the trace itself. Of the base model, whose
/// requests change no cache, nothing is counted.
[[nodiscard]] double cells_a_request(const TrafficModel& model) {
  double cells = 0;
  double requests = 0;
  for (std::size_t cell = 0; cell < model.cell_set.size(); ++cell) {
    const std::uint32_t set = model.cell_set[cell];
    if (model.set_begin[set] == model.set_begin[set + 1]) continue;
    cells += 1;
    requests += model.cell_count[cell];
  }
  return cells / requests;
}

[[nodiscard]] std::string windows_text(const TraceFit& fit) {
  const FitAttempt& last = fit.attempts.back();
  const char* unit = fit.model.timed ? "s" : "requests";
  std::string text = fmt::format(
      "  model       {} windows of {:.6g} {}, {} cells; {:.2f} for each request that names adapters\n",
      fit.model.windows(), fit.model.window_s, unit, last.cells, cells_a_request(fit.model));
  for (const FitAttempt& attempt : fit.attempts)
    text += fmt::format("    {:>10.6g} {:<8} misses {:+.2f} points at {} entries{}{}\n", attempt.window_s,
                        unit, 100 * attempt.worst.miss_difference, attempt.worst.at_entries,
                        attempt.worst.source_active_p99 && attempt.worst.synthetic_active_p99
                            ? fmt::format(", active p99 {} for {}", *attempt.worst.synthetic_active_p99,
                                          *attempt.worst.source_active_p99)
                            : "",
                        attempt.worst.accepted ? ", accepted" : "");
  return text + "  " + match_text(last.worst);
}

}  // namespace

std::string fit_text(const TraceFit& fit) {
  std::string text = fmt::format("{}\n  mapping     {}\n  requests    {}, {} uses of {} adapters\n",
                                 fit.model.source, fit.model.mapping, fit.requests, fit.uses, fit.adapters);
  text += fit.popularity.fit
              ? fmt::format("  popularity  Zipf, alpha {:.4f} +- {:.4f} over {} ranks, KS {:.3f}\n",
                            fit.popularity.fit->alpha, fit.popularity.fit->alpha_se,
                            fit.popularity.fit->ranks, fit.popularity.fit->ks)
              : "  popularity  -  (" + fit.popularity.why + ")\n";
  text += "  gaps        " + (fit.gaps.fit ? gaps_text(*fit.gaps.fit) : "-  (" + fit.gaps.why + ")") + "\n";
  std::uint32_t best[3] = {};
  for (const AdapterGaps& gaps : fit.adapter_gaps) ++best[static_cast<std::size_t>(gaps.fit.best)];
  if (!fit.adapter_gaps.empty())
    text += fmt::format("  by adapter  of {} with gaps enough, best: gamma {}, weibull {}, exponential {}\n",
                        fit.adapter_gaps.size(), best[static_cast<std::size_t>(GapFamily::kGamma)],
                        best[static_cast<std::size_t>(GapFamily::kWeibull)],
                        best[static_cast<std::size_t>(GapFamily::kExponential)]);
  for (std::size_t i = 0; i < std::min<std::size_t>(3, fit.adapter_gaps.size()); ++i)
    text += fmt::format("    {}: {}\n", fit.adapter_gaps[i].name, gaps_text(fit.adapter_gaps[i].fit));
  text += "  held        " + law_text(fit.durations) + "\n  input       " + law_text(fit.input_tokens) +
          "\n  output      " + law_text(fit.output_tokens) + "\n  churn       " + churn_text(fit.churn) +
          "\n";
  text += "  locality    LRU misses in order, and shuffled\n";
  for (const LocalityPoint& point : fit.locality)
    text += fmt::format("    {:>6} entries  {:>6.2f} %  {:>6.2f} %\n", point.entries, 100 * point.misses,
                        100 * point.shuffled_misses);
  return text + windows_text(fit);
}

std::string fit_json(const TraceFit& fit) {
  Json adapters = Json::array();
  for (const AdapterGaps& gaps : fit.adapter_gaps)
    adapters.push_back({{"adapter", gaps.name}, {"uses", gaps.uses}, {"gaps", gaps_json(gaps.fit)}});
  Json locality = Json::array();
  for (const LocalityPoint& point : fit.locality)
    locality.push_back({{"entries", point.entries},
                        {"misses", rounded(point.misses)},
                        {"shuffled_misses", rounded(point.shuffled_misses)}});
  Json attempts = Json::array();
  for (const FitAttempt& attempt : fit.attempts)
    attempts.push_back(
        {{"window_s", attempt.window_s}, {"cells", attempt.cells}, {"worst", match_json(attempt.worst)}});
  const Json churn = {{"regimes", fit.churn.regimes},
                      {"regime_requests", rounded(fit.churn.regime_requests)},
                      {"distance", rounded(fit.churn.distance)},
                      {"top10_kept", rounded(fit.churn.top10_kept)},
                      {"late_use_share", rounded(fit.churn.late_use_share)}};
  const Json gaps = fit.gaps.fit ? gaps_json(*fit.gaps.fit) : Json{{"why_not", fit.gaps.why}};
  const Json fits = {{"popularity", popularity_json(fit.popularity)},
                     {"gaps", gaps},
                     {"adapter_gaps", std::move(adapters)},
                     {"durations", law_json(fit.durations)},
                     {"input_tokens", law_json(fit.input_tokens)},
                     {"output_tokens", law_json(fit.output_tokens)},
                     {"churn", churn},
                     {"locality", std::move(locality)},
                     {"windows_tried", std::move(attempts)},
                     {"accepted", fit.accepted()}};
  const Json head = {{"schema", kTrafficSchema},
                     {"requests", fit.requests},
                     {"uses", fit.uses},
                     {"adapters", fit.adapters},
                     {"fits", fits}};
  // The model is one line: its columns are for machines.
  std::string text = head.dump(1, ' ', false, Json::error_handler_t::replace);
  text.resize(text.size() - 2);  // "\n}"
  return text + ",\n \"model\": " + to_json(fit.model) + "\n}\n";
}

}  // namespace loracle
