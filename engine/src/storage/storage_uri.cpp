#include "storage/storage_uri.hpp"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <memory>
#include <optional>

#include "loracle/engine/origin.hpp"

namespace loracle {
namespace {

constexpr std::string_view kSeparator = "://";

struct UrlDeleter {
  void operator()(CURLU* url) const noexcept { ::curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, UrlDeleter>;

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (::curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return {};
  std::string copy(text);
  ::curl_free(text);
  return copy;
}

bool has_dot_part(std::string_view key) noexcept {
  while (true) {
    const std::size_t slash = key.find('/');
    const std::string_view part = key.substr(0, slash);
    if (part == "." || part == "..") return true;
    if (slash == std::string_view::npos) return false;
    key.remove_prefix(slash + 1);
  }
}

bool has_control(std::string_view text) noexcept {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

}  // namespace

Result<S3Address> parse_s3_uri(const std::string& uri) {
  constexpr std::string_view kScheme = "s3://";
  if (!uri.starts_with(kScheme))
    return fail(Errc::kInvalid, fmt::format("{}: not s3://bucket/prefix", shown_uri(uri)));
  std::string_view rest = std::string_view(uri).substr(kScheme.size());
  const std::string_view bucket = rest.substr(0, rest.find('/'));
  rest.remove_prefix(std::min(rest.size(), bucket.size() + 1));
  const bool name =
      !bucket.empty() && bucket.size() <= 255 && bucket.front() != '.' &&
      std::all_of(bucket.begin(), bucket.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
      });
  if (!name) {
    return fail(Errc::kInvalid,
                fmt::format("{}: '{}' is not the name of a bucket: write s3://bucket/prefix", uri, bucket));
  }
  if (has_control(rest) || rest.size() > 1024)
    return fail(Errc::kInvalid,
                fmt::format("s3://{}: a key has at most 1024 bytes, and no control characters", bucket));
  if (has_dot_part(rest)) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: parts named '.' or '..' are not followed in keys: write the key itself", uri));
  }
  return S3Address{std::string(bucket), std::string(rest)};
}

Result<std::string> path_of_file_uri(const std::string& uri) {
  if (uri.find('\0') != std::string::npos)
    return fail(Errc::kInvalid, "a path with a NUL byte: no file has such a name");
  // The one reading of file:// there is: the engine's own.
  Result<LocalCopy> copy = make_file_origin()->localize(uri);
  if (!copy) return fail(std::move(copy.error()));
  if (copy->directory.empty()) return fail(Errc::kInvalid, "an empty path: write /path or file:///path");
  return std::move(copy->directory);
}

Result<HttpAddress> parse_http_url(const std::string& url) {
  const Url parsed(::curl_url());
  if (has_control(url) ||
      ::curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), CURLU_PATH_AS_IS) != CURLUE_OK) {
    return fail(Errc::kInvalid, fmt::format("{}: not a URL: write https://host/path, %20 for a blank",
                                            has_control(url) ? "a URL" : shown_uri(url)));
  }
  if (!part_of(parsed.get(), CURLUPART_USER).empty() || !part_of(parsed.get(), CURLUPART_PASSWORD).empty()) {
    return fail(Errc::kInvalid,
                fmt::format("{}: a user name or password does not belong into a URL: it would "
                            "be written into logs",
                            shown_uri(url)));
  }
  HttpAddress address{lower_case(part_of(parsed.get(), CURLUPART_SCHEME)),
                      lower_case(part_of(parsed.get(), CURLUPART_HOST)), 0};
  while (address.host.ends_with('.')) address.host.pop_back();
  if ((address.scheme != "https" && address.scheme != "http") || address.host.empty())
    return fail(Errc::kInvalid, fmt::format("{}: not http(s)://host/path", shown_uri(url)));
  const std::string port = part_of(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  std::from_chars(port.data(), port.data() + port.size(), address.port);
  return address;
}

Result<std::string> resolve_url(const std::string& base, const std::string& location) {
  const Url parsed(::curl_url());
  if (has_control(location) ||
      ::curl_url_set(parsed.get(), CURLUPART_URL, base.c_str(), CURLU_PATH_AS_IS) != CURLUE_OK ||
      ::curl_url_set(parsed.get(), CURLUPART_URL, location.c_str(), CURLU_PATH_AS_IS) != CURLUE_OK) {
    return fail(Errc::kInvalid, fmt::format("{}: redirects to what is not a URL", shown_uri(base)));
  }
  ::curl_url_set(parsed.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return part_of(parsed.get(), CURLUPART_URL);
}

std::string shown_uri(std::string_view uri) {
  const std::size_t separator = uri.find(kSeparator);
  if (separator == std::string_view::npos) return std::string(uri);
  const std::string_view scheme = uri.substr(0, separator);
  if (scheme == "s3" || scheme == "file") return std::string(uri);
  std::string_view rest = uri.substr(separator + kSeparator.size());
  rest = rest.substr(0, rest.find_first_of("?#"));
  const std::string_view authority = rest.substr(0, rest.find('/'));
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) rest.remove_prefix(at + 1);
  return fmt::format("{}{}{}", scheme, kSeparator, rest);
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

bool is_plain_path(std::string_view path) noexcept {
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::string percent_encoded(std::string_view text, bool keep_slashes) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (keep_slashes && c == '/');
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", byte);
    }
  }
  return encoded;
}

}  // namespace loracle
