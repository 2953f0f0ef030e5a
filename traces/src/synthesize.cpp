#include "loracle/traces/synthesize.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "gap_draws.hpp"

namespace loracle {
namespace {

constexpr double kRequestsMax = 1e8;
constexpr double kSpanMax = 4e9;  // seconds; microseconds stay exact in a double
constexpr double kWindowsMax = 1e9;

[[nodiscard]] Rng stream_of(std::uint64_t seed, std::initializer_list<std::uint64_t> path) {
  std::uint64_t state = seed;
  for (const std::uint64_t step : path) {
    std::uint64_t mixed = splitmix64(state) ^ step;
    state = splitmix64(mixed);
  }
  return Rng(state);
}

/// A number that is `mean` on average, and one of its two neighbours always.
[[nodiscard]] std::uint64_t round_by_chance(double mean, Rng& rng) {
  const double whole = std::floor(mean);
  return static_cast<std::uint64_t>(whole) + (rng.uniform() < mean - whole ? 1 : 0);
}

/// How many whole microseconds there are in [0, seconds): 1 or more. REQUIRES: seconds is above 0.
[[nodiscard]] std::uint64_t ticks_before(double seconds) {
  return static_cast<std::uint64_t>(std::ceil(seconds * 1e6));
}

[[nodiscard]] tl::unexpected<Error> refuse(const std::string& what) {
  return fail(Errc::kInvalid, "synthesis: " + what);
}

[[nodiscard]] bool within(double value, double low, double high) { return value >= low && value <= high; }

[[nodiscard]] Result<Unit> check_options(const TrafficModel& model, const SynthesizeOptions& options) {
  if (!within(options.rate_times, 1e-3, 1e3))
    return refuse(fmt::format("{} times the rate: give 0.001 to 1000", options.rate_times));
  if (!within(options.adapters_times, 1e-2, 1e3))
    return refuse(fmt::format("{} times the adapters: give 0.01 to 1000", options.adapters_times));
  if (!model.timed && options.rate_times != 1)
    return refuse("the model's trace has no arrival times, so it has no rate: leave the rate as it is");
  if (!within(options.duration_s, 0, kSpanMax))
    return refuse(fmt::format("a duration of {} s: give up to 120 years", options.duration_s));
  const double span = options.duration_s > 0 ? options.duration_s : model.span_s();
  if (span > kSpanMax) return refuse(fmt::format("{} s are more than 120 years: make it shorter", span));
  if (span / model.window_s > kWindowsMax)
    return refuse(fmt::format("{:.0f} windows of {} s: make the trace shorter, or fit longer windows",
                              span / model.window_s, model.window_s));
  const double passes = span / model.span_s();
  double requests = 0;
  for (const std::uint32_t count : model.cell_count) requests += count;
  requests *= passes * options.rate_times * std::max(1.0, options.adapters_times);
  if (requests > kRequestsMax)
    return refuse(fmt::format("about {:.0f} requests are more than {:.0f}: make the trace shorter or slower",
                              requests, kRequestsMax));
  return Unit{};
}

/// One request as it is drawn, before its window is put in order.
struct Drawn {
  std::uint64_t us = 0;
  std::uint32_t bundle = 0;  // index of the adapters it names, within the window
  float duration_s = 0;
};

/// Rows of adapters as they appear: one an adapter, copy and pass.
class Appearances {
 public:
  Appearances(const TrafficModel& model, std::uint32_t copies) : model_(model), copies_(copies) {}

  [[nodiscard]] Row row_of(std::uint32_t adapter, std::uint32_t copy, std::uint64_t pass) {
    const std::uint64_t life = model_.lasting[adapter] != 0 ? 0 : pass;
    const std::uint64_t key = (life * copies_ + copy) * model_.adapters() + adapter;
    const auto [found, is_new] = row_.try_emplace(key, static_cast<std::uint32_t>(row_.size()));
    if (is_new) describe(adapter, copy, life);
    return Row{found->second};
  }

  [[nodiscard]] AdapterFacts facts() && {
    return {{Column<std::uint64_t>(std::move(begin_)), Column<char>(std::move(text_))},
            Column<std::uint64_t>(std::move(bytes_)),
            Column<std::uint16_t>(std::move(rank_))};
  }

 private:
  void describe(std::uint32_t adapter, std::uint32_t copy, std::uint64_t life) {
    std::string name = model_.name[adapter];
    if (copy > 0) name += fmt::format("#{}", copy);
    if (life > 0) name += fmt::format("~{}", life);
    while (!taken_.insert(name).second) name += '+';  // the source has such a name itself
    text_.insert(text_.end(), name.begin(), name.end());
    begin_.push_back(text_.size());
    if (!model_.bytes.empty()) bytes_.push_back(model_.bytes[adapter]);
    if (!model_.rank.empty()) rank_.push_back(model_.rank[adapter]);
  }

  const TrafficModel& model_;
  std::uint64_t copies_;
  std::unordered_map<std::uint64_t, std::uint32_t> row_;
  std::unordered_set<std::string> taken_;
  std::vector<std::uint64_t> begin_ = {0};
  std::vector<char> text_;
  std::vector<std::uint64_t> bytes_;
  std::vector<std::uint16_t> rank_;
};

class Synthesis {
 public:
  Synthesis(const TrafficModel& model, const SynthesizeOptions& options)
      : model_(model),
        options_(options),
        duration_(options.duration_s > 0 ? options.duration_s : model.span_s()),
        copies_(static_cast<std::uint32_t>(std::max(1.0, std::ceil(options.adapters_times)))),
        appearances_(model, copies_) {
    Rng rng = stream_of(options.seed, {kCopies});
    copies_of_.reserve(model.adapters());
    for (std::uint32_t adapter = 0; adapter < model.adapters(); ++adapter)
      copies_of_.push_back(static_cast<std::uint32_t>(round_by_chance(options.adapters_times, rng)));
  }

  [[nodiscard]] Result<Trace> run() && {
    const auto windows = static_cast<std::uint64_t>(std::ceil(duration_ / model_.window_s));
    for (std::uint64_t window = 0; window < windows; ++window) draw_window(window);
    if (requests_ == 0) return refuse("no request comes of it: make the trace longer or faster");
    return std::move(*this).trace();
  }

 private:
  enum : std::uint64_t { kCopies = 1, kCell, kTokens };

  void draw_window(std::uint64_t window) {
    drawn_.clear();
    bundle_begin_.assign(1, 0);
    bundle_rows_.clear();
    for (std::uint32_t copy = 0; copy < copies_; ++copy) {
      // Doubles live in another part of the span, or the crowds of all would come at once.
      const std::uint64_t at =
          window + static_cast<std::uint64_t>(copy) * model_.windows() / std::max<std::uint32_t>(copies_, 1);
      const std::uint64_t pass = at / model_.windows();
      const auto source = static_cast<std::size_t>(at % model_.windows());
      for (std::uint32_t cell = model_.window_begin[source]; cell < model_.window_begin[source + 1]; ++cell)
        draw_cell(window, copy, pass, cell);
    }
    // Equal times stay in the order of copies and sets: nothing depends on how sorting is done.
    std::stable_sort(drawn_.begin(), drawn_.end(),
                     [](const Drawn& a, const Drawn& b) { return a.us < b.us; });
    for (const Drawn& request : drawn_) emit(request);
  }

  void draw_cell(std::uint64_t window, std::uint32_t copy, std::uint64_t pass, std::uint32_t cell) {
    const std::uint32_t set = model_.cell_set[cell];
    const std::uint32_t begin = model_.set_begin[set];
    const std::uint32_t end = model_.set_begin[set + 1];
    const std::size_t rows_before = bundle_members_.size();
    for (std::uint32_t i = begin; i < end; ++i)
      if (copies_of_[model_.set_adapters[i]] > copy) bundle_members_.push_back(model_.set_adapters[i]);
    const bool is_base_model = begin == end && copy == 0;
    const bool is_named = bundle_members_.size() > rows_before;
    if (!is_named && !is_base_model) return;

    Rng rng = stream_of(options_.seed, {kCell, window, set, copy});
    const std::uint64_t count = round_by_chance(model_.cell_count[cell] * options_.rate_times, rng);
    if (count > 0) {
      const auto bundle = static_cast<std::uint32_t>(bundle_begin_.size() - 1);
      for (const std::uint32_t adapter : bundle_members_) bundle_rows_.push_back({adapter, copy, pass});
      bundle_begin_.push_back(static_cast<std::uint32_t>(bundle_rows_.size()));
      const std::vector<double> arrivals =
          draw_arrivals(rng, GapLaw::kGamma, model_.shape[set], count, model_.window_s);
      const double origin = static_cast<double>(window) * model_.window_s;
      // Rounded up to the window's end, or the trace's, a request would be in the next one, or lost.
      const std::uint64_t end_us = ticks_before(static_cast<double>(window + 1) * model_.window_s);
      for (const double offset : arrivals) {
        const std::uint64_t us = std::min(static_cast<std::uint64_t>((origin + offset) * 1e6), end_us - 1);
        const float held = draw_holding(rng, set);
        if (us < ticks_before(duration_)) drawn_.push_back({us, bundle, held});
      }
    }
    bundle_members_.clear();
  }

  [[nodiscard]] float draw_holding(Rng& rng, std::uint32_t set) const {
    if (model_.holding.empty()) return 0;
    const HoldingLaw& holding = model_.holding[set];
    const bool is_known = rng.uniform() < holding.known_share;
    const double drawn = holding.gamma_shape > 0 ? draw_gamma(rng, holding.gamma_shape, holding.gamma_scale_s)
                                                 : draw_lognormal(rng, holding.law.mu, holding.law.sigma);
    return is_known ? static_cast<float>(std::clamp(drawn, 1e-6, 1e9)) : 0.0F;
  }

  void emit(const Drawn& request) {
    for (std::uint32_t i = bundle_begin_[request.bundle]; i < bundle_begin_[request.bundle + 1]; ++i) {
      const Member& member = bundle_rows_[i];
      uses_.push_back(appearances_.row_of(member.adapter, member.copy, member.pass));
    }
    use_begin_.push_back(uses_.size());
    if (model_.timed) arrival_s_.push_back(static_cast<double>(request.us) / 1e6);
    if (!model_.holding.empty()) duration_s_.push_back(request.duration_s);
    ++requests_;
  }

  /// Drawn last and one a request: other rates do not change them.
  [[nodiscard]] Column<std::uint32_t> tokens(const std::optional<LogNormalLaw>& law,
                                             std::uint64_t which) const {
    if (!law) return {};
    Rng rng = stream_of(options_.seed, {kTokens, which});
    std::vector<std::uint32_t> counts(requests_);
    for (std::uint32_t& count : counts)
      count = static_cast<std::uint32_t>(
          std::lround(std::clamp(draw_lognormal(rng, law->mu, law->sigma), 0.5, 1e7)));
    return Column<std::uint32_t>(std::move(counts));
  }

  [[nodiscard]] Trace trace() && {
    Trace trace;
    trace.source =
        fmt::format("synthetic:from={}:seed={}:duration={}:rate_times={}:adapters_times={}", model_.source,
                    options_.seed, duration_, options_.rate_times, options_.adapters_times);
    trace.format = "synthetic";
    trace.mapping = model_.mapping;
    trace.requests = requests_;
    trace.input_tokens = tokens(model_.input_tokens, 0);
    trace.output_tokens = tokens(model_.output_tokens, 1);
    if (uses_.size() != requests_ || !is_one_each()) trace.use_begin = std::move(use_begin_);
    trace.uses = std::move(uses_);
    if (model_.timed) trace.arrival_s = std::move(arrival_s_);
    if (!model_.holding.empty()) trace.duration_s = std::move(duration_s_);
    trace.adapters = std::move(appearances_).facts();
    return trace;
  }

  [[nodiscard]] bool is_one_each() const {
    for (std::size_t i = 0; i < use_begin_.size(); ++i)
      if (use_begin_[i] != i) return false;
    return true;
  }

  struct Member {
    std::uint32_t adapter = 0;
    std::uint32_t copy = 0;
    std::uint64_t pass = 0;
  };

  const TrafficModel& model_;
  const SynthesizeOptions& options_;
  double duration_;
  std::uint32_t copies_;
  std::vector<std::uint32_t> copies_of_;  // [adapters]
  Appearances appearances_;

  std::vector<Drawn> drawn_;                 // of the window
  std::vector<std::uint32_t> bundle_begin_;  // [bundles of the window + 1]
  std::vector<Member> bundle_rows_;
  std::vector<std::uint32_t> bundle_members_;  // of the cell

  std::uint64_t requests_ = 0;
  std::vector<Row> uses_;
  std::vector<std::uint64_t> use_begin_ = {0};
  std::vector<double> arrival_s_;
  std::vector<float> duration_s_;
};

}  // namespace

Result<Trace> synthesize(const TrafficModel& model, const SynthesizeOptions& options) {
  if (auto sound = check_options(model, options); !sound) return fail(sound.error());
  return Synthesis(model, options).run();
}

}  // namespace loracle
