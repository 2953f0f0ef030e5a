#include "storage/credentials.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <pugixml.hpp>
#include <utility>

#include "loracle/engine/files.hpp"
#include "storage/aws_profile.hpp"
#include "storage/retry.hpp"
#include "storage/storage_uri.hpp"
#include "storage/utc_time.hpp"

namespace loracle {
namespace {

constexpr std::int64_t kRenewBeforeS = 300;
constexpr std::int64_t kRetryAfterS = 10;
/// The instance hands out expired ones while its own source is away; they go on being honoured.
constexpr std::int64_t kExpiredServeS = 600;
constexpr std::uint64_t kTokenBytesMax = 1U << 20U;

using Found = Result<std::optional<AwsCredentials>>;  // nullopt: this source is not set up

struct Asking {
  const CredentialOptions& options;
  HttpTransport& transport;
};

HttpOutcome ask(const Asking& asking, const HttpCall& call) {
  Backoff backoff(asking.options.retry, backoff_seed());
  return with_retries(backoff, asking.transport.stopped(), [&] { return asking.transport.perform(call); });
}

/// "cannot be had from X: why", without the answer's text: it may hold what is secret.
tl::unexpected<Error> refused(std::string_view source, const HttpOutcome& outcome) {
  if (outcome.error) {
    return fail(outcome.error->code == Errc::kInvalid ? Errc::kInvalid : Errc::kIo,
                fmt::format("AWS credentials cannot be had from {}: {}", source, outcome.error->message),
                outcome.error->detail);
  }
  return fail(Errc::kIo,
              fmt::format("AWS credentials cannot be had from {}: it answers with status {}", source,
                          outcome.answer.status),
              outcome.answer.status);
}

bool is_sendable(std::string_view text) noexcept {
  return std::none_of(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

/// What the container's agent and the instance answer with.
Result<AwsCredentials> parse_json(const std::string& body, std::string_view source) {
  const nlohmann::json json = nlohmann::json::parse(body, nullptr, false);
  const auto text = [&](const char* name) {
    const auto at = json.find(name);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  if (!json.is_object())
    return fail(Errc::kIo, fmt::format("AWS credentials from {}: the answer is no JSON object", source));
  AwsCredentials found{text("AccessKeyId"), text("SecretAccessKey"), text("Token"), 0};
  if (found.access_key.empty() || found.secret_key.empty())
    return fail(Errc::kIo, fmt::format("AWS credentials from {}: the answer holds none", source));
  if (const auto expires = parse_iso8601(text("Expiration"))) found.expires_unix_s = *expires;
  return found;
}

Found from_environment(const CredentialOptions& options) {
  const auto access = options.env("AWS_ACCESS_KEY_ID");
  const auto secret = options.env("AWS_SECRET_ACCESS_KEY");
  if (!access && !secret) return std::nullopt;
  if (!access || !secret) {
    return fail(Errc::kInvalid, fmt::format("AWS credentials: {} is set and {} is not: set both or neither",
                                            access ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                                            access ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID"));
  }
  return AwsCredentials{*access, *secret, options.env("AWS_SESSION_TOKEN").value_or(""), 0};
}

struct WebIdentity {
  std::string role_arn;
  std::string token_file;
  std::string session_name;
};

Result<AwsCredentials> parse_sts(const std::string& body) {
  pugi::xml_document document;
  const std::string_view source = "the token service";
  if (!document.load_buffer(body.data(), body.size()))
    return fail(Errc::kIo, fmt::format("AWS credentials from {}: the answer is no XML", source));
  const pugi::xml_node node = document.child("AssumeRoleWithWebIdentityResponse")
                                  .child("AssumeRoleWithWebIdentityResult")
                                  .child("Credentials");
  AwsCredentials found{node.child_value("AccessKeyId"), node.child_value("SecretAccessKey"),
                       node.child_value("SessionToken"), 0};
  if (found.access_key.empty() || found.secret_key.empty())
    return fail(Errc::kIo, fmt::format("AWS credentials from {}: the answer holds none", source));
  if (const auto expires = parse_iso8601(node.child_value("Expiration"))) found.expires_unix_s = *expires;
  return found;
}

Found from_web_identity(const Asking& asking, const WebIdentity& identity) {
  const CredentialOptions& options = asking.options;
  Result<std::string> token = read_text(posix_files(), identity.token_file, kTokenBytesMax);
  if (!token) {
    return fail(Errc::kInvalid,
                fmt::format("AWS credentials: the web identity token: {}", token.error().message),
                token.error().detail);
  }
  while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) token->pop_back();
  const std::string region = options.region.empty() ? "us-east-1" : options.region;
  const std::string suffix = region.starts_with("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  HttpCall call;
  call.method = "POST";
  call.url =
      options.env("AWS_ENDPOINT_URL_STS")
          .value_or(
              options.env("AWS_ENDPOINT_URL").value_or(fmt::format("https://sts.{}.{}", region, suffix)));
  if (!call.url.ends_with('/')) call.url += '/';
  call.headers = {{"Content-Type", "application/x-www-form-urlencoded"}};
  call.body = canonical_query({{"Action", "AssumeRoleWithWebIdentity"},
                               {"Version", "2011-06-15"},
                               {"RoleArn", identity.role_arn},
                               {"RoleSessionName", identity.session_name},
                               {"WebIdentityToken", *token}});
  const HttpOutcome outcome = ask(asking, call);
  if (outcome.error || outcome.answer.status != 200)
    return refused(fmt::format("the token service for role {}", identity.role_arn), outcome);
  return parse_sts(outcome.answer.body);
}

std::string session_name(const CredentialOptions& options) {
  return options.env("AWS_ROLE_SESSION_NAME").value_or(fmt::format("loracle-{}", options.unix_s()));
}

Found from_profile(const Asking& asking) {
  const CredentialOptions& options = asking.options;
  const bool named = !options.profile.empty() || options.env("AWS_PROFILE").has_value();
  Result<AwsProfile> profile = load_aws_profile(options.profile, options.env);
  if (!profile) return fail(std::move(profile.error()));
  if (!profile->found) {
    if (!named) return std::nullopt;
    return fail(Errc::kInvalid,
                fmt::format("AWS credentials: there is no profile '{}' in ~/.aws/credentials or "
                            "~/.aws/config (or the files that stand for them)",
                            profile->name));
  }
  const std::string access = profile->value("aws_access_key_id");
  const std::string secret = profile->value("aws_secret_access_key");
  if (access.empty() != secret.empty()) {
    return fail(Errc::kInvalid,
                fmt::format("AWS credentials: profile '{}' has only one of aws_access_key_id and "
                            "aws_secret_access_key",
                            profile->name));
  }
  if (!access.empty()) return AwsCredentials{access, secret, profile->value("aws_session_token"), 0};
  const std::string role = profile->value("role_arn");
  if (const std::string file = profile->value("web_identity_token_file"); !role.empty() && !file.empty()) {
    std::string session = profile->value("role_session_name");
    return from_web_identity(asking, {role, file, session.empty() ? session_name(options) : session});
  }
  for (const char* const key :
       {"source_profile", "credential_source", "credential_process", "sso_session", "sso_start_url"}) {
    if (profile->value(key).empty()) continue;
    return fail(
        Errc::kUnsupported,
        fmt::format("AWS credentials: profile '{}' wants {}, which is not supported here: export them "
                    "with `aws configure export-credentials --format env` and set the variables",
                    profile->name, key));
  }
  return std::nullopt;  // a profile of a region, say
}

Found from_web_identity_environment(const Asking& asking) {
  const auto file = asking.options.env("AWS_WEB_IDENTITY_TOKEN_FILE");
  const auto role = asking.options.env("AWS_ROLE_ARN");
  if (!file) return std::nullopt;
  if (!role)
    return fail(Errc::kInvalid,
                "AWS credentials: AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not");
  return from_web_identity(asking, {*role, *file, session_name(asking.options)});
}

/// Over plain HTTP the token would be anybody's to read: only to this machine and the agents' own addresses.
bool may_be_plain(const HttpAddress& address) {
  return address.host == "localhost" || address.host.starts_with("127.") || address.host == "[::1]" ||
         address.host == "169.254.170.2" || address.host == "169.254.170.23" ||
         address.host == "[fd00:ec2::23]";
}

Found from_container(const Asking& asking) {
  const CredentialOptions& options = asking.options;
  HttpCall call;
  if (const auto relative = options.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) {
    call.url = "http://169.254.170.2" + *relative;
  } else if (const auto full = options.env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
    call.url = *full;
  } else {
    return std::nullopt;
  }
  const Result<HttpAddress> address = parse_http_url(call.url);
  if (!address)
    return fail(Errc::kInvalid,
                fmt::format("AWS credentials: the container's URI: {}", address.error().message));
  if (address->scheme == "http" && !may_be_plain(*address)) {
    return fail(Errc::kInvalid,
                fmt::format("AWS credentials: AWS_CONTAINER_CREDENTIALS_FULL_URI: {} must be https, or an "
                            "address of this machine",
                            shown_uri(call.url)));
  }
  std::string token = options.env("AWS_CONTAINER_AUTHORIZATION_TOKEN").value_or("");
  if (const auto file = options.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) {
    Result<std::string> text = read_text(posix_files(), *file, kTokenBytesMax);
    if (!text) {
      return fail(Errc::kInvalid,
                  fmt::format("AWS credentials: the container's token: {}", text.error().message));
    }
    token = std::move(*text);
    while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  }
  if (!is_sendable(token))
    return fail(Errc::kInvalid, "AWS credentials: the container's authorization token has line breaks");
  if (!token.empty()) call.headers = {{"Authorization", token}};
  const HttpOutcome outcome = ask(asking, call);
  if (outcome.error || outcome.answer.status != 200) return refused("the container's agent", outcome);
  return parse_json(outcome.answer.body, "the container's agent");
}

/// Version 2 only: the older one answers whoever can make this process send a GET.
Found from_instance(const Asking& asking) {
  const CredentialOptions& options = asking.options;
  if (options.env("AWS_EC2_METADATA_DISABLED") == "true") return std::nullopt;
  std::string endpoint = options.env("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or("http://169.254.169.254");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  HttpCall call;
  call.method = "PUT";
  call.url = endpoint + "/latest/api/token";
  call.headers = {{"X-aws-ec2-metadata-token-ttl-seconds", "21600"}};
  const HttpOutcome token = ask(asking, call);
  if (token.error || token.answer.status != 200) return std::nullopt;  // not an instance, or without it
  if (!is_sendable(token.answer.body)) return refused("the instance", token);
  call = HttpCall{};
  call.headers = {{"X-aws-ec2-metadata-token", token.answer.body}};
  call.url = endpoint + "/latest/meta-data/iam/security-credentials/";
  const HttpOutcome roles = ask(asking, call);
  if (!roles.error && roles.answer.status == 404) return std::nullopt;  // an instance without a role
  if (roles.error || roles.answer.status != 200) return refused("the instance", roles);
  const std::string role = roles.answer.body.substr(0, roles.answer.body.find_first_of("\r\n"));
  if (role.empty()) return std::nullopt;
  call.url += percent_encoded(role, false);
  const HttpOutcome outcome = ask(asking, call);
  if (outcome.error || outcome.answer.status != 200) return refused("the instance", outcome);
  Result<AwsCredentials> found = parse_json(outcome.answer.body, "the instance");
  if (!found) return fail(std::move(found.error()));
  const std::int64_t now = options.unix_s();
  if (found->expires_unix_s != 0 && found->expires_unix_s <= now)
    found->expires_unix_s = now + kRenewBeforeS + kExpiredServeS;
  return *found;
}

}  // namespace

CredentialChain::CredentialChain(CredentialOptions options, std::unique_ptr<HttpTransport> transport)
    : options_(std::move(options)), transport_(std::move(transport)) {}

Result<std::unique_ptr<CredentialChain>> CredentialChain::make(CredentialOptions options) {
  TransportOptions transport;
  transport.max_concurrent = 1;
  transport.connect_timeout_ms = options.retry.connect_timeout_ms;
  transport.stall_timeout_ms = options.retry.stall_timeout_ms;
  transport.ca_file = options.env("AWS_CA_BUNDLE").value_or("");
  auto made = HttpTransport::make(transport);
  if (!made) return fail(std::move(made.error()));
  return std::unique_ptr<CredentialChain>(new CredentialChain(std::move(options), std::move(*made)));
}

Result<AwsCredentials> CredentialChain::load() {
  const Asking asking{options_, *transport_};
  const auto sources = {
      +[](const Asking& a) -> Found {
        if (!a.options.profile.empty()) return std::nullopt;
        return from_environment(a.options);
      },
      +[](const Asking& a) -> Found { return from_profile(a); },
      +[](const Asking& a) -> Found { return from_web_identity_environment(a); },
      +[](const Asking& a) -> Found { return from_container(a); },
      +[](const Asking& a) -> Found { return from_instance(a); },
  };
  for (const auto source : sources) {
    Found found = source(asking);
    if (!found) return fail(std::move(found.error()));
    if (!*found) continue;
    if (!is_sendable((*found)->access_key) || !is_sendable((*found)->session_token))
      return fail(Errc::kInvalid, "AWS credentials: a key or token has line breaks in it");
    return std::move(**found);
  }
  const std::string first =
      options_.profile.empty()
          ? "neither in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor in ~/.aws/credentials or "
            "~/.aws/config"
          : fmt::format(
                "not in profile '{}' of ~/.aws/credentials or ~/.aws/config, which stands for the "
                "environment's",
                options_.profile);
  return fail(Errc::kInvalid,
              fmt::format("no AWS credentials: {}, nor from a web identity, a container or the instance: set "
                          "some, or anonymous for a public bucket",
                          first));
}

Result<AwsCredentials> CredentialChain::get() {
  const auto usable = [&](bool also_old) -> std::optional<AwsCredentials> {
    const std::lock_guard lock(mutex_);
    if (!has_current_) return std::nullopt;
    if (current_.expires_unix_s == 0) return current_;
    const std::int64_t now = options_.unix_s();
    if (now < current_.expires_unix_s - kRenewBeforeS) return current_;
    const bool waits = now < next_try_unix_s_;
    if (now < current_.expires_unix_s && (also_old || waits)) return current_;
    return std::nullopt;
  };
  if (auto found = usable(false)) return *found;
  // One renews. Whoever comes meanwhile takes the old ones, and waits only where there are none.
  std::unique_lock renewing(renewal_, std::try_to_lock);
  if (!renewing.owns_lock()) {
    if (auto old = usable(true)) return *old;
    renewing.lock();
  }
  if (auto found = usable(false)) return *found;
  {
    const std::lock_guard lock(mutex_);
    if (failed_ && options_.unix_s() < next_try_unix_s_) return fail(*failed_);
  }
  Result<AwsCredentials> loaded = load();
  if (loaded) {
    take(*loaded);
    return loaded;
  }
  {
    const std::lock_guard lock(mutex_);
    next_try_unix_s_ = options_.unix_s() + kRetryAfterS;
    failed_ = loaded.error();
  }
  if (auto old = usable(true)) return *old;
  return loaded;
}

bool CredentialChain::renew_refused(const AwsCredentials& refused) {
  const std::lock_guard renewing(renewal_);
  {
    const std::lock_guard lock(mutex_);
    if (has_current_ && !(current_ == refused)) return true;
    // Refused ones are asked for again at most that often: a wrong key is not a reason for a storm.
    const std::int64_t now = options_.unix_s();
    if (now < loaded_unix_s_ + kRetryAfterS) return false;
    loaded_unix_s_ = now;
  }
  // The refused ones stay until there are others: what one bucket refuses may serve all others.
  const Result<AwsCredentials> loaded = load();
  if (!loaded) return false;
  take(*loaded);
  return !(*loaded == refused);
}

void CredentialChain::take(const AwsCredentials& loaded) {
  const std::lock_guard lock(mutex_);
  current_ = loaded;
  has_current_ = true;
  loaded_unix_s_ = options_.unix_s();
  failed_.reset();
}

}  // namespace loracle
