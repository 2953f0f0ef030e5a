#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/sim/report.hpp"

namespace loracle {
namespace {

/// The value of a base64 digit; 64 if it is none.
std::uint32_t digit_of(char c) noexcept {
  if (c >= 'A' && c <= 'Z') return static_cast<std::uint32_t>(c - 'A');
  if (c >= 'a' && c <= 'z') return static_cast<std::uint32_t>(c - 'a') + 26;
  if (c >= '0' && c <= '9') return static_cast<std::uint32_t>(c - '0') + 52;
  return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/// RFC 4648, with padding. False if the text is no such thing.
bool decode_base64(std::string_view text, std::string& bytes) {
  if (text.empty() || text.size() % 4 != 0) return false;
  std::uint32_t bits = 0;
  std::uint32_t held = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const std::uint32_t digit = digit_of(c);
    if (digit > 63) return false;
    bits = (bits << 6U) | digit;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>((bits >> held) & 0xFFU);
  }
  return true;
}

}  // namespace

Result<std::vector<DrawnChart>> drawn_charts(std::string_view document) {
  static constexpr std::string_view kOpen = "<pre data-chart=\"";
  std::vector<DrawnChart> charts;
  for (std::size_t at = document.find(kOpen); at != std::string_view::npos;
       at = document.find(kOpen, at + 1)) {
    const std::size_t name = at + kOpen.size();
    const std::size_t name_end = document.find('"', name);
    const std::size_t text = document.find('>', name);
    const std::size_t text_end = document.find('<', text);
    if (text_end == std::string_view::npos) break;
    DrawnChart chart;
    chart.name = document.substr(name, name_end - name);
    const std::string_view content = document.substr(text + 1, text_end - text - 1);
    if (!decode_base64(content, chart.bytes))
      return fail(Errc::kCorrupt, fmt::format("chart '{}' was not drawn: {}", chart.name,
                                              content.empty() ? "the browser gave up too early" : content));
    charts.push_back(std::move(chart));
  }
  if (charts.empty()) return fail(Errc::kCorrupt, "the browser gave no chart back");
  return charts;
}

}  // namespace loracle
