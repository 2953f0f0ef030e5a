#include "loracle/traces/generate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <utility>

#include "alias_table.hpp"
#include "exact_math.hpp"
#include "huge_array.hpp"
#include "near_name.hpp"
#include "parse_values.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kAdaptersMax = 10'000'000;
constexpr std::uint64_t kRequestsMax = 4'000'000'000;
constexpr double kSpanMax = 4e9;  // seconds; microseconds stay exact in a double
constexpr std::uint32_t kNoIndex = 0xFFFF'FFFFU;

enum class Stream : std::uint64_t { kArrival = 1, kAdapter, kDuration, kInput, kOutput, kRank, kRegime };

[[nodiscard]] Rng stream_of(std::uint64_t seed, Stream stream) {
  std::uint64_t state = seed ^ (static_cast<std::uint64_t>(stream) << 56U);
  return Rng(splitmix64(state));
}

/// Weights as integers whose sum fits the alias table: `value(k)` in [0, 1].
template <class Value>
[[nodiscard]] std::vector<std::uint64_t> weights_of(std::uint32_t n, Value value) {
  const double scale = std::ldexp(1.0, 62 - static_cast<int>(std::bit_width(n)));
  std::vector<std::uint64_t> weights(n);
  for (std::uint32_t k = 0; k < n; ++k)
    weights[k] = static_cast<std::uint64_t>(std::max(value(k), 0.0) * scale);
  return weights;
}

[[nodiscard]] AliasTable popularity_of(const GenerateOptions& options) {
  const std::uint32_t n = options.adapters;
  if (options.generator != "s-lora-power") {
    return AliasTable(weights_of(n, [&](std::uint32_t k) { return exact::power(k + 1.0, -options.alpha); }));
  }
  // floor(N * U^(1/alpha)) = k exactly when U lies between (k/N)^alpha and ((k+1)/N)^alpha.
  double below = 0;
  return AliasTable(weights_of(n, [&](std::uint32_t k) {
    const double upto = exact::power((k + 1.0) / n, options.alpha);
    return upto - std::exchange(below, upto);
  }));
}

/// Which adapter holds each place of the popularity order, and who has appeared.
class Catalog {
 public:
  Catalog(const GenerateOptions& options)
      : options_(options), rng_(stream_of(options.seed, Stream::kRegime)), holder_(options.adapters) {
    std::iota(holder_.begin(), holder_.end(), 0U);
    row_of_.assign(options.adapters, kNoIndex);
  }

  [[nodiscard]] std::size_t adapters() const noexcept { return row_of_.size(); }

  [[nodiscard]] Row use(std::uint32_t place) {
    const std::uint32_t adapter = holder_[place];
    if (row_of_[adapter] == kNoIndex) appear(adapter);
    return Row{row_of_[adapter]};
  }

  /// Deals the places out anew and replaces the share `churn` of the adapters.
  void begin_regime() {
    shuffle(holder_);
    // Leaving depends on no popularity, so the leavers are the last in a further shuffle of places.
    std::vector<std::uint32_t> places(holder_.size());
    std::iota(places.begin(), places.end(), 0U);
    shuffle(places);
    places.resize(static_cast<std::size_t>(options_.churn * static_cast<double>(holder_.size())));
    for (const std::uint32_t place : places) {
      holder_[place] = static_cast<std::uint32_t>(row_of_.size());
      row_of_.push_back(kNoIndex);
    }
  }

  /// Facts of every adapter, by row; those never used come last, by number.
  [[nodiscard]] AdapterFacts facts() && {
    for (std::uint32_t adapter = 0; adapter < row_of_.size(); ++adapter)
      if (row_of_[adapter] == kNoIndex) appear(adapter);
    std::vector<std::uint64_t> begin(1, 0);
    std::vector<char> text;
    std::vector<std::uint64_t> bytes;
    std::vector<std::uint16_t> rank;
    for (const std::uint32_t adapter : order_) {
      std::array<char, 24> name;
      const auto written = fmt::format_to_n(name.data(), name.size(), "adapter-{:04}", adapter);
      text.insert(text.end(), name.data(), written.out);
      begin.push_back(text.size());
      rank.push_back(rank_of(adapter));
      bytes.push_back(rank.back() * options_.bytes_per_rank);
    }
    return {{Column<std::uint64_t>(std::move(begin)), Column<char>(std::move(text))},
            Column<std::uint64_t>(std::move(bytes)),
            Column<std::uint16_t>(std::move(rank))};
  }

 private:
  void appear(std::uint32_t adapter) {
    row_of_[adapter] = static_cast<std::uint32_t>(order_.size());
    order_.push_back(adapter);
  }
  void shuffle(std::vector<std::uint32_t>& values) {
    for (auto i = static_cast<std::uint32_t>(values.size()); i > 1; --i) {
      std::swap(values[i - 1], values[rng_.below(i)]);
    }
  }
  /// By seed and number alone: an adapter's rank does not depend on how long the trace is.
  [[nodiscard]] std::uint16_t rank_of(std::uint32_t adapter) const {
    std::uint64_t state = options_.seed ^ (static_cast<std::uint64_t>(Stream::kRank) << 56U);
    state = splitmix64(state) + adapter;
    return options_.ranks[(splitmix64(state) >> 32U) * options_.ranks.size() >> 32U];
  }

  const GenerateOptions& options_;
  Rng rng_;
  std::vector<std::uint32_t> holder_;  // [places]: adapter at each place
  std::vector<std::uint32_t> row_of_;  // [adapters ever], kNoIndex until it appears
  std::vector<std::uint32_t> order_;   // [appeared]: adapter of each row
};

/// Poisson arrivals in whole microseconds. Kept in 2^-10 ns, so that rounding does not bend the rate.
class PoissonClock {
 public:
  PoissonClock(double rate_rps, Rng rng)
      : rng_(rng), gap_mean_(static_cast<std::uint64_t>(std::ldexp(1e9 / rate_rps, 10))) {}
  [[nodiscard]] std::uint64_t next_us() noexcept {
    now_ += (Uint128{draw_exponential(rng_)} * gap_mean_) >> 32U;
    return static_cast<std::uint64_t>(now_ / 1'024'000U);
  }

 private:
  Rng rng_;
  std::uint64_t gap_mean_;
  Uint128 now_ = 0;
};

/// Token counts about a mean, at least 1; empty for mean 0.
[[nodiscard]] Column<std::uint32_t> token_column(std::uint64_t requests, double mean, Rng rng) {
  if (!(mean > 0)) return {};
  const auto mean_scaled = static_cast<std::uint64_t>(std::ldexp(mean, 20));
  HugeArray<std::uint32_t> tokens(requests);
  for (std::uint64_t i = 0; i < requests; ++i) {
    const Uint128 drawn = (Uint128{draw_exponential(rng)} * mean_scaled + (Uint128{1} << 51U)) >> 52U;
    tokens[i] = static_cast<std::uint32_t>(std::min<Uint128>(std::max<Uint128>(drawn, 1), 0xFFFF'FFFFU));
  }
  return std::move(tokens).take(requests);
}

[[nodiscard]] Column<float> duration_column(std::uint64_t requests, double mean_s, Rng rng) {
  if (!(mean_s > 0)) return {};
  const auto mean_ns = static_cast<std::uint64_t>(mean_s * 1e9);
  HugeArray<float> duration_s(requests);
  for (std::uint64_t i = 0; i < requests; ++i) {
    const auto us = static_cast<std::uint64_t>(((Uint128{draw_exponential(rng)} * mean_ns) >> 32U) / 1000U);
    duration_s[i] = static_cast<float>(static_cast<double>(us) / 1e6);
  }
  return std::move(duration_s).take(requests);
}

[[nodiscard]] tl::unexpected<Error> refuse(std::string_view what, std::string_view instead) {
  return fail(Errc::kInvalid, fmt::format("generator: {}: {}", what, instead));
}

[[nodiscard]] bool within(double value, double low, double high) { return value >= low && value <= high; }

[[nodiscard]] Result<Unit> check_regimes(const GenerateOptions& options) {
  if (!within(options.regime_s, 1e-3, 1e9)) {
    return refuse(fmt::format("a regime of {} s", options.regime_s), "give 0.001 to 1e9");
  }
  if (!within(options.churn, 0, 1)) return refuse(fmt::format("a churn of {}", options.churn), "give 0 to 1");
  const double requests = static_cast<double>(options.requests);
  const double regimes = std::min(requests, requests / options.rate_rps / options.regime_s);
  if (regimes * options.adapters > 1e10) {
    return refuse(fmt::format("about {:.0f} regimes of {} adapters", regimes, options.adapters),
                  "make regimes longer or adapters fewer");
  }
  if (regimes * options.adapters * options.churn > 1e8) {
    return refuse(fmt::format("about {:.0f} adapters in all", regimes * options.adapters * options.churn),
                  "make regimes longer or churn smaller");
  }
  return Unit{};
}

[[nodiscard]] Result<Unit> check_options(const GenerateOptions& options) {
  const auto& names = generator_names();
  if (std::find(names.begin(), names.end(), options.generator) == names.end()) {
    return refuse(
        fmt::format("no such generator '{}'{}", options.generator, did_you_mean(options.generator, names)),
        "give one of " + join_names(names));
  }
  if (options.adapters < 1 || options.adapters > kAdaptersMax) {
    return refuse(fmt::format("{} adapters", options.adapters), fmt::format("give 1 to {}", kAdaptersMax));
  }
  if (options.requests < 1 || options.requests > kRequestsMax) {
    return refuse(fmt::format("{} requests", options.requests), fmt::format("give 1 to {}", kRequestsMax));
  }
  if (!within(options.rate_rps, 1e-6, 1e9)) {
    return refuse(fmt::format("a rate of {} requests a second", options.rate_rps), "give 1e-6 to 1e9");
  }
  if (static_cast<double>(options.requests) / options.rate_rps > kSpanMax / 2) {
    return refuse("the trace would span more than 60 years", "raise the rate or lower the requests");
  }
  const double alpha_min = options.generator == "s-lora-power" ? 1e-3 : 0;
  if (!within(options.alpha, alpha_min, 20)) {
    return refuse(fmt::format("alpha {}", options.alpha), fmt::format("give {} to 20", alpha_min));
  }
  if (!within(options.duration_s_mean, 0, 1e6)) {
    return refuse(fmt::format("a mean duration of {} s", options.duration_s_mean), "give 0 to 1e6");
  }
  if (!within(options.input_tokens_mean, 0, 1e7) || !within(options.output_tokens_mean, 0, 1e7)) {
    return refuse("a mean number of tokens out of range", "give 0 to 1e7");
  }
  if (options.ranks.empty() || std::count(options.ranks.begin(), options.ranks.end(), 0) > 0) {
    return refuse("ranks must be one or more numbers above 0", "give, for example, 8,16,32,64");
  }
  if (options.bytes_per_rank > std::uint64_t{1} << 40U) {
    return refuse(fmt::format("{} bytes a rank", options.bytes_per_rank), "give at most 2^40");
  }
  return options.generator == "regimes" ? check_regimes(options) : Result<Unit>(Unit{});
}

/// Sets one `key=value`; false if the value is not one.
[[nodiscard]] bool set_option(GenerateOptions& options, std::string_view key, std::string_view value) {
  const std::optional<double> number = parse_number(value);
  const std::optional<std::uint64_t> count = parse_count(value);
  const auto set = [](const auto& parsed, auto& field) {
    if (parsed) field = *parsed;
    return parsed.has_value();
  };
  if (key == "requests") return set(count, options.requests);
  if (key == "seed") return set(count, options.seed);
  if (key == "bytes_per_rank") return set(count, options.bytes_per_rank);
  if (key == "rate") return set(number, options.rate_rps);
  if (key == "alpha") return set(number, options.alpha);
  if (key == "duration") return set(number, options.duration_s_mean);
  if (key == "input_tokens") return set(number, options.input_tokens_mean);
  if (key == "output_tokens") return set(number, options.output_tokens_mean);
  if (key == "regime_s") return set(number, options.regime_s);
  if (key == "churn") return set(number, options.churn);
  if (key == "adapters") {
    if (!count || *count > kAdaptersMax) return false;
    options.adapters = static_cast<std::uint32_t>(*count);
    return true;
  }
  options.ranks.clear();
  while (!value.empty()) {
    const std::string_view item = value.substr(0, value.find(','));
    value.remove_prefix(std::min(item.size() + 1, value.size()));
    const std::optional<std::uint64_t> rank = parse_count(item);
    if (!rank || *rank < 1 || *rank > 0xFFFF) return false;
    options.ranks.push_back(static_cast<std::uint16_t>(*rank));
  }
  return !options.ranks.empty();
}

[[nodiscard]] const std::vector<std::string>& option_names() {
  static const std::vector<std::string> names = {
      "adapters",      "requests", "rate", "alpha",    "duration", "input_tokens",
      "output_tokens", "ranks",    "seed", "regime_s", "churn",    "bytes_per_rank"};
  return names;
}

}  // namespace

const std::vector<std::string>& generator_names() {
  static const std::vector<std::string> names = {"zipf", "s-lora-power", "regimes"};
  return names;
}

Result<Trace> generate(const GenerateOptions& options) {
  if (auto sound = check_options(options); !sound) return fail(sound.error());
  const AliasTable popularity = popularity_of(options);
  Catalog catalog(options);
  PoissonClock clock(options.rate_rps, stream_of(options.seed, Stream::kArrival));
  Rng choice = stream_of(options.seed, Stream::kAdapter);
  const bool has_regimes = options.generator == "regimes";
  const auto regime_us = static_cast<std::uint64_t>(options.regime_s * 1e6);
  std::uint64_t regime = 0;

  HugeArray<Row> uses(options.requests);
  HugeArray<double> arrival_s(options.requests);
  for (std::uint64_t i = 0; i < options.requests; ++i) {
    const std::uint64_t us = clock.next_us();
    arrival_s[i] = static_cast<double>(us) / 1e6;
    // Regimes that pass without a request would leave no trace; one deal stands for all of them.
    if (has_regimes && us / regime_us != regime) {
      regime = us / regime_us;
      catalog.begin_regime();
    }
    uses[i] = catalog.use(popularity.draw(choice));
  }

  Trace trace;
  trace.source = generator_text(options);
  trace.format = "generated";
  trace.mapping = options.generator;
  trace.requests = options.requests;
  trace.uses = std::move(uses).take(options.requests);
  trace.arrival_s = std::move(arrival_s).take(options.requests);
  trace.input_tokens =
      token_column(options.requests, options.input_tokens_mean, stream_of(options.seed, Stream::kInput));
  trace.output_tokens =
      token_column(options.requests, options.output_tokens_mean, stream_of(options.seed, Stream::kOutput));
  trace.duration_s =
      duration_column(options.requests, options.duration_s_mean, stream_of(options.seed, Stream::kDuration));
  trace.adapters = std::move(catalog).facts();
  return trace;
}

Result<GenerateOptions> parse_generator(std::string_view text) {
  GenerateOptions options;
  const std::string_view name = text.substr(0, text.find(':'));
  options.generator = std::string(name);
  if (name == "s-lora-power") options.alpha = 0.1;
  std::string_view rest = text.substr(name.size());
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the colon
    const std::string_view item = rest.substr(0, rest.find(':'));
    rest.remove_prefix(item.size());
    const std::size_t equals = std::min(item.find('='), item.size());
    const std::string_view key = item.substr(0, equals);
    const std::string_view value = item.substr(std::min(equals + 1, item.size()));
    const auto& names = option_names();
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      return refuse(fmt::format("no parameter '{}'{}", key, did_you_mean(key, names)),
                    "the parameters are " + join_names(names));
    }
    if (name != "regimes" && (key == "regime_s" || key == "churn")) {
      return refuse(fmt::format("{} has no parameter '{}'", name, key), "leave it out, or use regimes");
    }
    if (!set_option(options, key, value)) {
      return refuse(fmt::format("{}={} is not a value for it", key, value), "see the defaults in the help");
    }
  }
  if (auto sound = check_options(options); !sound) return fail(sound.error());
  return options;
}

std::string generator_text(const GenerateOptions& options) {
  std::string ranks;
  for (const std::uint16_t rank : options.ranks) ranks += fmt::format("{}{}", ranks.empty() ? "" : ",", rank);
  std::string text = fmt::format(
      "{}:adapters={}:requests={}:rate={}:alpha={}:duration={}:input_tokens={}:output_tokens={}:ranks={}:"
      "bytes_per_rank={}:seed={}",
      options.generator, options.adapters, options.requests, options.rate_rps, options.alpha,
      options.duration_s_mean, options.input_tokens_mean, options.output_tokens_mean, ranks,
      options.bytes_per_rank, options.seed);
  if (options.generator == "regimes") {
    text += fmt::format(":regime_s={}:churn={}", options.regime_s, options.churn);
  }
  return text;
}

}  // namespace loracle
