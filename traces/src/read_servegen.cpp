/// ServeGen client rates (Xiang et al., "ServeGen: workload characterization and generation of LLM serving",
/// Apache-2.0), as one table: client,t_s,rate_rps,cv,pattern,shape,scale, a row for each client and window of
/// 600 s. It describes requests rather than listing them, so reading it draws them: rate x 600 s arrivals a
/// window (a fraction by chance), with Gamma or Weibull gaps of the row's shape, stretched to fill the window
/// (gap_draws.hpp). A window's draws depend on seed, client and t_s only: neither order of rows nor
/// requests_max changes them. Token lengths are not in the table.
/// Memory: the table (40 bytes a row), the windows being realised, the result. More than kRequestsMax
/// requests are refused unless requests_max or the mapping's rate, from_s and to_s bound them.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "csv_table.hpp"
#include "gap_draws.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

constexpr double kWindowS = 600;
constexpr double kRequestsMax = 100e6;
constexpr double kWindowRequestsMax = 50e6;

struct Window {
  double t_s = 0;
  double expected = 0;  // arrivals, after the mapping's rate
  double shape = 0;
  std::uint32_t client = 0;
  GapLaw law = GapLaw::kGamma;
};

struct Arrival {  // ordered by time; at one moment the window that was opened first goes first
  double at_s = 0;
  std::uint64_t order = 0;
  std::uint32_t client = 0;

  [[nodiscard]] bool operator>(const Arrival& other) const noexcept {
    return at_s != other.at_s ? at_s > other.at_s : order > other.order;
  }
};

struct Columns {
  int client = -1;
  int t_s = -1;
  int rate = -1;
  int pattern = -1;
  int shape = -1;
};

LineCheck parse_window(const CsvTable& table, const Columns& columns, const Mapping& mapping,
                       NameTable& clients, Window& window) {
  const CsvField t_s = table[columns.t_s];
  if (LineCheck check = check_seconds(t_s.text, "t_s", t_s.at, window.t_s)) return check;
  const CsvField rate = table[columns.rate];
  double rate_rps = 0;
  if (LineCheck check = check_seconds(rate.text, "rate_rps", rate.at, rate_rps)) {
    check->advice = "give requests per second from 0";
    return check;
  }
  window.expected = rate_rps * mapping.rate * kWindowS;
  if (window.expected > kWindowRequestsMax)
    return LineFault{
        rate.at, fmt::format("rate_rps {} makes {:.0f} requests of one window", rate_rps, window.expected),
        fmt::format("at most {:.0f}; lower the mapping's rate", kWindowRequestsMax)};
  const CsvField pattern = table[columns.pattern];
  if (equal_ignoring_case(pattern.text, "gamma")) {
    window.law = GapLaw::kGamma;
  } else if (equal_ignoring_case(pattern.text, "weibull")) {
    window.law = GapLaw::kWeibull;
  } else {
    return LineFault{pattern.at, fmt::format("pattern is '{}'", excerpt(pattern.text)),
                     "give Gamma or Weibull"};
  }
  const CsvField shape = table[columns.shape];
  const std::optional<double> value = parse_number(shape.text);
  if (!value || *value <= 0)
    return LineFault{shape.at, fmt::format("shape is '{}'", excerpt(shape.text)), "give a number above 0"};
  window.shape = *value;
  const CsvField client = table[columns.client];
  if (LineCheck check = check_name(client.text, "client", client.at)) return check;
  window.client = clients.intern(client.text);
  return std::nullopt;
}

class Realisation {
 public:
  Realisation(TextReader& reader, const NameTable& clients) : reader_(&reader), clients_(&clients) {
    for (std::uint32_t id = 0; id < clients.size(); ++id) client_hash_.push_back(hash_of(clients[id]));
  }

  void run(std::vector<Window> windows) {
    std::stable_sort(windows.begin(), windows.end(),
                     [](const Window& a, const Window& b) { return a.t_s < b.t_s; });
    for (const Window& window : windows) {
      // Whatever later windows hold comes later than this one's start.
      if (!flush(window.t_s)) return;
      open(window);
    }
    static_cast<void>(flush(std::numeric_limits<double>::infinity()));
  }

 private:
  void open(const Window& window) {
    std::uint64_t state = reader_->mapping().seed ^ client_hash_[window.client];
    state = splitmix64(state) ^ static_cast<std::uint64_t>(std::llround(window.t_s * 1000));
    Rng rng(splitmix64(state));
    const double whole = std::floor(window.expected);
    const auto count =
        static_cast<std::uint64_t>(whole) + (rng.uniform() < window.expected - whole ? 1U : 0U);
    for (const double at : draw_arrivals(rng, window.law, window.shape, count, kWindowS)) {
      const double at_s = window.t_s + at;
      if (at_s >= reader_->mapping().from_s && at_s < reader_->mapping().to_s)
        waiting_.push({at_s, order_++, window.client});
    }
  }

  /// Adds what arrives before `until_s`; false when requests_max is reached.
  [[nodiscard]] bool flush(double until_s) {
    const std::uint64_t requests_max = reader_->options().requests_max;
    while (!waiting_.empty() && waiting_.top().at_s < until_s) {
      if (requests_max > 0 && reader_->builder().requests() == requests_max) return false;
      const Arrival arrival = waiting_.top();
      waiting_.pop();
      draft_.clear();
      draft_.arrival_s = arrival.at_s;
      draft_.tenant = (*clients_)[arrival.client];
      draft_.adapters.push_back(draft_.tenant);
      reader_->builder().add(draft_);
    }
    return true;
  }

  /// FNV-1a; any fixed hash would do.
  [[nodiscard]] static std::uint64_t hash_of(std::string_view name) noexcept {
    std::uint64_t hash = 0xCBF2'9CE4'8422'2325ULL;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x0000'0100'0000'01B3ULL;
    return hash;
  }

  TextReader* reader_;
  const NameTable* clients_;
  std::vector<std::uint64_t> client_hash_;
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> waiting_;
  std::uint64_t order_ = 0;
  RequestDraft draft_;
};

}  // namespace

Result<Trace> read_servegen(ByteSource& source, const std::string& path, const ReadOptions& options,
                            const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);  // adds no request while rows are read: all of them are
  CsvTable table(reader);
  const Result<Unit> header = table.read_first_line();
  if (!header) return fail(header.error());
  Columns columns;
  for (const auto& [name, column] : {std::pair<const char*, int*>{"client", &columns.client},
                                     {"t_s", &columns.t_s},
                                     {"rate_rps", &columns.rate},
                                     {"pattern", &columns.pattern},
                                     {"shape", &columns.shape}}) {
    const Result<int> found = table.require(name, "servegen");
    if (!found) return fail(found.error());
    *column = *found;
  }

  NameTable clients;
  std::vector<Window> windows;
  double expected = 0;
  for (;;) {
    const Result<bool> more = table.next();
    if (!more) return fail(more.error());
    if (!*more) break;
    Window window;
    const LineCheck check = parse_window(table, columns, mapping, clients, window);
    const Result<Unit> settled = reader.settle(check);
    if (!settled) return fail(settled.error());
    if (check || window.t_s + kWindowS <= mapping.from_s || window.t_s >= mapping.to_s) continue;
    expected += window.expected;
    windows.push_back(window);
  }
  if (options.requests_max == 0 && expected > kRequestsMax)
    return fail(
        Errc::kInvalid,
        fmt::format("{}: the rates make about {:.0f} requests, more than {:.0f}: bound them with a number of "
                    "requests, or map by client:rate=0.01 or client:to_s=3600",
                    path, expected, kRequestsMax));
  Realisation(reader, clients).run(std::move(windows));
  return reader.finish();
}

}  // namespace loracle
