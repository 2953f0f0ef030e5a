#include "loracle/sim/fit_traffic.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <utility>

#include "loracle/core/rng.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/sim/regimes.hpp"
#include "loracle/sim/stretches.hpp"
#include "loracle/sim/summary.hpp"
#include "loracle/traces/synthesize.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kAdapterGapsMin = 20;
constexpr std::size_t kAdaptersListedMax = 1000;
constexpr std::uint64_t kOwnLawMin = 20;  // gaps or durations a set needs for a law of its own
constexpr std::uint64_t kSeeds = 8;       // with fewer, windows that only mostly do pass by luck
constexpr double kWindowsTried[] = {86400, 21600, 3600, 1800, 600, 300, 120, 60, 30, 10, 1};
constexpr double kRequestWindowsTried[] = {1e6, 1e5, 30'000, 10'000, 3000, 1000, 300, 100, 30, 10};

/// Six digits: more than any fit settles, and the same on every libm.
[[nodiscard]] double rounded(double value) {
  const std::string text = fmt::format("{:.6g}", value);
  double back = value;
  std::from_chars(text.data(), text.data() + text.size(), back);
  return back;
}

/// The trace as the model sees it: when, and which set.
struct Requests {
  std::vector<double> at;          // [requests] from 0
  std::vector<std::uint32_t> set;  // [requests]
  std::vector<std::vector<std::uint32_t>> sets;
  std::uint32_t adapters = 0;  // that are used: rows 0 .. adapters - 1
  double span = 0;             // one mean gap longer than from the first arrival to the last
  double least_gap = 0;        // below it the clock tells nothing apart
  bool timed = false;
};

[[nodiscard]] std::vector<std::uint32_t> members_of(std::span<const Row> batch) {
  std::vector<std::uint32_t> members;
  for (const Row row : batch) {
    const auto member = static_cast<std::uint32_t>(index_of(row));
    if (std::find(members.begin(), members.end(), member) == members.end()) members.push_back(member);
  }
  return members;
}

[[nodiscard]] Result<Requests> requests_of(const Trace& trace) {
  if (trace.requests < 2)
    return fail(Errc::kInvalid,
                fmt::format("{}: {} requests are no traffic to fit: give a trace of some hundred",
                            trace.source, trace.requests));
  if (trace.uses.empty())
    return fail(Errc::kInvalid,
                fmt::format("{}: no request names an adapter: choose another --map", trace.source));
  Requests requests;
  requests.timed = !trace.arrival_s.empty();
  std::map<std::vector<std::uint32_t>, std::uint32_t> known;
  double least = std::numeric_limits<double>::infinity();
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    requests.at.push_back(requests.timed ? trace.arrival_s[i] - trace.arrival_s[0] : static_cast<double>(i));
    const double gap = i == 0 ? 0 : requests.at[i] - requests.at[i - 1];
    if (gap > 0) least = std::min(least, gap);
    std::vector<std::uint32_t> members = members_of(trace.batch(i));
    for (const std::uint32_t member : members) requests.adapters = std::max(requests.adapters, member + 1);
    const auto [found, is_new] =
        known.try_emplace(std::move(members), static_cast<std::uint32_t>(requests.sets.size()));
    if (is_new) requests.sets.push_back(found->first);
    requests.set.push_back(found->second);
  }
  if (!(requests.at.back() > 0))
    return fail(
        Errc::kInvalid,
        fmt::format("{}: all {} requests arrive at once, so there is no rate: leave the arrival times "
                    "out",
                    trace.source, trace.requests));
  const auto n = static_cast<double>(trace.requests);
  requests.span = requests.at.back() * n / (n - 1);
  requests.least_gap = std::max(least / 2, 1e-6);
  return requests;
}

/// The likelier of the lognormal and the Gamma law.
[[nodiscard]] HoldingLaw holding_law(const std::vector<double>& values) {
  constexpr double kLeast = 1e-6;
  const Result<LogNormalFit> log_normal = fit_lognormal(values);
  if (!log_normal) return {};
  HoldingLaw law;
  law.law = {rounded(log_normal->mu), rounded(log_normal->sigma)};
  const Result<GapFit> gaps = fit_gaps(values, kLeast);
  if (!gaps || !(log_normal->sigma > 0)) return law;
  constexpr double kHalfLogTwoPiE = 1.4189385332046727;
  const double likelihood =
      -static_cast<double>(values.size()) * (log_normal->mu + std::log(log_normal->sigma) + kHalfLogTwoPiE);
  if (gaps->gamma.log_likelihood <= likelihood || !(gaps->gamma.shape >= kGapShapeMin)) return law;
  if (gaps->gamma.shape > 1e5) return law;  // all but equal, whatever the law
  law.gamma_shape = rounded(gaps->gamma.shape);
  law.gamma_scale_s = rounded(gaps->gamma.scale);
  return law;
}

/// Durations by set, or all sets' together where a set has few.
[[nodiscard]] std::vector<HoldingLaw> holding_laws(const Trace& trace, const Requests& requests) {
  if (trace.duration_s.empty()) return {};
  std::vector<std::vector<double>> known(requests.sets.size());
  std::vector<std::uint64_t> counts(requests.sets.size());
  std::vector<double> all;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    ++counts[requests.set[i]];
    if (!(trace.duration_s[i] > 0)) continue;
    known[requests.set[i]].push_back(double{trace.duration_s[i]});
    if (!requests.sets[requests.set[i]].empty()) all.push_back(double{trace.duration_s[i]});
  }
  const HoldingLaw pooled = holding_law(all);
  std::vector<HoldingLaw> laws;
  for (std::size_t set = 0; set < known.size(); ++set) {
    laws.push_back(known[set].size() >= kOwnLawMin ? holding_law(known[set]) : pooled);
    laws.back().known_share =
        rounded(static_cast<double>(known[set].size()) / static_cast<double>(counts[set]));
  }
  return laws;
}

[[nodiscard]] std::optional<LogNormalFit> law_of_tokens(const Column<std::uint32_t>& tokens,
                                                        std::string& why) {
  std::vector<double> values;
  for (const std::uint32_t count : tokens.view())
    if (count > 0) values.push_back(count);
  Result<LogNormalFit> fit = fit_lognormal(values);
  if (fit) return *fit;
  why = tokens.empty() ? "the trace has none" : fit.error().message;
  return std::nullopt;
}

/// Everything but the windows and what follows from them.
[[nodiscard]] TrafficModel model_without_windows(const Trace& trace, const Requests& requests) {
  TrafficModel model;
  model.source = trace.source;
  model.format = trace.format;
  model.mapping = trace.mapping;
  model.requests = trace.requests;
  model.timed = requests.timed;
  std::vector<double> first(requests.adapters, -1);
  std::vector<double> last(requests.adapters, 0);
  for (std::uint64_t i = 0; i < trace.requests; ++i)
    for (const std::uint32_t adapter : requests.sets[requests.set[i]]) {
      if (first[adapter] < 0) first[adapter] = requests.at[i];
      last[adapter] = requests.at[i];
    }
  for (std::uint32_t adapter = 0; adapter < requests.adapters; ++adapter) {
    model.name.emplace_back(trace.adapters.name[adapter]);
    if (!trace.adapters.bytes.empty()) model.bytes.push_back(trace.adapters.bytes[adapter]);
    if (!trace.adapters.rank.empty()) model.rank.push_back(trace.adapters.rank[adapter]);
    model.lasting.push_back(last[adapter] - first[adapter] >= requests.span / 2 ? 1 : 0);
  }
  model.set_begin.push_back(0);
  for (const std::vector<std::uint32_t>& members : requests.sets) {
    model.set_adapters.insert(model.set_adapters.end(), members.begin(), members.end());
    model.set_begin.push_back(static_cast<std::uint32_t>(model.set_adapters.size()));
  }
  model.holding = holding_laws(trace, requests);
  return model;
}

/// The cells of windows of about `window`, and the shapes of gaps within them.
class Windows {
 public:
  Windows(const Requests& requests, double window, TrafficModel& model)
      : requests_(requests), model_(model), gaps_(requests.sets.size()) {
    const double windows = std::max(1.0, std::ceil(requests.span / window - 1e-9));
    model.window_s = requests.span / windows;
    count_ = static_cast<std::uint32_t>(windows);
  }

  void fill() {
    model_.window_begin.assign(1, 0);
    model_.cell_set.clear();
    model_.cell_count.clear();
    std::size_t next = 0;
    std::vector<std::pair<std::uint32_t, double>> inside;  // set, time since the window's begin
    for (std::uint32_t window = 0; window < count_; ++window) {
      const double begin = window * model_.window_s;
      inside.clear();
      for (; next < requests_.at.size() && window_of(requests_.at[next]) <= window; ++next)
        inside.emplace_back(requests_.set[next], std::max(requests_.at[next] - begin, 0.0));
      // By set; within one the times are in order already.
      std::stable_sort(inside.begin(), inside.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      for (std::size_t i = 0; i < inside.size();) i = add_cell(inside, i);
      model_.window_begin.push_back(static_cast<std::uint32_t>(model_.cell_set.size()));
    }
    settle_shapes();
  }

 private:
  [[nodiscard]] std::uint32_t window_of(double at) const {
    return std::min(static_cast<std::uint32_t>(at / model_.window_s), count_ - 1);
  }

  std::size_t add_cell(const std::vector<std::pair<std::uint32_t, double>>& inside, std::size_t i) {
    const std::uint32_t set = inside[i].first;
    const double least = std::min(requests_.least_gap, model_.window_s / 2);
    double before = 0;
    double log_shares = 0;
    std::uint32_t count = 0;
    const auto add_gap = [&](double gap) { log_shares += std::log(std::max(gap, least) / model_.window_s); };
    for (; i < inside.size() && inside[i].first == set; ++i, ++count) {
      add_gap(inside[i].second - before);
      before = inside[i].second;
    }
    add_gap(model_.window_s - before);
    gaps_[set].add(count + 1, log_shares);
    model_.cell_set.push_back(set);
    model_.cell_count.push_back(count);
    return i;
  }

  void settle_shapes() {
    StretchedGaps all;
    for (const StretchedGaps& gaps : gaps_) all.add(gaps);
    const double pooled = fit_stretched_shape(all).value_or(1);
    model_.shape.clear();
    for (const StretchedGaps& gaps : gaps_) {
      std::uint64_t known = 0;
      for (const auto& [count, windows] : gaps.windows_by_gaps) known += count * windows;
      const double shape = known >= kOwnLawMin ? fit_stretched_shape(gaps).value_or(pooled) : pooled;
      model_.shape.push_back(std::clamp(rounded(shape), kGapShapeMin, kGapShapeMax));
    }
  }

  const Requests& requests_;
  TrafficModel& model_;
  std::vector<StretchedGaps> gaps_;  // [sets]
  std::uint32_t count_ = 0;
};

/// Draws with a few seeds and compares; stops at the first that is not accepted.
[[nodiscard]] Result<FitAttempt> try_model(const TrafficModel& model, const TrafficMarks& source,
                                           std::optional<double> assumed_s) {
  FitAttempt attempt;
  attempt.window_s = model.window_s;
  attempt.cells = model.cell_set.size();
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Result<Trace> drawn = synthesize(model, {.seed = seed});
    if (!drawn) return fail(drawn.error());
    const Result<TrafficMarks> marks = measure_traffic(*drawn, assumed_s);
    if (!marks) return fail(marks.error());
    attempt.worst = match_marks(source, *marks);
    attempt.worst.held_s = assumed_s;
    if (!attempt.worst.accepted) break;
  }
  return attempt;
}

[[nodiscard]] std::vector<double> windows_to_try(const Requests& requests, double asked) {
  if (asked > 0) return {std::min(asked, requests.span)};
  std::vector<double> windows;
  const std::span<const double> table =
      requests.timed ? std::span<const double>(kWindowsTried) : std::span<const double>(kRequestWindowsTried);
  if (requests.span <= table.front()) windows.push_back(requests.span);
  for (const double window : table)
    if (window < requests.span && requests.span / window <= kTrafficWindowsMax) windows.push_back(window);
  return windows;
}

[[nodiscard]] Result<Unit> find_windows(const Trace& trace, const Requests& requests,
                                        const FitOptions& options, TraceFit& fit) {
  const std::optional<double> assumed_s =
      trace.duration_s.empty() ? std::optional<double>(options.held_s) : std::nullopt;
  const Result<TrafficMarks> source = measure_traffic(trace, assumed_s);
  if (!source) return fail(source.error());
  for (const double window : windows_to_try(requests, options.window_s)) {
    Windows(requests, window, fit.model).fill();
    const Result<FitAttempt> attempt = try_model(fit.model, *source, assumed_s);
    if (!attempt) return fail(attempt.error());
    fit.attempts.push_back(*attempt);
    if (attempt->worst.accepted) break;
  }
  return Unit{};
}

[[nodiscard]] Fitted<GapFit> fitted(Result<GapFit> fit) {
  if (fit) return {*fit, {}};
  return {std::nullopt, fit.error().message};
}

void fit_arrivals(const Trace& trace, const Requests& requests, const std::vector<std::uint64_t>& uses,
                  TraceFit& fit) {
  if (!requests.timed) {
    fit.gaps.why = "the trace has no arrival times";
    return;
  }
  std::vector<double> gaps;
  for (std::size_t i = 1; i < requests.at.size(); ++i) gaps.push_back(requests.at[i] - requests.at[i - 1]);
  fit.gaps = fitted(fit_gaps(gaps, requests.least_gap));

  std::vector<std::vector<double>> of_adapter(requests.adapters);
  std::vector<double> last(requests.adapters, -1);
  for (std::size_t i = 0; i < requests.at.size(); ++i)
    for (const std::uint32_t adapter : requests.sets[requests.set[i]]) {
      if (last[adapter] >= 0) of_adapter[adapter].push_back(requests.at[i] - last[adapter]);
      last[adapter] = requests.at[i];
    }
  std::vector<std::uint32_t> popular(requests.adapters);
  for (std::uint32_t adapter = 0; adapter < requests.adapters; ++adapter) popular[adapter] = adapter;
  std::stable_sort(popular.begin(), popular.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return uses[a] > uses[b]; });
  for (const std::uint32_t adapter : popular) {
    if (of_adapter[adapter].size() < kAdapterGapsMin || fit.adapter_gaps.size() == kAdaptersListedMax) break;
    if (Result<GapFit> law = fit_gaps(of_adapter[adapter], requests.least_gap))
      fit.adapter_gaps.push_back({std::string(trace.adapters.name[adapter]), uses[adapter], *law});
  }
}

/// Rows by uses, most used first, equal ones by number; those never used left out.
[[nodiscard]] std::vector<std::uint32_t> ranking(const std::vector<std::uint64_t>& uses) {
  std::vector<std::uint32_t> rows;
  for (std::uint32_t row = 0; row < uses.size(); ++row)
    if (uses[row] > 0) rows.push_back(row);
  std::stable_sort(rows.begin(), rows.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return uses[a] > uses[b]; });
  return rows;
}

struct RegimeChange {
  double distance = 0;
  double top10_kept = 0;
};

[[nodiscard]] RegimeChange change_between(const std::vector<std::uint64_t>& before,
                                          const std::vector<std::uint64_t>& after) {
  double before_total = 0;
  double after_total = 0;
  for (const std::uint64_t uses : before) before_total += static_cast<double>(uses);
  for (const std::uint64_t uses : after) after_total += static_cast<double>(uses);
  RegimeChange change;
  for (std::size_t row = 0; row < before.size(); ++row)
    change.distance += std::abs(static_cast<double>(before[row]) / before_total -
                                static_cast<double>(after[row]) / after_total) /
                       2;
  const std::vector<std::uint32_t> top_before = ranking(before);
  const std::vector<std::uint32_t> top_after = ranking(after);
  const std::size_t top = std::min<std::size_t>({10, top_before.size(), top_after.size()});
  for (std::size_t i = 0; i < top; ++i) {
    const bool is_kept = std::find(top_after.begin(), top_after.begin() + static_cast<std::ptrdiff_t>(top),
                                   top_before[i]) != top_after.begin() + static_cast<std::ptrdiff_t>(top);
    change.top10_kept += is_kept ? 1 / static_cast<double>(top) : 0;
  }
  return change;
}

[[nodiscard]] Churn churn_of(const BatchStream& stream) {
  Churn churn;
  const std::span<const Row> uses = stream.uses.uses.view();
  std::vector<bool> known(stream.uses.rows, false);
  std::uint64_t late_new = 0;
  const std::size_t half = uses.size() / 2;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    if (i < half) known[index_of(uses[i])] = true;
    if (i >= half && !known[index_of(uses[i])]) ++late_new;
  }
  churn.late_use_share = static_cast<double>(late_new) / static_cast<double>(uses.size() - half);

  const Regimes regimes = find_regimes(stream);
  churn.regimes = static_cast<std::uint32_t>(regimes.begin.size());
  if (regimes.stretches == 0 || regimes.begin.empty()) return churn;
  churn.regime_requests = regimes.length_mean() * static_cast<double>(stream.requests()) / regimes.stretches;
  std::vector<std::uint64_t> before;
  for (std::size_t i = 0; i < regimes.begin.size(); ++i) {
    const std::uint64_t first = stretch_begin(regimes.begin[i], stream.requests(), regimes.stretches);
    const std::uint64_t end = i + 1 < regimes.begin.size()
                                  ? stretch_begin(regimes.begin[i + 1], stream.requests(), regimes.stretches)
                                  : stream.requests();
    std::vector<std::uint64_t> counts(stream.uses.rows, 0);
    for (std::uint64_t use = stream.begin[first]; use < stream.begin[end]; ++use)
      ++counts[index_of(uses[use])];
    if (i > 0) {
      const RegimeChange change = change_between(before, counts);
      const auto changes = static_cast<double>(regimes.begin.size() - 1);
      churn.distance += change.distance / changes;
      churn.top10_kept += change.top10_kept / changes;
    }
    before = std::move(counts);
  }
  return churn;
}

[[nodiscard]] std::vector<LocalityPoint> locality_of(const UseStream& stream) {
  const LruCurve in_order = lru_curve(stream);
  std::vector<Row> uses(stream.uses.view().begin(), stream.uses.view().end());
  Rng rng(1);
  for (auto i = static_cast<std::uint32_t>(uses.size()); i > 1; --i)
    std::swap(uses[i - 1], uses[rng.below(i)]);
  UseStream shuffled = stream;
  shuffled.uses = std::move(uses);
  const LruCurve by_chance = lru_curve(shuffled);
  const auto n = static_cast<double>(in_order.requests);
  std::vector<LocalityPoint> points;
  for (const std::uint64_t entries : {1, 2, 4, 8, 16, 32, 64, 128, 256})
    if (entries < in_order.compulsory_misses)
      points.push_back({entries, static_cast<double>(in_order.misses(entries)) / n,
                        static_cast<double>(by_chance.misses(entries)) / n});
  return points;
}

}  // namespace

Result<TraceFit> fit_traffic(const Trace& trace, const FitOptions& options) {
  if (!(options.window_s >= 0) || !(options.held_s > 0) || !(options.held_s <= 1e9))
    return fail(Errc::kInvalid, "windows and the time held must be above 0");
  const Result<Requests> requests = requests_of(trace);
  if (!requests) return fail(requests.error());
  if (options.window_s > 0 && requests->span / options.window_s > kTrafficWindowsMax)
    return fail(Errc::kInvalid,
                fmt::format("{:.0f} windows of {} s are more than {}: make them longer",
                            requests->span / options.window_s, options.window_s, kTrafficWindowsMax));
  const Result<BatchStream> stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());

  TraceFit fit;
  fit.requests = trace.requests;
  fit.uses = stream->uses.uses.size();
  fit.adapters = stream->uses.distinct;
  const std::vector<std::uint64_t> uses = uses_per_row(stream->uses);
  Result<ZipfFit> zipf = fit_zipf(popularity(stream->uses));
  zipf ? void(fit.popularity.fit = *zipf) : void(fit.popularity.why = zipf.error().message);
  fit_arrivals(trace, *requests, uses, fit);
  std::vector<double> durations;
  for (const float duration : trace.duration_s.view())
    if (duration > 0) durations.push_back(double{duration});
  Result<LogNormalFit> held = fit_lognormal(durations);
  held ? void(fit.durations.fit = *held)
       : void(fit.durations.why = trace.duration_s.empty() ? "the trace has none" : held.error().message);
  fit.input_tokens.fit = law_of_tokens(trace.input_tokens, fit.input_tokens.why);
  fit.output_tokens.fit = law_of_tokens(trace.output_tokens, fit.output_tokens.why);
  fit.churn = churn_of(*stream);
  fit.locality = locality_of(stream->uses);

  fit.model = model_without_windows(trace, *requests);
  const auto law = [](const Fitted<LogNormalFit>& tokens) -> std::optional<LogNormalLaw> {
    if (!tokens.fit) return std::nullopt;
    return LogNormalLaw{rounded(tokens.fit->mu), rounded(tokens.fit->sigma)};
  };
  fit.model.input_tokens = law(fit.input_tokens);
  fit.model.output_tokens = law(fit.output_tokens);
  if (auto found = find_windows(trace, *requests, options, fit); !found) return fail(found.error());
  return fit;
}

}  // namespace loracle
