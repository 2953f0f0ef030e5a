#include "service/http_routes.hpp"

#include <limits>
#include <utility>

#include "service/http_server.hpp"

namespace loracle::service {
namespace {

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string decoded(std::string_view text, bool is_query) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_value(text[i + 2]);
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += is_query && text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

bool is_variable(std::string_view part) noexcept { return part.starts_with('{'); }

}  // namespace

HttpTarget parse_target(std::string_view target) {
  HttpTarget parsed;
  const std::size_t mark = target.find('?');
  const std::string_view path = target.substr(0, mark);
  parsed.path = decoded(path, false);
  for (const std::string_view part : split(path, '/')) parsed.parts.push_back(decoded(part, false));
  if (mark == std::string_view::npos) return parsed;
  for (const std::string_view field : split(target.substr(mark + 1), '&')) {
    if (field.empty()) continue;
    const std::size_t equals = field.find('=');
    parsed.query.emplace(decoded(field.substr(0, equals), true),
                         equals == std::string_view::npos ? "" : decoded(field.substr(equals + 1), true));
  }
  return parsed;
}

HttpRoutes::HttpRoutes(const std::vector<HttpRoute>& routes) {
  for (const HttpRoute& route : routes) known_.push_back({&route, split(route.path, '/')});
}

FoundRoute HttpRoutes::find(std::string_view method, const HttpTarget& target) const {
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  FoundRoute found;
  std::size_t allowed_variables = std::numeric_limits<std::size_t>::max();
  for (const Known& known : known_) {
    if (known.parts.size() != target.parts.size()) continue;
    bool fits = true;
    std::vector<std::string> variables;
    for (std::size_t i = 0; fits && i < known.parts.size(); ++i) {
      if (!is_variable(known.parts[i]))
        fits = known.parts[i] == target.parts[i];
      else if (fits = !target.parts[i].empty(); fits)
        variables.push_back(target.parts[i]);
    }
    if (!fits) continue;
    if (known.route->method == wanted) return {known.route, std::move(variables), {}};
    // A path that is written out is not told to take what a name in its place would.
    if (variables.size() > allowed_variables) continue;
    if (variables.size() < allowed_variables) found.allowed.clear();
    allowed_variables = variables.size();
    if (!found.allowed.empty()) found.allowed += ", ";
    found.allowed += known.route->method;
  }
  return found;
}

}  // namespace loracle::service
