#include "loracle/sim/prices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "loracle/core/nearest.hpp"
#include "plan_format.hpp"

namespace loracle {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSchema = "loracle.prices/1";
constexpr std::uint64_t kMillionths = 1'000'000;
constexpr double kPriceMax = 1e6;  // a month of it, and a server's worth of bytes of it, can be counted

constexpr std::array<PriceInput, kPriceInputs> kInputs = {PriceInput::kGpuHour, PriceInput::kHostGibMonth,
                                                          PriceInput::kDiskGibMonth, PriceInput::kEgressGib,
                                                          PriceInput::kGets1000};

std::string all_names() {
  std::string names;
  for (const PriceInput input : kInputs) names += (names.empty() ? "" : ", ") + std::string(name_of(input));
  return names;
}

/// One price file while it is read: messages name it.
class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  Result<Prices> read(std::string_view text) {
    const Result<Json> json = parse(text);
    if (!json) return fail(json.error());
    if (auto ok = check_members(*json, "", {"schema", "currency", "source", "prices"}); !ok)
      return fail(std::move(ok.error()));
    const auto schema = json->find("schema");
    if (schema == json->end() || *schema != kSchema)
      return bad("schema", fmt::format("is {}; write \"{}\", the one this version reads",
                                       schema == json->end() ? "missing" : dumped(*schema), kSchema));
    prices_.file = name_;
    const Result<std::string> currency = word(*json, "", "currency", "");
    if (!currency) return fail(currency.error());
    if (currency->empty()) return bad("currency", "is missing; write for example \"USD\"");
    prices_.currency = *currency;
    const Result<std::string> source = word(*json, "", "source", name_);
    if (!source) return fail(source.error());
    const auto listed = json->find("prices");
    if (listed == json->end() || !listed->is_object() || listed->empty())
      return bad("prices", fmt::format("is no object with at least one of {}", all_names()));
    std::vector<std::string_view> names;
    names.reserve(kInputs.size());
    for (const PriceInput input : kInputs) names.emplace_back(name_of(input));
    if (auto ok = check_members(*listed, "prices.", names); !ok) return fail(std::move(ok.error()));
    for (const PriceInput input : kInputs) {
      const auto found = listed->find(name_of(input));
      if (found == listed->end()) continue;
      auto price = price_of(*found, std::string("prices.") + name_of(input), *source);
      if (!price) return fail(std::move(price.error()));
      prices_.all[static_cast<std::size_t>(input)] = std::move(*price);
    }
    return std::move(prices_);
  }

 private:
  [[nodiscard]] tl::unexpected<Error> bad(std::string_view field, std::string_view what) const {
    return fail(Errc::kCorrupt, fmt::format("{}: '{}' {}", name_, field, what));
  }

  static std::string dumped(const Json& json) {
    return json.dump(-1, ' ', true, Json::error_handler_t::replace);
  }

  /// A JSON object in which no member is written twice.
  [[nodiscard]] Result<Json> parse(std::string_view text) const {
    std::vector<std::set<std::string>> seen(1);
    std::string twice;
    const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
      if (event == Json::parse_event_t::object_start) seen.emplace_back();
      if (event == Json::parse_event_t::object_end) seen.pop_back();
      if (event == Json::parse_event_t::key && !seen.back().insert(parsed.get<std::string>()).second)
        twice = parsed.get<std::string>();
      return true;
    };
    Json json = Json::parse(text, watch, /*allow_exceptions=*/false);
    if (!json.is_object())
      return fail(Errc::kCorrupt,
                  fmt::format("{}: not a JSON object (NaN and Infinity are no JSON either); sim/README.md "
                              "shows a price file",
                              name_));
    if (!twice.empty()) return bad(twice, "is written twice; keep one");
    return json;
  }

  [[nodiscard]] Result<Unit> check_members(const Json& json, const std::string& where,
                                           const std::vector<std::string_view>& known) const {
    for (auto member = json.begin(); member != json.end(); ++member) {
      if (std::find(known.begin(), known.end(), member.key()) != known.end()) continue;
      const std::string_view nearest = nearest_name(member.key(), known);
      return bad(where + member.key(),
                 fmt::format("is not a field of a price file{}; they are {}",
                             nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest),
                             fmt::join(known.begin(), known.end(), ", ")));
    }
    return Unit{};
  }

  [[nodiscard]] Result<std::string> word(const Json& json, const std::string& where, const char* field,
                                         const std::string& otherwise) const {
    const auto found = json.find(field);
    if (found == json.end()) return otherwise;
    if (!found->is_string() || found->get_ref<const std::string&>().empty())
      return bad(where + field, "must be a text that is not empty");
    return found->get<std::string>();
  }

  [[nodiscard]] Result<Price> price_of(const Json& json, const std::string& field,
                                       const std::string& source) const {
    Price price;
    price.known = true;
    price.source = source;
    if (!json.is_object()) {
      const Result<Money> amount = money_of(json, field);
      if (!amount) return fail(amount.error());
      price.amount = *amount;
      return price;
    }
    if (auto ok = check_members(json, field + '.', {"price", "source"}); !ok)
      return fail(std::move(ok.error()));
    const auto number = json.find("price");
    if (number == json.end()) return bad(field + ".price", "is missing; write a number");
    const Result<Money> amount = money_of(*number, field + ".price");
    if (!amount) return fail(amount.error());
    price.amount = *amount;
    Result<std::string> own = word(json, field + '.', "source", source);
    if (!own) return fail(std::move(own.error()));
    price.source = std::move(*own);
    return price;
  }

  [[nodiscard]] Result<Money> money_of(const Json& json, const std::string& field) const {
    if (!json.is_number()) return bad(field, fmt::format("is {}; write a number, 0 or more", dumped(json)));
    const auto value = json.get<double>();
    if (!(value >= 0)) return bad(field, fmt::format("is {}; a price is 0 or more", dumped(json)));
    if (value > kPriceMax) return bad(field, fmt::format("is {}; at most {:.0f}", dumped(json), kPriceMax));
    // Below 2^40 millionths a double is that close to the decimal that was written.
    constexpr double kOff = 1e-3;
    const double scaled = value * static_cast<double>(kMillionths);
    const double whole = std::round(scaled);
    if (std::abs(scaled - whole) > kOff)
      return bad(field, fmt::format("is {}; write at most six decimals", dumped(json)));
    return Money{static_cast<std::uint64_t>(whole)};
  }

  const std::string& name_;
  Prices prices_;
};

}  // namespace

std::string money_text(Money amount) {
  constexpr std::uint64_t kCent = kMillionths / 100;
  const std::uint64_t cents = (amount.value + kCent / 2) / kCent;
  return fmt::format("{}.{:02}", detail::count_text(cents / 100), cents % 100);
}

std::string price_text(Money amount) {
  std::string text = fmt::format("{}.{:06}", amount.value / kMillionths, amount.value % kMillionths);
  const std::size_t shortest = text.find('.') + 3;
  while (text.size() > shortest && text.back() == '0') text.pop_back();
  return text;
}

const char* name_of(PriceInput input) noexcept {
  switch (input) {
    case PriceInput::kGpuHour:
      return "gpu_hour";
    case PriceInput::kHostGibMonth:
      return "host_gib_month";
    case PriceInput::kDiskGibMonth:
      return "disk_gib_month";
    case PriceInput::kEgressGib:
      return "egress_gib";
    case PriceInput::kGets1000:
      break;
  }
  return "gets_1000";
}

Result<Prices> parse_prices(std::string_view text, const std::string& name) {
  return Reader(name).read(text);
}

Result<Prices> load_prices(const std::string& path) {
  constexpr std::uintmax_t kBytesMax = 1U << 20U;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored))
    return fail(Errc::kIo,
                fmt::format("{}: no such file; --prices takes a JSON file as sim/README.md shows it", path),
                ENOENT);
  if (std::filesystem::file_size(path, ignored) > kBytesMax)
    return fail(Errc::kCorrupt, fmt::format("{}: too large for a price file", path));
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(Errc::kIo, fmt::format("{}: cannot open: {}", path, std::strerror(errno)), errno);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return parse_prices(text, path);
}

}  // namespace loracle
