#pragma once
/// Where AWS credentials come from: the standard chain, asked again before they expire.
///
/// In this order, the first that has some: environment; shared credentials and config files; web
/// identity (AWS_WEB_IDENTITY_TOKEN_FILE, through STS); containers (ECS, EKS pod identity); the instance
/// (IMDSv2 only). A profile that was named in the options comes instead of the environment. A source that is
/// set up but does not work is an error, not a reason to try the next: who set it up means it.
/// Temporary ones are renewed five minutes before they expire; if that fails, the old ones serve until they
/// do. A source that fails, and one whose keys the store refuses, is asked again at most every ten seconds;
/// what it answered before is the answer until then.
/// Threads: any; one of them renews, the others go on with the old ones or wait. Errors: kInvalid (nothing is
/// set up, or wrongly; says where was looked), kUnsupported (single sign-on, credential processes), kIo.
/// No error holds a key, token, or an answer's text. Source: AWS SDKs and Tools Reference Guide.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "loracle/core/result.hpp"
#include "storage/environment.hpp"
#include "storage/http_transport.hpp"
#include "storage/sigv4.hpp"

namespace loracle {

struct CredentialOptions {
  std::string profile;  // empty: AWS_PROFILE, "default"
  std::string region;   // of the token service
  EnvironmentLookup env;
  std::function<std::int64_t()> unix_s;
  RetryOptions retry;  // of requests to the token service, the container's agent, the instance
};

class CredentialChain {
 public:
  [[nodiscard]] static Result<std::unique_ptr<CredentialChain>> make(CredentialOptions options);

  [[nodiscard]] Result<AwsCredentials> get();
  /// The store refused them. True: others are at hand now, and it is worth another attempt.
  [[nodiscard]] bool renew_refused(const AwsCredentials& refused);
  /// No source is waited for any more.
  void stop() noexcept { transport_->stop(); }

 private:
  CredentialChain(CredentialOptions options, std::unique_ptr<HttpTransport> transport);
  [[nodiscard]] Result<AwsCredentials> load();
  void take(const AwsCredentials& loaded);

  CredentialOptions options_;
  std::unique_ptr<HttpTransport> transport_;
  std::mutex mutex_;    // of what follows
  std::mutex renewal_;  // held while somebody renews; taken before mutex_
  AwsCredentials current_;
  bool has_current_ = false;
  std::int64_t loaded_unix_s_ = 0;
  std::int64_t next_try_unix_s_ = 0;
  std::optional<Error> failed_;  // of the last try; none: it succeeded
};

}  // namespace loracle
