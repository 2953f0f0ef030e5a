#include "mapping.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "exact_math.hpp"
#include "loracle/traces/read.hpp"
#include "near_name.hpp"
#include "parse_values.hpp"
#include "trace_builder.hpp"

namespace loracle {
namespace {

struct KindFacts {
  std::string_view name;
  std::string_view parameters;  // between blanks
};

constexpr std::array<KindFacts, 6> kKinds = {{{"lora", " first base "},
                                              {"tenant", " "},
                                              {"client", " rate from_s to_s seed "},
                                              {"session", " adapters alpha seed "},
                                              {"zipf", " adapters alpha seed "},
                                              {"s-lora-power", " adapters alpha seed "}}};

std::string parameters_of(MappingKind kind) {
  const std::string_view padded = kKinds[static_cast<std::size_t>(kind)].parameters;
  std::string names;
  for (const char c : trim(padded)) names += c == ' ' ? ", " : std::string(1, c);
  return names.empty() ? "none" : names;
}

tl::unexpected<Error> refuse(std::string_view text, const std::string& what) {
  return fail(Errc::kInvalid, fmt::format("mapping '{}': {}", text, what));
}

/// Sets one `key=value`; the message of what is wrong with it, or "".
std::string set_parameter(Mapping& mapping, std::string_view key, std::string_view value) {
  const std::optional<double> number = parse_number(value);
  if (key == "adapters") {
    const std::optional<std::uint64_t> count = parse_count(value);
    if (!count || *count < 1 || *count > Mapping::kAdaptersMax)
      return fmt::format("adapters={} is not a number of adapters: give 1 to {}", value,
                         Mapping::kAdaptersMax);
    mapping.adapters = static_cast<std::uint32_t>(*count);
  } else if (key == "alpha") {
    const bool power = mapping.kind == MappingKind::kPower;
    // Above 20 the first rank has everything; s-lora-power divides by alpha.
    if (!number || *number < (power ? 1e-3 : 0.0) || *number > 20)
      return fmt::format("alpha={} is out of range: give {} to 20", value, power ? "0.001" : "0");
    mapping.alpha = *number;
  } else if (key == "seed") {
    const std::optional<std::uint64_t> seed = parse_count(value);
    if (!seed) return fmt::format("seed={} is not a whole number from 0: give one", value);
    mapping.seed = *seed;
  } else if (key == "rate") {
    if (!number || *number <= 0 || *number > 1e6)
      return fmt::format("rate={} is out of range: give a factor above 0, such as 0.01", value);
    mapping.rate = *number;
  } else if (key == "from_s" || key == "to_s") {
    if (!number || *number < 0) return fmt::format("{}={} is not a time: give seconds from 0", key, value);
    (key == "to_s" ? mapping.to_s : mapping.from_s) = *number;
  } else if (key == "first") {
    if (!value.empty() && value != "1" && value != "0")
      return fmt::format("first={} is neither 0 nor 1: write 'first'", value);
    mapping.first_only = value != "0";
  }
  return {};
}

void add_base_models(Mapping& mapping, std::string_view names) {
  while (!names.empty()) {
    const std::size_t comma = std::min(names.find(','), names.size());
    if (comma > 0) mapping.base_models.emplace_back(names.substr(0, comma));
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
}

/// Replaces the uses: `fill(i, adapters)` appends what request i needs. Facts of adapters are kept where
/// `keep_facts`.
template <class Fill>
Result<Trace> replace_uses(Trace trace, bool keep_facts, Fill fill) {
  TraceBuilder builder;
  RequestDraft draft;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    draft.adapters.clear();
    fill(i, draft.adapters);
    builder.add(draft);
  }
  const AdapterFacts& facts = trace.adapters;
  for (std::uint32_t row = 0; keep_facts && row < trace.rows(); ++row)
    builder.describe(facts.name[row], facts.bytes.empty() ? 0 : facts.bytes[row],
                     facts.rank.empty() ? std::uint16_t{0} : facts.rank[row]);
  Result<Trace> mapped = builder.finish();
  if (!mapped) return mapped;
  trace.uses = std::move(mapped->uses);
  trace.use_begin = std::move(mapped->use_begin);
  trace.adapters = std::move(mapped->adapters);
  return trace;
}

using Adapters = std::vector<std::string_view>;

}  // namespace

const std::vector<std::string>& trace_mapping_names() {
  static const std::vector<std::string> names = {"lora",    "tenant", "client",
                                                 "session", "zipf",   "s-lora-power"};
  return names;
}

std::string_view name_of(MappingKind kind) noexcept { return kKinds[static_cast<std::size_t>(kind)].name; }

bool Mapping::is_base_model(std::string_view name) const noexcept {
  return std::find(base_models.begin(), base_models.end(), name) != base_models.end();
}

std::string Mapping::text() const {
  std::string out(name_of(kind));
  if (adapters > 0) out += fmt::format(":adapters={}:alpha={}", adapters, alpha);
  if (rate != 1) out += fmt::format(":rate={}", rate);
  if (from_s > 0) out += fmt::format(":from_s={}", from_s);
  if (std::isfinite(to_s)) out += fmt::format(":to_s={}", to_s);
  if (draws) out += fmt::format(":seed={}", seed);
  if (first_only) out += ":first";
  for (std::size_t i = 0; i < base_models.size(); ++i) out += (i == 0 ? ":base=" : ",") + base_models[i];
  return out;
}

Result<Mapping> parse_mapping(std::string_view text, std::uint64_t seed) {
  const std::string_view name = text.substr(0, text.find(':'));
  Mapping mapping;
  mapping.seed = seed;
  const auto kind =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const KindFacts& k) { return k.name == name; });
  if (kind == kKinds.end())
    return refuse(text,
                  fmt::format("no such mapping{}: give one of {}", did_you_mean(name, trace_mapping_names()),
                              join_names(trace_mapping_names())));
  mapping.kind = static_cast<MappingKind>(kind - kKinds.begin());
  if (mapping.kind == MappingKind::kZipf) mapping.alpha = 0.9;
  if (mapping.kind == MappingKind::kSession) mapping.alpha = 0.9;
  if (mapping.kind == MappingKind::kPower) mapping.alpha = 0.1;
  if (mapping.kind == MappingKind::kZipf || mapping.kind == MappingKind::kPower) mapping.adapters = 100;

  std::string_view rest = text.substr(name.size());
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the colon
    if (mapping.kind == MappingKind::kLora && rest.substr(0, 5) == "base=") {
      add_base_models(mapping, rest.substr(5));  // model names may hold colons
      break;
    }
    const std::string_view parameter = rest.substr(0, rest.find(':'));
    rest.remove_prefix(parameter.size());
    const std::size_t equals = std::min(parameter.find('='), parameter.size());
    const std::string_view key = parameter.substr(0, equals);
    const std::string_view value =
        equals < parameter.size() ? parameter.substr(equals + 1) : std::string_view();
    if (key.empty() || kind->parameters.find(fmt::format(" {} ", key)) == std::string_view::npos)
      return refuse(
          text, fmt::format("{} has no parameter '{}': it has {}", name, key, parameters_of(mapping.kind)));
    const std::string wrong = set_parameter(mapping, key, value);
    if (!wrong.empty()) return refuse(text, wrong);
  }
  if (mapping.to_s <= mapping.from_s) return refuse(text, "to_s is not behind from_s: swap them");
  mapping.draws = mapping.kind == MappingKind::kClient || mapping.adapters > 0;
  return mapping;
}

ZipfDraws::ZipfDraws(std::uint32_t n, double alpha, std::uint64_t seed) : cumulative_(n), rng_(seed) {
  double sum = 0;
  for (std::uint32_t k = 0; k < n; ++k)
    cumulative_[k] = sum += exact::power(static_cast<double>(k) + 1, -alpha);
}

std::uint32_t ZipfDraws::next() noexcept {
  const double at = rng_.uniform() * cumulative_.back();
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, at);
  return static_cast<std::uint32_t>(found - cumulative_.begin());
}

Result<Trace> apply_mapping(Trace trace, const Mapping& mapping) {
  char name[24];
  const auto name_rank = [&name](std::uint32_t rank) {
    const auto written = fmt::format_to_n(name, sizeof name, "adapter-{:04}", rank);
    return std::string_view(name, written.size);
  };
  const Trace source = trace;  // shares the columns, which the fills read while `trace` is rebuilt
  switch (mapping.kind) {
    case MappingKind::kLora: {
      if (!mapping.first_only && mapping.base_models.empty()) return trace;
      return replace_uses(std::move(trace), true, [&](std::uint64_t i, Adapters& adapters) {
        for (const Row row : source.batch(i)) {
          const std::string_view adapter = source.adapters.name[index_of(row)];
          if (mapping.is_base_model(adapter) || (mapping.first_only && !adapters.empty())) continue;
          adapters.push_back(adapter);
        }
      });
    }
    case MappingKind::kTenant: {
      if (source.tenant.empty())
        return fail(Errc::kInvalid,
                    fmt::format("{}: mapping 'tenant': no request names a tenant: give another "
                                "mapping, such as lora or zipf",
                                source.source));
      return replace_uses(std::move(trace), false, [&](std::uint64_t i, Adapters& adapters) {
        if (source.tenant[i] != kNoTenant) adapters.push_back(source.tenant_name[source.tenant[i]]);
      });
    }
    case MappingKind::kZipf: {
      ZipfDraws draws(mapping.adapters, mapping.alpha, mapping.seed);
      return replace_uses(std::move(trace), false, [&](std::uint64_t, Adapters& adapters) {
        adapters.push_back(name_rank(draws.next()));
      });
    }
    case MappingKind::kPower: {
      Rng rng(mapping.seed);
      const double n = mapping.adapters;
      return replace_uses(std::move(trace), false, [&](std::uint64_t, Adapters& adapters) {
        // The power can round up to 1, which would be one past the last adapter.
        const double drawn = std::floor(exact::power(rng.uniform(), 1 / mapping.alpha) * n);
        adapters.push_back(name_rank(static_cast<std::uint32_t>(std::min(drawn, n - 1))));
      });
    }
    case MappingKind::kClient:
    case MappingKind::kSession:
      break;
  }
  return trace;
}

}  // namespace loracle
