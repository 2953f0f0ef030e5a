#pragma once
/// Reading and writing the text of URIs. Nothing here is a check of where a URI leads: that is done on what
/// was opened or connected to.

#include <cstdint>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"

namespace loracle {

/// s3://bucket/key. The key is taken as it stands, as other S3 tools do: no %XX, and ? and # are of the key.
struct S3Address {
  std::string bucket;
  std::string key;  // without a leading slash; may be empty
};

/// Errors: kInvalid. A key with a part "." or ".." is refused: servers that tidy up paths would leave the
/// bucket on it.
[[nodiscard]] Result<S3Address> parse_s3_uri(const std::string& uri);

/// A path or file:///path as a path. Errors: kInvalid.
[[nodiscard]] Result<std::string> path_of_file_uri(const std::string& uri);

/// What an http(s) URL says, lower case where case does not matter.
struct HttpAddress {
  std::string scheme;
  std::string host;  // an IPv6 address in brackets
  std::uint16_t port = 0;
};

/// As libcurl reads it: another parser could be made to see another host than the one it connects to.
/// Errors: kInvalid; also for a user name or password, which would end in logs.
[[nodiscard]] Result<HttpAddress> parse_http_url(const std::string& url);
/// The URL a Location header names, seen from `base`. Errors: kInvalid.
[[nodiscard]] Result<std::string> resolve_url(const std::string& base, const std::string& location);

/// For people and logs: without user info, query and fragment, where secrets are.
[[nodiscard]] std::string shown_uri(std::string_view uri);

/// ASCII letters only.
[[nodiscard]] std::string lower_case(std::string_view text);

/// True for a relative path that means itself: no empty part, no "." and no "..".
[[nodiscard]] bool is_plain_path(std::string_view path) noexcept;

/// Everything but A-Z a-z 0-9 - . _ ~ as %XX, and slashes too unless they are kept.
[[nodiscard]] std::string percent_encoded(std::string_view text, bool keep_slashes);

}  // namespace loracle
