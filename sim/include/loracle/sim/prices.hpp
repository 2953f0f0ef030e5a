#pragma once
/// What GPU time, memory, disk and transfers cost: an operator's price file, read exactly.
///
/// The file is JSON, schema "loracle.prices/1" (sim/README.md has an example): `currency`, and in `prices`
/// any of gpu_hour, host_gib_month, disk_gib_month, egress_gib, gets_1000; each a number, or an object of
/// `price` and `source`. A price without a source of its own has the file's `source`, or the file's name.
/// Money is counted in millionths of the currency, as integers: prices of up to six decimals are exact, finer
/// ones are refused. A price that is not there is unknown, not 0.
/// Pure functions, but for the one that reads a file. Errors: kIo, kCorrupt (not JSON, another schema, a
/// field unknown, twice or missing, a price negative, finer or larger than can be counted), each naming file,
/// field and what to write instead.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

/// Millionths of a currency.
using Money = Quantity<struct MoneyUnit>;

/// "1,234.57": rounded to hundredths, half up.
[[nodiscard]] std::string money_text(Money amount);
/// "0.0004", "4.00": every digit that matters, two decimals at least.
[[nodiscard]] std::string price_text(Money amount);

enum class PriceInput : std::uint8_t {
  kGpuHour,       // all GPUs of one server, an hour
  kHostGibMonth,  // host memory
  kDiskGibMonth,  // where the adapters lie
  kEgressGib,     // moved from there to the server
  kGets1000,      // a thousand requests for files there
};
inline constexpr std::size_t kPriceInputs = 5;
/// "gpu_hour", "host_gib_month", "disk_gib_month", "egress_gib", "gets_1000": the names in the file.
[[nodiscard]] const char* name_of(PriceInput input) noexcept;

struct Price {
  bool known = false;
  Money amount{};
  std::string source;
};

struct Prices {
  std::string file;  // as given
  std::string currency;
  std::array<Price, kPriceInputs> all;  // by PriceInput

  [[nodiscard]] const Price& of(PriceInput input) const noexcept {
    return all[static_cast<std::size_t>(input)];
  }
};

/// `name` is what messages call the text.
[[nodiscard]] Result<Prices> parse_prices(std::string_view text, const std::string& name);
[[nodiscard]] Result<Prices> load_prices(const std::string& path);

}  // namespace loracle
