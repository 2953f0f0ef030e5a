#include "loracle/engine/origin.hpp"

#include <fmt/format.h>

#include <optional>

namespace loracle {
namespace {

constexpr std::string_view kSeparator = "://";

std::optional<int> hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

/// The text with %XX decoded; nullopt for a % that two hex digits do not follow, and for a NUL.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const std::optional<int> high = hex_digit(text[i + 1]);
    const std::optional<int> low = hex_digit(text[i + 2]);
    if (!high || !low || (*high == 0 && *low == 0)) return std::nullopt;
    decoded += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return decoded;
}

class FileOrigin final : public Origin {
 public:
  [[nodiscard]] std::string_view scheme() const noexcept override { return "file"; }

  [[nodiscard]] Result<LocalCopy> localize(const std::string& uri) override {
    if (scheme_of(uri).empty()) return LocalCopy{uri, {}, {}};
    std::string_view rest = std::string_view(uri).substr(uri.find(kSeparator) + kSeparator.size());
    const std::string_view host = rest.substr(0, rest.find('/'));
    rest.remove_prefix(host.size());
    if (!host.empty() && host != "localhost")
      return fail(Errc::kInvalid, fmt::format("{}: '{}' is another machine: write file:///path", uri, host));
    if (rest.find_first_of("?#") != std::string_view::npos || rest.empty())
      return fail(Errc::kInvalid, fmt::format("{}: names no path: write file:///path", uri));
    std::optional<std::string> path = percent_decoded(rest);
    if (!path)
      return fail(Errc::kInvalid,
                  fmt::format("{}: a % must be followed by two hex digits, and not by 00", uri));
    return LocalCopy{std::move(*path), {}, {}};
  }
};

}  // namespace

std::unique_ptr<Origin> make_file_origin() { return std::make_unique<FileOrigin>(); }

std::string_view scheme_of(std::string_view uri) noexcept {
  const std::size_t end = uri.find(kSeparator);
  if (end == std::string_view::npos || end == 0) return {};
  const std::string_view scheme = uri.substr(0, end);
  for (const char c : scheme) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool other = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
    if (!letter && !other) return {};
  }
  return scheme;
}

Result<LocalCopy> Origin::localize_content(const std::string& uri, const std::string& /*content*/) {
  return localize(uri);
}

std::string_view without_trailing_slashes(std::string_view uri) noexcept {
  while (uri.size() > 1 && uri.ends_with('/') && !uri.ends_with(kSeparator)) uri.remove_suffix(1);
  return uri;
}

Result<RemoteView> Origin::view(const std::string& uri) {
  return fail(Errc::kUnsupported, fmt::format("{}: must be brought here to be examined", uri));
}

Result<Origin*> origin_of(std::span<Origin* const> origins, const std::string& uri) {
  const std::string_view asked = scheme_of(uri).empty() ? std::string_view("file") : scheme_of(uri);
  std::string known;
  for (Origin* const origin : origins) {
    if (origin->scheme() == asked) return origin;
    known += fmt::format("{}{}://", known.empty() ? "" : " ", origin->scheme());
  }
  return fail(Errc::kUnsupported,
              fmt::format("{}: nothing here reads {}://: use one of {}", uri, asked, known));
}

Result<LocalCopy> Origin::local_copy(const std::string& content) {
  return fail(Errc::kNotFound, fmt::format("{}: no copies of {} are kept", scheme(), content));
}

Result<LocalCopy> localize(std::span<Origin* const> origins, const std::string& uri) {
  const Result<Origin*> origin = origin_of(origins, uri);
  if (!origin) return fail(origin.error());
  return (*origin)->localize(uri);
}

Result<LocalCopy> localize_content(std::span<Origin* const> origins, const std::string& uri,
                                   const std::string& content) {
  const Result<Origin*> origin = origin_of(origins, uri);
  if (!origin) return fail(origin.error());
  return (*origin)->localize_content(uri, content);
}

}  // namespace loracle
