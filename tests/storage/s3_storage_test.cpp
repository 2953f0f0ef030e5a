#include "storage/s3_storage.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>

#include "storage/fetched.hpp"
#include "storage/loopback_server.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {
namespace {

using testing::asked_range;
using testing::FaultProxy;
using testing::fetch;
using testing::Fetched;
using testing::LoopbackServer;
using testing::noise;
using testing::Received;
using testing::Reply;
using testing::serve_object;

constexpr std::int64_t kNow = 1'700'000'000;
constexpr const char* kSecret = "s3cr3t/key";
const std::string kBody = noise(200'000, 3);

using Variables = std::map<std::string, std::string>;

EnvironmentLookup lookup(const Variables& variables) {
  return [variables](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    if (at == variables.end()) return std::nullopt;
    return at->second;
  };
}

Variables with_keys() {
  return {{"AWS_ACCESS_KEY_ID", "AKIDTEST"}, {"AWS_SECRET_ACCESS_KEY", kSecret}, {"HOME", "/nonexistent"}};
}

S3StorageOptions options_of(const std::string& endpoint) {
  S3StorageOptions options;
  options.endpoint = endpoint;
  options.retry.first_delay_ms = 1;
  options.retry.delay_ms_max = 5;
  options.retry.stall_timeout_ms = 500;
  options.retry.connect_timeout_ms = 1'000;
  return options;
}

std::unique_ptr<StorageProvider> make(const S3StorageOptions& options,
                                      const Variables& variables = with_keys()) {
  auto made = make_s3_storage_in(options, {lookup(variables), [] { return kNow; }});
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return made ? std::move(*made) : nullptr;
}

std::string xml_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string percent_decoded(const std::string& text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      decoded += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

std::map<std::string, std::string> query_of(const Received& request) {
  std::map<std::string, std::string> query;
  std::string rest = request.target.substr(std::min(request.target.size(), request.target.find('?') + 1));
  while (!rest.empty()) {
    const std::string item = rest.substr(0, rest.find('&'));
    rest.erase(0, item.size() + 1);
    query[percent_decoded(item.substr(0, item.find('=')))] = percent_decoded(item.substr(item.find('=') + 1));
  }
  return query;
}

/// A bucket as S3 lists it: prefixes, delimiters, pages of `page` keys.
Reply list_bucket(const Received& request, const std::vector<std::string>& keys, std::size_t page) {
  auto query = query_of(request);
  const std::string prefix = query["prefix"];
  std::vector<std::pair<std::string, bool>> found;  // name, and whether it is a folder
  for (const std::string& key : keys) {
    if (!key.starts_with(prefix)) continue;
    const std::size_t slash = query["delimiter"].empty() ? std::string::npos : key.find('/', prefix.size());
    std::pair<std::string, bool> entry{key, false};
    if (slash != std::string::npos) entry = {key.substr(0, slash + 1), true};
    if (found.empty() || found.back() != entry) found.push_back(entry);
  }
  const std::size_t from =
      query["continuation-token"].empty() ? 0 : std::stoul(query["continuation-token"].substr(3));
  const std::size_t to = std::min(found.size(), from + page);
  std::string body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3/\">";
  for (std::size_t i = from; i < to; ++i) {
    const std::string name = xml_escaped(found[i].first);
    body += found[i].second
                ? "<CommonPrefixes><Prefix>" + name + "</Prefix></CommonPrefixes>"
                : "<Contents><Key>" + name + "</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>" +
                      "<ETag>&quot;e" + std::to_string(i) + "&quot;</ETag><Size>" + std::to_string(i) +
                      "</Size></Contents>";
  }
  if (to < found.size())
    body += "<IsTruncated>true</IsTruncated><NextContinuationToken>a+/" + std::to_string(to) +
            "</NextContinuationToken>";
  return {200, {}, body + "</ListBucketResult>"};
}

// If this failed, discovery in a bucket would miss adapters, or look for them under wrong names.
TEST(S3Storage, ListsAllPagesByName) {
  const std::vector<std::string> keys = {"other/x",      "pre/",    "pre/a&b/f.json", "pre/a&b/g h",
                                         "pre/b/deep/z", "pre/b/y", "pre/c",          "pre/d//e",
                                         "pre/e/../f",   "pre/f/",  "pre/z",          "prefix/not"};
  LoopbackServer server([&](const Received& request) { return list_bucket(request, keys, 2); });
  const auto provider = make(options_of(server.url()));
  for (const char* const uri : {"s3://bucket/pre", "s3://bucket/pre/"}) {
    const auto listing = provider->list(uri, false);
    ASSERT_TRUE(listing) << listing.error().message;
    ASSERT_EQ(listing->objects.size(), 2U);
    EXPECT_EQ(listing->objects[0].name, "c");
    EXPECT_EQ(listing->objects[1].name, "z");
    EXPECT_EQ(listing->objects[0].modified_unix_s, 1'255'369'830);
    EXPECT_TRUE(listing->objects[0].etag.starts_with("\"e")) << listing->objects[0].etag;
    EXPECT_EQ(listing->folders, (std::vector<std::string>{"a&b", "b", "d", "e", "f"}));
  }
  const auto all = provider->list("s3://bucket/pre", true);
  ASSERT_TRUE(all) << all.error().message;
  std::vector<std::string> names;
  for (const StoredObject& object : all->objects) names.push_back(object.name);
  // Not the folder markers, and not what as a path would name something else.
  EXPECT_EQ(names, (std::vector<std::string>{"a&b/f.json", "a&b/g h", "b/deep/z", "b/y", "c", "z"}));
  EXPECT_TRUE(all->folders.empty());
  EXPECT_EQ(provider->list("s3://bucket/nothing", true).error().code, Errc::kNotFound);
  const auto marker = provider->list("s3://bucket/pre/f", false);
  EXPECT_TRUE(marker && marker->objects.empty()) << "an empty folder, as consoles make them, is there";
}

// If this failed, a server with a broken listing would keep discovery for ever.
TEST(S3Storage, AListingInCirclesIsCorrupt) {
  LoopbackServer server([](const Received&) {
    return Reply{200,
                 {},
                 "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x"
                 "</NextContinuationToken></ListBucketResult>"};
  });
  EXPECT_EQ(make(options_of(server.url()))->list("s3://bucket/a", true).error().code, Errc::kCorrupt);
  EXPECT_EQ(server.requests().size(), 2U);
}

// If this failed, a proxy's login page would look like an empty bucket.
TEST(S3Storage, AnAnswerThatIsNoListingIsCorrupt) {
  for (const char* const body :
       {"<html>login</html>", "", "<ListBucketResult><Contents><Key>a/x</Key></Contents>",
        "<ListBucketResult><Contents><Key>a/x</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>b/x</Key><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"}) {
    LoopbackServer server([&](const Received&) { return Reply{200, {}, body}; });
    EXPECT_EQ(make(options_of(server.url()))->list("s3://bucket/a", true).error().code, Errc::kCorrupt)
        << body;
  }
}

// If this failed, no object of S3 could be loaded.
TEST(S3Storage, StatsAndFetches) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  const auto provider = make(options_of(server.url()));
  const auto object = provider->stat("s3://bucket/a b/\xC3\xBC+x.bin");
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(object->name, "\xC3\xBC+x.bin");
  EXPECT_EQ(object->size, kBody.size());
  EXPECT_EQ(object->etag, "\"v1\"");
  EXPECT_EQ(server.requests()[0].target, "/bucket/a%20b/%C3%BC%2Bx.bin");
  const Fetched fetched = fetch(*provider, "s3://bucket/k", {10, 20, object->etag});
  EXPECT_TRUE(fetched.bytes == kBody.substr(10, 20));
  const Received last = server.requests().back();
  EXPECT_EQ(last.header("if-match"), "\"v1\"");
  EXPECT_EQ(last.header("range"), "bytes=10-29");
  EXPECT_TRUE(
      last.header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIDTEST/20231114/us-east-1/s3/"))
      << last.header("authorization");
  EXPECT_EQ(last.header("x-amz-date"), "20231114T221320Z");
  EXPECT_EQ(server.connections(), 1U);
}

// If this failed, `loracle` could not tell a missing adapter from a broken store.
TEST(S3Storage, ExistsTellsAbsenceFromFailure) {
  LoopbackServer server([](const Received& request) {
    if (request.target == "/bucket/there") return serve_object(request, kBody, "\"v1\"");
    return Reply{request.target == "/bucket/forbidden" ? 403 : 404, {}, ""};
  });
  const auto provider = make(options_of(server.url()));
  EXPECT_TRUE(exists(*provider, "s3://bucket/there").value());
  EXPECT_FALSE(exists(*provider, "s3://bucket/absent").value());
  EXPECT_EQ(exists(*provider, "s3://bucket/forbidden").error().detail, 403);
}

// If this failed, public buckets would need credentials, or theirs would be sent where nobody asked for them.
TEST(S3Storage, AnonymousSendsNoCredentials) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  S3StorageOptions options = options_of(server.url());
  options.anonymous = true;
  EXPECT_TRUE(make(options)->stat("s3://bucket/k"));
  EXPECT_EQ(server.requests()[0].header("authorization"), "");
  EXPECT_EQ(server.requests()[0].header("x-amz-date"), "");
}

// If this failed, temporary credentials would be refused by S3.
TEST(S3Storage, SendsAndSignsTheSessionToken) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  Variables variables = with_keys();
  variables["AWS_SESSION_TOKEN"] = "t0ken";
  EXPECT_TRUE(make(options_of(server.url()), variables)->stat("s3://bucket/k"));
  const Received request = server.requests()[0];
  EXPECT_EQ(request.header("x-amz-security-token"), "t0ken");
  EXPECT_NE(request.header("authorization")
                .find("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"),
            std::string::npos)
      << request.header("authorization");
}

// If this failed, MinIO, Ceph and other stores, or old ones behind a gateway's path, could not be reached.
TEST(S3Storage, AddressesBucketsByPathOrByHost) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  EXPECT_TRUE(make(options_of(server.url("/gate/s3/")))->stat("s3://bucket/k"));
  EXPECT_EQ(server.requests().back().target, "/gate/s3/bucket/k");
  // A name below localhost is this machine, as RFC 6761 wants it; to us it is a host like any other.
  const std::string port = std::to_string(server.port());
  const auto by_host = make(options_of("http://s3.localhost:" + port))->stat("s3://my-bucket/k");
  ASSERT_TRUE(by_host) << by_host.error().message;
  EXPECT_EQ(server.requests().back().target, "/k");
  EXPECT_EQ(server.requests().back().header("host"), "my-bucket.s3.localhost:" + port);
  EXPECT_TRUE(make(options_of("http://s3.localhost:" + port))->stat("s3://My.Bucket/k"))
      << "no host has that name";
  EXPECT_EQ(server.requests().back().target, "/My.Bucket/k");
  S3StorageOptions options = options_of("http://s3.localhost:" + port);
  options.path_style = true;
  EXPECT_TRUE(make(options)->stat("s3://my-bucket/k"));
  EXPECT_EQ(server.requests().back().target, "/my-bucket/k");
}

// If this failed, settings that work with the AWS tools would have to be given a second time.
TEST(S3Storage, TakesEndpointAndRegionFromTheEnvironment) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  Variables variables = with_keys();
  variables["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1";
  variables["AWS_ENDPOINT_URL_S3"] = server.url();
  variables["AWS_DEFAULT_REGION"] = "eu-central-1";
  EXPECT_TRUE(make(options_of(""), variables)->stat("s3://bucket/k"));
  EXPECT_NE(server.requests()[0].header("authorization").find("/eu-central-1/s3/"), std::string::npos);
  variables["AWS_REGION"] = "eu-west-1";
  S3StorageOptions options = options_of("");
  EXPECT_TRUE(make(options, variables)->stat("s3://bucket/k"));
  EXPECT_NE(server.requests()[1].header("authorization").find("/eu-west-1/s3/"), std::string::npos);
  options.region = "us-west-2";
  EXPECT_TRUE(make(options, variables)->stat("s3://bucket/k"));
  EXPECT_NE(server.requests()[2].header("authorization").find("/us-west-2/s3/"), std::string::npos);
}

// If this failed, whoever can name a URI could read every bucket the credentials open.
TEST(S3Storage, ReadsAllowedBucketsOnly) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  S3StorageOptions options = options_of(server.url());
  options.allowed_buckets = {"mine"};
  const auto provider = make(options);
  EXPECT_TRUE(provider->stat("s3://mine/k"));
  for (const char* const uri :
       {"s3://yours/k", "s3://Mine/k", "s3://mine/../yours/k", "s3://mine/a/../../yours/k", "s3://mine/./k",
        "s3://mine%2F..%2Fyours/k", "s3:///k", "s3://mine\n/k", "mine/k"}) {
    EXPECT_EQ(provider->stat(uri).error().code, Errc::kInvalid) << uri;
    EXPECT_EQ(provider->list(uri, true).error().code, Errc::kInvalid) << uri;
    EXPECT_EQ(fetch(*provider, uri, {0, 1, ""}).error->code, Errc::kInvalid) << uri;
  }
  EXPECT_EQ(provider->stat("s3://mine/folder/").error().code, Errc::kInvalid);
  EXPECT_EQ(server.requests().size(), 1U);
}

// If this failed, a broken connection would cost the whole part, or mix two versions of it.
TEST(S3Storage, GoesOnAtTheByteItReachedWithIfMatch) {
  std::atomic<int> asked{0};
  LoopbackServer server([&](const Received& request) {
    if (++asked == 2) return Reply{503, {}, "<Error><Code>SlowDown</Code><Message>m</Message></Error>"};
    Reply reply = serve_object(request, kBody, "\"v1\"");
    if (asked < 4) reply.cut_at = 50'000, reply.reset = asked == 3;
    return reply;
  });
  const Fetched fetched = fetch(*make(options_of(server.url())), "s3://bucket/k", {0, kBody.size(), ""});
  EXPECT_TRUE(fetched.bytes == kBody) << fetched.error->message;
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(server.requests()[1].header("if-match"), "\"v1\"");
  EXPECT_EQ(asked_range(server.requests()[1])->first, 50'000U);
}

// If this failed, an object that is replaced in mid-download would become a mixture of two adapters.
TEST(S3Storage, AChangeInMidDownloadIsCorrupt) {
  std::atomic<int> asked{0};
  LoopbackServer server([&](const Received& request) {
    if (++asked > 1) return serve_object(request, noise(200'000, 4), "\"v2\"");
    Reply reply = serve_object(request, kBody, "\"v1\"");
    reply.cut_at = 1'000;
    return reply;
  });
  const Fetched fetched = fetch(*make(options_of(server.url())), "s3://bucket/k", {0, kBody.size(), ""});
  ASSERT_TRUE(fetched.error);
  EXPECT_EQ(fetched.error->code, Errc::kCorrupt) << fetched.error->message;
  EXPECT_EQ(fetched.bytes.size(), 1'000U);
}

// If this failed, an object that was cut short in the store would be read past its end for ever.
TEST(S3Storage, AnObjectShorterThanItsManifestIsCorrupt) {
  LoopbackServer server([](const Received& request) { return serve_object(request, "short", "\"v1\""); });
  const auto provider = make(options_of(server.url()));
  EXPECT_EQ(fetch(*provider, "s3://bucket/k", {0, 10, "\"v1\""}).error->code, Errc::kCorrupt);
  EXPECT_EQ(fetch(*provider, "s3://bucket/k", {10, 10, "\"v1\""}).error->code, Errc::kCorrupt);
  EXPECT_EQ(fetch(*provider, "s3://bucket/k", {10, 10, ""}).error->code, Errc::kInvalid);
}

// If this failed, an object stored with a Content-Encoding, which is its own business, could not be read.
TEST(S3Storage, AnObjectsOwnEncodingIsNotTouched) {
  LoopbackServer server([](const Received& request) {
    Reply reply = serve_object(request, kBody, "\"v1\"");
    reply.headers.emplace_back("Content-Encoding", "gzip");
    return reply;
  });
  EXPECT_TRUE(fetch(*make(options_of(server.url())), "s3://bucket/k", {0, 99, ""}).bytes ==
              kBody.substr(0, 99));
}

// If this failed, a wrong key would be reported without the reason, or with the secrets a store echoes.
TEST(S3Storage, RefusalsSayWhatIsWrongAndNoSecret) {
  const std::string body =
      "<Error><Code>SignatureDoesNotMatch</Code><Message>The signature\nwe calculated does not "
      "match.</Message>"
      "<AWSAccessKeyId>AKIDTEST</AWSAccessKeyId><StringToSign>x-amz-security-token:t0ken</StringToSign></"
      "Error>";
  LoopbackServer server([&](const Received& request) {
    return Reply{403, {}, request.method == "HEAD" ? "" : body};
  });
  Variables variables = with_keys();
  variables["AWS_SESSION_TOKEN"] = "t0ken";
  const auto provider = make(options_of(server.url()), variables);
  for (const auto& error :
       {provider->stat("s3://bucket/k").error(), provider->list("s3://bucket/k", true).error(),
        *fetch(*provider, "s3://bucket/k", {0, 1, ""}).error}) {
    EXPECT_EQ(error.code, Errc::kIo);
    EXPECT_EQ(error.detail, 403);
    EXPECT_NE(error.message.find("SignatureDoesNotMatch"), std::string::npos) << error.message;
    for (const char* const secret : {kSecret, "t0ken", "AKIDTEST"})
      EXPECT_EQ(error.message.find(secret), std::string::npos) << error.message;
  }
}

// If this failed, a machine whose clock is wrong could not read S3 at all.
TEST(S3Storage, FollowsTheStoresClock) {
  LoopbackServer server([](const Received& request) {
    if (request.header("x-amz-date") != "20231114T231320Z")  // an hour later than ours
      return Reply{403,
                   {{"Date", "Tue, 14 Nov 2023 23:13:20 GMT"}},
                   "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>"};
    return serve_object(request, kBody, "\"v1\"");
  });
  const auto provider = make(options_of(server.url()));
  EXPECT_TRUE(provider->stat("s3://bucket/k"));
  EXPECT_TRUE(provider->stat("s3://bucket/k"));
  EXPECT_EQ(server.requests().size(), 3U) << "learnt once";
}

// If this failed, a storm of 503 would be answered by a storm of requests, or by a wrong "not found".
TEST(S3Storage, AStormEndsWithItsOwnError) {
  LoopbackServer server([](const Received&) {
    return Reply{503, {}, "<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"};
  });
  const auto provider = make(options_of(server.url()));
  const auto listing = provider->list("s3://bucket/k", true);
  EXPECT_EQ(listing.error().code, Errc::kIo);
  EXPECT_EQ(listing.error().detail, 503);
  EXPECT_NE(listing.error().message.find("SlowDown"), std::string::npos) << listing.error().message;
  EXPECT_EQ(server.requests().size(), 5U);
}

// If this failed, a missing bucket would be reported as a missing adapter.
TEST(S3Storage, NamesAMissingBucket) {
  LoopbackServer server([](const Received&) {
    return Reply{404, {}, "<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>"};
  });
  const auto listing = make(options_of(server.url()))->list("s3://bucket/k", true);
  EXPECT_EQ(listing.error().code, Errc::kNotFound);
  EXPECT_NE(listing.error().message.find("bucket"), std::string::npos);
}

// If this failed, a bad network would sooner or later hand out wrong bytes.
TEST(S3Storage, ThroughFaultsOfAnySeedOnlyTheRightBytesCome) {
  LoopbackServer store([](Received request) { return serve_object(request, kBody, "\"v1\""); });
  std::size_t good = 0;
  std::size_t faults = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    FaultProxy proxy(store.port(), seed, 4);
    S3StorageOptions options = options_of(proxy.url());
    options.retry.attempts_max = 12;
    const auto provider = make(options);
    proxy.change_etag = seed % 8 == 0;
    const Fetched fetched = fetch(*provider, "s3://bucket/k", {100, 150'000, "\"v1\""});
    if (fetched.error) {
      EXPECT_EQ(fetched.error->code, proxy.change_etag ? Errc::kCorrupt : Errc::kIo)
          << "seed " << seed << ": " << fetched.error->message;
      EXPECT_TRUE(kBody.substr(100).starts_with(fetched.bytes)) << "seed " << seed;
    } else {
      ++good;
      EXPECT_TRUE(fetched.bytes == kBody.substr(100, 150'000)) << "seed " << seed;
    }
    faults += proxy.faults();
  }
  EXPECT_GE(good, 34U);
  EXPECT_GE(faults, 20U) << "the proxy broke nothing, so nothing was shown";
}

// If this failed, a typing error in the configuration would only be seen at the first request.
TEST(S3Storage, RefusesOptionsThatMeanNothing) {
  const auto refused = [](const S3StorageOptions& options) {
    const auto made = make_s3_storage_in(options, {lookup(with_keys()), [] { return kNow; }});
    return !made && made.error().code == Errc::kInvalid;
  };
  for (const char* const endpoint :
       {"localhost:9000", "ftp://host", "http://", "http://u:p@host", "http://h/?q"})
    EXPECT_TRUE(refused(options_of(endpoint))) << endpoint;
  S3StorageOptions options = options_of("http://127.0.0.1:1");
  options.region = "eu west";
  EXPECT_TRUE(refused(options));
  options = options_of("http://127.0.0.1:1");
  options.max_concurrent = 0;
  EXPECT_TRUE(refused(options));
}

}  // namespace
}  // namespace loracle
