#pragma once
/// AWS Signature Version 4: the Authorization header of a request.
///
/// Ours, and not libcurl's: that of 7.88.1 signs paths and queries as it finds them, which is wrong for keys
/// and prefixes that need an encoding, and it cannot sign a session token.
/// Threads: any. Source: AWS General Reference, "Create a signed AWS API request".

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace loracle {

struct AwsCredentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;        // empty: they are not temporary
  std::int64_t expires_unix_s = 0;  // 0: never

  friend bool operator==(const AwsCredentials&, const AwsCredentials&) = default;
};

/// How a path enters the signature: S3 as it is sent; every other service tidied up and encoded once more.
enum class SignedPath : std::uint8_t { kAsSent, kNormalized };

struct SigningScope {
  std::string region;
  std::string service;
  std::int64_t unix_s = 0;
  SignedPath path = SignedPath::kAsSent;
};

struct SignableRequest {
  std::string method;
  std::string path;                                          // encoded, as it is sent
  std::vector<std::pair<std::string, std::string>> query;    // not encoded
  std::vector<std::pair<std::string, std::string>> headers;  // all are signed; host and x-amz-date among them
  std::string payload_sha256;                                // hex, or UNSIGNED-PAYLOAD
};

/// Sorted and encoded, "a=1&b=". It is also a query that can be sent.
[[nodiscard]] std::string canonical_query(const std::vector<std::pair<std::string, std::string>>& query);
[[nodiscard]] std::string canonical_request(const SignableRequest& request, SignedPath path);
/// "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...".
[[nodiscard]] std::string authorization(const SignableRequest& request, const SigningScope& scope,
                                        const AwsCredentials& credentials);

/// Of an empty body.
inline constexpr std::string_view kEmptySha256 =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

}  // namespace loracle
