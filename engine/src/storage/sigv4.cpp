#include "storage/sigv4.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "loracle/core/check.hpp"
#include "loracle/engine/digest.hpp"
#include "storage/storage_uri.hpp"
#include "storage/utc_time.hpp"

namespace loracle {
namespace {

std::string hmac(std::string_view key, std::string_view text) {
  std::array<unsigned char, 32> digest{};
  unsigned length = 0;
  const unsigned char* const made =
      ::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), &length);
  LORACLE_CHECK(made != nullptr && length == digest.size());
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

/// Without the blanks around it, and with one blank for each run of them.
std::string tidy_value(std::string_view value) {
  std::string tidy;
  for (const char c : value) {
    const bool blank = c == ' ' || c == '\t';
    if (blank && (tidy.empty() || tidy.back() == ' ')) continue;
    tidy += blank ? ' ' : c;
  }
  if (!tidy.empty() && tidy.back() == ' ') tidy.pop_back();
  return tidy;
}

/// Lower-case name -> values, joined in the order they came.
std::map<std::string, std::string> signed_headers(const SignableRequest& request) {
  std::map<std::string, std::string> headers;
  for (const auto& [name, value] : request.headers) {
    const auto [at, first] = headers.emplace(lower_case(name), tidy_value(value));
    if (!first) at->second += "," + tidy_value(value);
  }
  return headers;
}

std::string names_of(const std::map<std::string, std::string>& headers) {
  std::string names;
  for (const auto& header : headers) names += (names.empty() ? "" : ";") + header.first;
  return names;
}

/// "/a/./b//../c/" as "/a/c/" (RFC 3986, 5.2.4; empty parts are dropped too).
std::string without_dots(std::string_view path) {
  std::vector<std::string_view> parts;
  bool folder = true;  // ends in a slash, or in what stands for a folder
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    folder = slash != std::string_view::npos || part == "." || part == "..";
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
  }
  std::string tidy = "/";
  for (const std::string_view part : parts) tidy += (tidy.size() > 1 ? "/" : "") + std::string(part);
  if (folder && tidy.size() > 1) tidy += '/';
  return tidy;
}

}  // namespace

std::string canonical_query(const std::vector<std::pair<std::string, std::string>>& query) {
  std::vector<std::pair<std::string, std::string>> encoded;
  encoded.reserve(query.size());
  for (const auto& [name, value] : query)
    encoded.emplace_back(percent_encoded(name, false), percent_encoded(value, false));
  std::sort(encoded.begin(), encoded.end());
  std::string text;
  for (const auto& [name, value] : encoded)
    text += fmt::format("{}{}={}", text.empty() ? "" : "&", name, value);
  return text;
}

std::string canonical_request(const SignableRequest& request, SignedPath path) {
  const std::map<std::string, std::string> headers = signed_headers(request);
  std::string lines;
  for (const auto& [name, value] : headers) lines += fmt::format("{}:{}\n", name, value);
  const std::string canonical_path =
      path == SignedPath::kAsSent ? request.path : percent_encoded(without_dots(request.path), true);
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, canonical_path, canonical_query(request.query),
                     lines, names_of(headers), request.payload_sha256);
}

std::string authorization(const SignableRequest& request, const SigningScope& scope,
                          const AwsCredentials& credentials) {
  const std::string time = compact_utc(scope.unix_s);
  const std::string day = time.substr(0, 8);
  const std::string place = fmt::format("{}/{}/{}/aws4_request", day, scope.region, scope.service);
  const std::string canonical = canonical_request(request, scope.path);
  const std::string to_sign = fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", time, place, sha256_hex(canonical));
  const std::string key = hmac(
      hmac(hmac(hmac("AWS4" + credentials.secret_key, day), scope.region), scope.service), "aws4_request");
  return fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
                     credentials.access_key, place, names_of(signed_headers(request)),
                     hex(hmac(key, to_sign)));
}

}  // namespace loracle
