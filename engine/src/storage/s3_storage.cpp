#include "storage/s3_storage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "storage/aws_profile.hpp"
#include "storage/credentials.hpp"
#include "storage/http_transport.hpp"
#include "storage/ranged_fetch.hpp"
#include "storage/retry.hpp"
#include "storage/s3_listing.hpp"
#include "storage/sigv4.hpp"
#include "storage/storage_uri.hpp"
#include "storage/utc_time.hpp"

namespace loracle {
namespace {

constexpr std::size_t kPageBytesMax = 16U << 20U;
constexpr std::size_t kListedMax = 5'000'000;
constexpr std::int64_t kSkewS = 240;  // S3 refuses from 900 on
constexpr int kMendsMax = 3;

using Query = std::vector<std::pair<std::string, std::string>>;

struct Endpoint {
  std::string scheme;
  std::string host;  // with a port, where it is not the scheme's own
  std::string base;  // path before bucket and key, without a trailing slash
  bool amazon = false;
  bool by_address = false;  // an address or localhost: it has no names below it
};

Result<Endpoint> parse_endpoint(const std::string& text) {
  const Result<HttpAddress> address = parse_http_url(text);
  if (!address || text.find_first_of("?#") != std::string::npos)
    return fail(Errc::kInvalid, fmt::format("S3 endpoint {}: write http(s)://host[:port]", shown_uri(text)));
  Endpoint endpoint{address->scheme, address->host, "", false, false};
  if (address->port != (address->scheme == "https" ? 443 : 80))
    endpoint.host += fmt::format(":{}", address->port);
  const std::string_view rest = std::string_view(text).substr(text.find("://") + 3);
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos)
    endpoint.base = rest.substr(slash);
  while (endpoint.base.ends_with('/')) endpoint.base.pop_back();
  const bool four = std::all_of(address->host.begin(), address->host.end(),
                                [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
  endpoint.by_address = four || address->host.starts_with('[') || address->host == "localhost";
  return endpoint;
}

Endpoint amazon_endpoint(const std::string& region) {
  const std::string_view suffix = region.starts_with("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  return {"https", fmt::format("s3.{}.{}", region, suffix), "", true, false};
}

/// Of a certificate "*.s3.region.amazonaws.com", a name with dots is no part.
bool is_host_label(std::string_view bucket) noexcept {
  return bucket.size() >= 3 && bucket.size() <= 63 && bucket.front() != '-' && bucket.back() != '-' &&
         std::all_of(bucket.begin(), bucket.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

bool is_region(std::string_view region) noexcept {
  return !region.empty() && region.size() <= 64 && std::all_of(region.begin(), region.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  });
}

class S3Storage final : public StorageProvider {
 public:
  S3Storage(S3StorageOptions options, S3Surroundings surroundings, Endpoint endpoint,
            std::unique_ptr<HttpTransport> transport, std::unique_ptr<CredentialChain> credentials)
      : options_(std::move(options)),
        surroundings_(std::move(surroundings)),
        endpoint_(std::move(endpoint)),
        transport_(std::move(transport)),
        credentials_(std::move(credentials)) {}

  [[nodiscard]] std::string_view scheme() const noexcept override { return "s3"; }

  [[nodiscard]] Result<StoredListing> list(const std::string& uri, bool recursive) override {
    Result<S3Address> place = address_of(uri, false);
    if (!place) return fail(std::move(place.error()));
    std::string prefix = place->key;
    if (!prefix.empty() && !prefix.ends_with('/')) prefix += '/';
    StoredListing listing;
    std::string continuation;
    bool there = false;
    do {
      Query query{{"list-type", "2"}, {"prefix", prefix}};
      if (!recursive) query.emplace_back("delimiter", "/");
      if (!continuation.empty()) query.emplace_back("continuation-token", continuation);
      HttpCall call;
      call.collect_bytes_max = kPageBytesMax;
      Backoff backoff(options_.retry, backoff_seed());
      const HttpOutcome outcome = with_retries(backoff, transport_->stopped(), [&] {
        return send({place->bucket, ""}, query, call);
      });
      if (Result<Unit> good = check(outcome, uri, backoff); !good) return fail(std::move(good.error()));
      Result<S3Page> page = add_s3_page(outcome.answer.body, prefix, uri, listing);
      if (!page) return fail(std::move(page.error()));
      there = there || page->marker || page->keys > 0;
      if (!page->continuation.empty() && page->continuation == continuation)
        return fail(Errc::kCorrupt, fmt::format("{}: the listing goes round in circles", uri));
      if (listing.objects.size() + listing.folders.size() > kListedMax)
        return fail(Errc::kTooLarge,
                    fmt::format("{}: more than {} objects: list something below it", uri, kListedMax));
      continuation = std::move(page->continuation);
    } while (!continuation.empty());
    if (!there) return fail(Errc::kNotFound, fmt::format("{}: there is nothing below it", uri));
    std::sort(listing.objects.begin(), listing.objects.end(),
              [](const StoredObject& a, const StoredObject& b) { return a.name < b.name; });
    std::sort(listing.folders.begin(), listing.folders.end());
    listing.folders.erase(std::unique(listing.folders.begin(), listing.folders.end()), listing.folders.end());
    return listing;
  }

  [[nodiscard]] Result<StoredObject> stat(const std::string& uri) override {
    Result<S3Address> place = address_of(uri, true);
    if (!place) return fail(std::move(place.error()));
    HttpCall call;
    call.method = "HEAD";
    Backoff backoff(options_.retry, backoff_seed());
    HttpOutcome outcome =
        with_retries(backoff, transport_->stopped(), [&] { return send(*place, {}, call); });
    if (!outcome.error && outcome.answer.status >= 400 && outcome.answer.status != 404) {
      // The answer to a HEAD has no body that could say why.
      call.method = "GET";
      call.headers = {{"Range", "bytes=0-0"}};
      outcome = with_retries(backoff, transport_->stopped(), [&] { return send(*place, {}, call); });
    }
    if (Result<Unit> good = check(outcome, uri, backoff); !good) return fail(std::move(good.error()));
    Result<std::uint64_t> size = size_of_object(outcome.answer, uri);
    if (!size) return fail(std::move(size.error()));
    const std::size_t slash = place->key.rfind('/');
    const std::optional<std::string> date = header_of(outcome.answer.headers, "last-modified");
    return StoredObject{slash == std::string::npos ? place->key : place->key.substr(slash + 1), *size,
                        version_of(outcome.answer), date ? parse_http_date(*date).value_or(0) : 0};
  }

  [[nodiscard]] Result<Unit> fetch(const std::string& uri, const FetchRange& range,
                                   const ByteSink& sink) override {
    Result<S3Address> place = address_of(uri, true);
    if (!place) return fail(std::move(place.error()));
    const SendCall send_part = [&](HttpCall call) {
      call.headers.emplace_back("x-amz-checksum-mode", "ENABLED");
      return send(*place, {}, call);
    };
    const ErrorOfAnswer error = [&](const HttpAnswer& answer) { return error_of(answer, uri); };
    return fetch_range({uri, range, sink, send_part, error, transport_->stopped(), true}, options_.retry);
  }

  void stop() noexcept override {
    transport_->stop();
    if (credentials_ != nullptr) credentials_->stop();
  }

 private:
  [[nodiscard]] Result<S3Address> address_of(const std::string& uri, bool object) const {
    Result<S3Address> place = parse_s3_uri(uri);
    if (!place) return place;
    const auto& allowed = options_.allowed_buckets;
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), place->bucket) == allowed.end()) {
      return fail(Errc::kInvalid,
                  fmt::format("{}: bucket '{}' is not allowed: allowed_buckets does not name it", uri,
                              place->bucket));
    }
    if (object && (place->key.empty() || place->key.ends_with('/')))
      return fail(Errc::kInvalid, fmt::format("{}: names a folder, and an object was asked for", uri));
    return place;
  }

  /// Where to, and how it is signed: learnt of the bucket, not configured.
  [[nodiscard]] std::string region_of(const std::string& bucket) {
    const std::lock_guard lock(mutex_);
    const auto learnt = regions_.find(bucket);
    return learnt == regions_.end() ? options_.region : learnt->second;
  }

  [[nodiscard]] std::int64_t now() {
    const std::lock_guard lock(mutex_);
    return surroundings_.unix_s() + skew_s_;
  }

  /// One attempt, and again where the answer tells what to do otherwise.
  [[nodiscard]] HttpOutcome send(const S3Address& place, const Query& query, const HttpCall& call) {
    HttpOutcome outcome;
    for (int mends = 0;; ++mends) {
      AwsCredentials credentials;
      if (credentials_ != nullptr) {
        Result<AwsCredentials> found = credentials_->get();
        if (!found) return {{}, std::move(found.error()), false};
        credentials = std::move(*found);
      }
      const std::string region = region_of(place.bucket);
      outcome = transport_->perform(signed_call(place, query, call, region, credentials));
      if (outcome.error || outcome.answer.status < 300 || mends == kMendsMax) return outcome;
      if (!mended(outcome.answer, place.bucket, region, credentials)) return outcome;
    }
  }

  [[nodiscard]] HttpCall signed_call(const S3Address& place, const Query& query, const HttpCall& call,
                                     const std::string& region, const AwsCredentials& credentials) {
    const Endpoint endpoint = endpoint_.amazon ? amazon_endpoint(region) : endpoint_;
    const bool in_path = options_.path_style || endpoint.by_address || !is_host_label(place.bucket);
    SignableRequest request;
    request.method = call.method;
    request.query = query;
    request.payload_sha256 = kEmptySha256;
    request.path = endpoint.base + (in_path ? "/" + place.bucket : "");
    if (!place.key.empty() || !in_path) request.path += "/" + percent_encoded(place.key, true);
    const std::string host = in_path ? endpoint.host : place.bucket + "." + endpoint.host;
    HttpCall sent = call;
    sent.url = fmt::format("{}://{}{}", endpoint.scheme, host, request.path);
    if (!query.empty()) sent.url += "?" + canonical_query(query);
    if (credentials_ == nullptr) return sent;
    const std::int64_t time = now();
    request.headers = {
        {"host", host}, {"x-amz-content-sha256", request.payload_sha256}, {"x-amz-date", compact_utc(time)}};
    if (!credentials.session_token.empty())
      request.headers.emplace_back("x-amz-security-token", credentials.session_token);
    for (std::size_t i = 1; i < request.headers.size(); ++i) sent.headers.push_back(request.headers[i]);
    for (const auto& header : call.headers)
      if (header.first.starts_with("x-amz-")) request.headers.push_back(header);
    sent.headers.emplace_back("Authorization",
                              authorization(request, {region, "s3", time, SignedPath::kAsSent}, credentials));
    return sent;
  }

  /// Whether the next attempt will be signed otherwise.
  [[nodiscard]] bool mended(const HttpAnswer& answer, const std::string& bucket, const std::string& region,
                            const AwsCredentials& credentials) {
    const std::int64_t status = answer.status;
    if (status != 301 && status != 307 && status != 400 && status != 401 && status != 403) return false;
    const std::optional<std::string> home = header_of(answer.headers, "x-amz-bucket-region");
    if (home && *home != region && is_region(*home) && endpoint_.amazon) {
      const std::lock_guard lock(mutex_);
      regions_[bucket] = *home;
      return true;
    }
    if (credentials_ == nullptr || status == 301 || status == 307) return false;
    if (const auto text = header_of(answer.headers, "date")) {
      const std::int64_t theirs = parse_http_date(*text).value_or(0);
      const std::lock_guard lock(mutex_);
      const std::int64_t skew = theirs - surroundings_.unix_s();
      if (theirs != 0 && (skew - skew_s_ > kSkewS || skew_s_ - skew > kSkewS)) {
        skew_s_ = skew;
        return true;
      }
    }
    return credentials_->renew_refused(credentials);
  }

  [[nodiscard]] Result<Unit> check(const HttpOutcome& outcome, const std::string& uri,
                                   const Backoff& backoff) const {
    if (!outcome.error && (outcome.answer.status == 200 || outcome.answer.status == 206)) return Unit{};
    return fail(given_up(outcome.error ? *outcome.error : error_of(outcome.answer, uri), outcome, backoff));
  }

  [[nodiscard]] static Error error_of(const HttpAnswer& answer, const std::string& uri) {
    const S3ErrorText text = parse_s3_error(answer.body);
    const std::string said = text.code.empty() ? "" : fmt::format(" {}: {}", text.code, text.message);
    const std::int64_t status = answer.status;
    if (text.code == "NoSuchBucket")
      return {Errc::kNotFound, fmt::format("{}: there is no such bucket at this endpoint", uri), status};
    if (status == 404)
      return {Errc::kNotFound, fmt::format("{}: there is no such object or bucket", uri), status};
    std::string advice;
    if (status == 401 || status == 403) {
      advice = ": check the credentials, and that they may read and list this bucket";
    } else if (status == 301 || status == 307 || text.code == "AuthorizationHeaderMalformed") {
      advice = ": check region and endpoint";
    }
    return {Errc::kIo, fmt::format("{}: the store answers {}{}{}", uri, status, said, advice), status};
  }

  S3StorageOptions options_;
  S3Surroundings surroundings_;
  Endpoint endpoint_;
  std::unique_ptr<HttpTransport> transport_;
  std::unique_ptr<CredentialChain> credentials_;  // null: unsigned
  std::mutex mutex_;                              // of what follows
  std::map<std::string, std::string> regions_;    // by bucket, where it is not the configured one
  std::int64_t skew_s_ = 0;                       // the store's clock less ours, where they differ much
};

}  // namespace

Result<std::unique_ptr<StorageProvider>> make_s3_storage_in(const S3StorageOptions& given,
                                                            S3Surroundings surroundings) {
  if (Result<Unit> good = check_retry(given.retry); !good) return fail(std::move(good.error()));
  S3StorageOptions options = given;
  const EnvironmentLookup& env = surroundings.env;
  Result<AwsProfile> profile = load_aws_profile(options.profile, env);
  if (!profile) return fail(std::move(profile.error()));
  const auto first = [](std::initializer_list<std::string> texts) {
    for (const std::string& text : texts)
      if (!text.empty()) return text;
    return std::string();
  };
  options.region = first({options.region, env("AWS_REGION").value_or(""),
                          env("AWS_DEFAULT_REGION").value_or(""), profile->value("region"), "us-east-1"});
  options.endpoint = first({options.endpoint, env("AWS_ENDPOINT_URL_S3").value_or(""),
                            env("AWS_ENDPOINT_URL").value_or(""), profile->value("endpoint_url")});
  if (!is_region(options.region))
    return fail(Errc::kInvalid, fmt::format("S3 region '{}': not the name of a region", options.region));
  Endpoint endpoint = amazon_endpoint(options.region);
  if (!options.endpoint.empty()) {
    Result<Endpoint> parsed = parse_endpoint(options.endpoint);
    if (!parsed) return fail(std::move(parsed.error()));
    endpoint = std::move(*parsed);
  }
  auto transport =
      HttpTransport::make({options.max_concurrent, options.retry.connect_timeout_ms,
                           options.retry.stall_timeout_ms, true, env("AWS_CA_BUNDLE").value_or("")});
  if (!transport) return fail(std::move(transport.error()));
  std::unique_ptr<CredentialChain> credentials;
  if (!options.anonymous) {
    // An instance answers at once or not at all: whoever is not on one must not wait long to learn it.
    RetryOptions retry;
    retry.attempts_max = 2;
    retry.connect_timeout_ms = std::min(1'000U, options.retry.connect_timeout_ms);
    retry.stall_timeout_ms = std::min(5'000U, options.retry.stall_timeout_ms);
    auto chain = CredentialChain::make({options.profile, options.region, env, surroundings.unix_s, retry});
    if (!chain) return fail(std::move(chain.error()));
    credentials = std::move(*chain);
  }
  return std::make_unique<S3Storage>(std::move(options), std::move(surroundings), std::move(endpoint),
                                     std::move(*transport), std::move(credentials));
}

Result<std::unique_ptr<StorageProvider>> make_s3_storage(const S3StorageOptions& options) {
  return make_s3_storage_in(options,
                            {process_environment(), [] {
                               return std::int64_t{std::chrono::duration_cast<std::chrono::seconds>(
                                                       std::chrono::system_clock::now().time_since_epoch())
                                                       .count()};
                             }});
}

}  // namespace loracle
