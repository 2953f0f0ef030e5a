#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <optional>
#include <thread>

#include "loracle/storage/fetch_adapter.hpp"
#include "loracle/storage/provider.hpp"
#include "storage/fetched.hpp"
#include "storage/loopback_server.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::asked_range;
using testing::fetch;
using testing::Fetched;
using testing::LoopbackServer;
using testing::noise;
using testing::Received;
using testing::Reply;
using testing::serve_object;
using testing::TempDir;

const std::string kBody = noise(300'000, 7);

RetryOptions quick_retry() {
  RetryOptions retry;
  retry.first_delay_ms = 1;
  retry.delay_ms_max = 5;
  retry.stall_timeout_ms = 300;
  retry.connect_timeout_ms = 1'000;
  return retry;
}

HttpStorageOptions open_options() {
  HttpStorageOptions options;
  options.allow_http = true;
  options.allow_private_addresses = true;
  options.allowed_hosts = {"127.0.0.1", "localhost"};
  options.retry = quick_retry();
  return options;
}

std::unique_ptr<StorageProvider> make(const HttpStorageOptions& options = open_options()) {
  auto made = make_http_storage("http", options);
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return made ? std::move(*made) : nullptr;
}

std::string message(const Fetched& fetched) { return fetched.error ? fetched.error->message : "no error"; }
Errc code(const Fetched& fetched) { return fetched.error ? fetched.error->code : Errc{}; }

// If this failed, an adapter of a web server could not be loaded at all.
TEST(HttpStorage, StatsAndFetchesRanges) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  const auto provider = make();
  const auto object = provider->stat(server.url("/a/adapter.bin"));
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(object->name, "adapter.bin");
  EXPECT_EQ(object->size, kBody.size());
  EXPECT_EQ(object->etag, "\"v1\"");
  EXPECT_EQ(object->modified_unix_s, 784'903'526);
  const Fetched whole = fetch(*provider, server.url("/a/adapter.bin"), {0, kBody.size(), object->etag});
  EXPECT_TRUE(whole.bytes == kBody) << message(whole);
  const Fetched part = fetch(*provider, server.url("/a/adapter.bin"), {100, 50, object->etag});
  EXPECT_TRUE(part.bytes == kBody.substr(100, 50)) << message(part);
  EXPECT_EQ(server.requests().back().header("if-match"), "\"v1\"");
}

// If this failed, every small request would pay for a new connection, and with TLS for a handshake.
TEST(HttpStorage, KeepsItsConnection) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  const auto provider = make();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(provider->stat(server.url("/a")));
  EXPECT_EQ(server.connections(), 1U);
}

// If this failed, a host that only happens to serve files would be asked by more connections than it allows.
TEST(HttpStorage, NeverRunsMoreRequestsThanAllowed) {
  LoopbackServer server([](const Received& request) {
    Reply reply = serve_object(request, kBody, "\"v1\"");
    reply.delay_ms = 10;
    return reply;
  });
  HttpStorageOptions options = open_options();
  options.max_concurrent = 3;
  const auto provider = make(options);
  std::vector<std::future<bool>> asked;
  for (int i = 0; i < 16; ++i)
    asked.push_back(
        std::async(std::launch::async, [&] { return provider->stat(server.url("/a")).has_value(); }));
  for (auto& one : asked) EXPECT_TRUE(one.get());
  EXPECT_LE(server.at_once_max(), 3U);
  EXPECT_GE(server.at_once_max(), 2U);
  EXPECT_LE(server.connections(), 3U);
}

// If this failed, a connection that breaks in mid-download would cost the whole download, or damage it.
TEST(HttpStorage, GoesOnAtTheByteItReached) {
  std::atomic<int> asked{0};
  LoopbackServer server([&](const Received& request) {
    Reply reply = serve_object(request, kBody, "\"v1\"");
    if (request.method == "GET" && ++asked < 5) {
      reply.cut_at = reply.body.size() / 3;
      reply.reset = asked == 2;
    }
    return reply;
  });
  const auto provider = make();
  const Fetched fetched = fetch(*provider, server.url("/a"), {1'000, 200'000, ""});
  EXPECT_TRUE(fetched.bytes == kBody.substr(1'000, 200'000)) << message(fetched);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 5U);
  for (std::size_t i = 1; i < requests.size(); ++i) {
    EXPECT_GT(asked_range(requests[i])->first, asked_range(requests[i - 1])->first - (i == 2 ? 1 : 0)) << i;
    EXPECT_EQ(requests[i].header("if-match"), "\"v1\"") << "the first answer's version holds for all others";
  }
}

// If this failed, half of one version of an adapter would be joined to half of another.
TEST(HttpStorage, AChangeInMidDownloadIsCorrupt) {
  for (const bool honours_if_match : {true, false}) {
    std::atomic<int> asked{0};
    LoopbackServer server([&](Received request) {
      const bool first = ++asked == 1;
      if (!honours_if_match) request.headers.erase("if-match");
      Reply reply =
          serve_object(request, first ? kBody : noise(kBody.size(), 8), first ? "\"v1\"" : "\"v2\"");
      if (first) reply.cut_at = 1'000;
      return reply;
    });
    const auto provider = make();
    const Fetched fetched = fetch(*provider, server.url("/a"), {0, kBody.size(), ""});
    EXPECT_EQ(code(fetched), Errc::kCorrupt) << message(fetched);
    EXPECT_LE(fetched.bytes.size(), 1'000U) << "nothing of the second version";
    EXPECT_EQ(asked, 2) << "another attempt could not have mended it";
  }
}

// If this failed, an adapter that changed between its manifest and its download would be taken.
TEST(HttpStorage, AnotherVersionThanAskedForIsCorrupt) {
  LoopbackServer server([](Received request) {
    request.headers.erase("if-match");
    return serve_object(request, kBody, "\"v2\"");
  });
  const auto provider = make();
  const Fetched fetched = fetch(*provider, server.url("/a"), {0, 10, "\"v1\""});
  EXPECT_EQ(code(fetched), Errc::kCorrupt);
  EXPECT_TRUE(fetched.bytes.empty());
}

// If this failed, a server without ETags would be of no use, or its changes would go unseen.
TEST(HttpStorage, ADateServesWhereThereIsNoEtag) {
  std::atomic<bool> later{false};
  LoopbackServer server([&](const Received& request) {
    Reply reply = serve_object(request, kBody, "");
    reply.headers[1].second = later ? "Tue, 15 Nov 1994 12:45:27 GMT" : "Tue, 15 Nov 1994 12:45:26 GMT";
    reply.headers.erase(reply.headers.begin());
    return reply;
  });
  const auto provider = make();
  const auto object = provider->stat(server.url("/a"));
  ASSERT_TRUE(object) << object.error().message;
  const Fetched fetched = fetch(*provider, server.url("/a"), {5, 10, object->etag});
  EXPECT_TRUE(fetched.bytes == kBody.substr(5, 10)) << message(fetched);
  later = true;
  EXPECT_EQ(code(fetch(*provider, server.url("/a"), {5, 10, object->etag})), Errc::kCorrupt);
}

// If this failed, files whose changes nobody can see would be cached for ever.
TEST(HttpStorage, RefusesAServerThatTellsNoVersions) {
  LoopbackServer server([](const Received&) { return Reply{200, {}, "abc"}; });
  const auto object = make()->stat(server.url("/a"));
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().code, Errc::kUnsupported);
}

// If this failed, a server that knows no ranges (Python's, say) would hand out the wrong bytes.
TEST(HttpStorage, AWholeAnswerToARangeIsCutToIt) {
  LoopbackServer server([](Received request) {
    request.headers.erase("range");
    return serve_object(request, kBody, "\"v1\"");
  });
  const auto provider = make();
  EXPECT_TRUE(fetch(*provider, server.url("/a"), {0, 100, ""}).bytes == kBody.substr(0, 100));
  EXPECT_TRUE(fetch(*provider, server.url("/a"), {1'000, 100'000, ""}).bytes == kBody.substr(1'000, 100'000));
  EXPECT_TRUE(fetch(*provider, server.url("/a"), {200'000, 100'000, ""}).bytes == kBody.substr(200'000));
  EXPECT_EQ(code(fetch(*provider, server.url("/a"), {200'000, 100'001, "\"v1\""})), Errc::kCorrupt);
}

// If this failed, each part of a long file would cost all that lies before it.
TEST(HttpStorage, WithoutRangesNothingFarIntoAFileIsFetched) {
  const std::string body = noise(3U << 20U, 7);
  LoopbackServer server([&](Received request) {
    request.headers.erase("range");
    return serve_object(request, body, "\"v1\"");
  });
  const auto provider = make();
  const Fetched far = fetch(*provider, server.url("/a"), {2U << 20U, 1'000, ""});
  EXPECT_EQ(code(far), Errc::kUnsupported);
  EXPECT_TRUE(far.bytes.empty());
  EXPECT_EQ(server.requests().size(), 1U);
  EXPECT_TRUE(fetch(*provider, server.url("/a"), {0, body.size(), ""}).bytes == body);
}

// If this failed, a service could not end while a server hangs, or while it waits to try again.
TEST(HttpStorage, StoppingEndsWhatHangsAndWhatWaits) {
  using std::chrono::steady_clock;
  for (const bool hangs : {true, false}) {
    SCOPED_TRACE(hangs ? "hangs" : "waits");
    LoopbackServer server([&](const Received&) {
      Reply reply{503, {{"Retry-After", "60"}}, "later"};
      if (hangs) reply.delay_ms = 60'000;
      return reply;
    });
    HttpStorageOptions options = open_options();
    options.max_concurrent = 1;  // the second call waits for its turn
    options.retry.stall_timeout_ms = 60'000;
    options.retry.delay_ms_max = 60'000;
    const auto provider = make_http_storage("http", options);
    ASSERT_TRUE(provider);
    std::array<Errc, 2> codes{};
    std::array<std::thread, 2> callers;
    for (std::size_t i = 0; i < callers.size(); ++i)
      callers[i] = std::thread([&, i] { codes[i] = (*provider)->stat(server.url("/a")).error().code; });
    while (server.requests().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto begin = steady_clock::now();
    (*provider)->stop();
    for (std::thread& caller : callers) caller.join();
    EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10)) << "of a minute";
    EXPECT_EQ(codes[0], Errc::kCancelled);
    EXPECT_EQ(codes[1], Errc::kCancelled);
    EXPECT_EQ((*provider)->stat(server.url("/a")).error().code, Errc::kCancelled);
  }
}

// If this failed, bytes of another place in the file would be taken for the ones asked for.
TEST(HttpStorage, RefusesAnotherRangeThanItAskedFor) {
  for (const char* const range :
       {"bytes 1-10/300000", "bytes 0-8/300000", "bytes 0-9/9", "bytes=0-9", "none"}) {
    LoopbackServer server([&](const Received&) {
      return Reply{206, {{"ETag", "\"v1\""}, {"Content-Range", range}}, kBody.substr(0, 10)};
    });
    const Fetched fetched = fetch(*make(), server.url("/a"), {0, 10, ""});
    EXPECT_EQ(code(fetched), Errc::kCorrupt) << range;
    EXPECT_TRUE(fetched.bytes.empty()) << range;
  }
}

// If this failed, a file without a length that ends too early would pass for whole.
TEST(HttpStorage, ABodyThatEndsTooEarlyIsNotWhole) {
  LoopbackServer server([](const Received& request) {
    Reply reply = serve_object(request, kBody, "\"v1\"");
    reply.body.resize((reply.body.size() + 1) / 2);
    reply.length = false;  // the end of the connection is the end of the body
    return reply;
  });
  HttpStorageOptions options = open_options();
  options.retry.attempts_max = 30;
  // Each attempt brings half of what is left: 18 are enough.
  EXPECT_TRUE(fetch(*make(options), server.url("/a"), {0, 200'000, ""}).bytes == kBody.substr(0, 200'000));
  options.retry.attempts_max = 3;
  const Fetched fetched = fetch(*make(options), server.url("/a"), {0, 200'000, ""});
  EXPECT_EQ(code(fetched), Errc::kIo);
  EXPECT_NE(message(fetched).find("given up after 3 attempts"), std::string::npos) << message(fetched);
}

// If this failed, bit rot in a store would be served as an adapter.
TEST(HttpStorage, ComparesTheChecksumOfAWholeObject) {
  const std::string text = "123456789";
  struct Case {
    const char* header;
    const char* good;
  };
  // Check values of the CRC catalogue and of openssl dgst, of "123456789".
  for (const Case& one :
       {Case{"x-amz-checksum-crc32", "y/Q5Jg=="}, Case{"x-amz-checksum-crc32c", "4waSgw=="},
        Case{"x-amz-checksum-crc64nvme", "rosUhgp5mIg="},
        Case{"x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="},
        Case{"x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="},
        Case{"Repr-Digest", "md5=:x:, sha-256=:FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=:"},
        Case{"Digest", "SHA-256=FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="},
        Case{"x-goog-hash", "crc32c=4waSgw==,md5=JfnnlDI7RTiF9RgfG2JNCw=="},
        Case{"Content-MD5", "JfnnlDI7RTiF9RgfG2JNCw=="}}) {
    LoopbackServer server([&](const Received& request) {
      Reply reply = serve_object(request, text, "\"v1\"");
      reply.headers.emplace_back(one.header, one.good);
      if (request.target == "/rotten") reply.body[4] = 'x';
      return reply;
    });
    EXPECT_EQ(fetch(*make(), server.url("/good"), {0, 9, ""}).bytes, text) << one.header;
    const Fetched rotten = fetch(*make(), server.url("/rotten"), {0, 9, ""});
    EXPECT_EQ(code(rotten), Errc::kCorrupt) << one.header;
    EXPECT_TRUE(fetch(*make(), server.url("/good"), {1, 5, ""}).error == std::nullopt)
        << "of a part nothing can be said: " << one.header;
  }
}

// If this failed, rotten adapters would be served out of stores that name the checksum of an object only
// where no range of it was asked for (SeaweedFS is one).
TEST(HttpStorage, AWholeObjectIsAskedForWithoutARange) {
  LoopbackServer server([&](const Received& request) {
    const bool is_weights = request.target == "/a/adapter_model.safetensors";
    if (!is_weights && request.target != "/a/adapter_config.json") return Reply{404, {}, ""};
    Reply reply = serve_object(request, is_weights ? "123x56789" : "{}", "\"v1\"");
    if (is_weights && !asked_range(request))
      reply.headers.emplace_back("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
    return reply;
  });
  const auto provider = make();
  const auto manifest = adapter_manifest(*provider, server.url("/a"));
  ASSERT_TRUE(manifest) << manifest.error().message;
  const auto fetched_in = [&](std::uint64_t part_bytes) {
    const TempDir folder;
    FetchAdapterOptions options;
    options.part_bytes = part_bytes;
    return fetch_adapter(*provider, server.url("/a"), *manifest, folder.path().string(), options);
  };
  const auto whole = fetched_in(9);
  EXPECT_TRUE(!whole && whole.error().code == Errc::kCorrupt);
  EXPECT_TRUE(fetched_in(5)) << "of a part nothing can be said";
}

// If this failed, one bad minute of a server would fail requests that would have succeeded.
TEST(HttpStorage, TriesAgainWhatPasses) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    std::atomic<int> asked{0};
    LoopbackServer server([&](const Received& request) {
      if (++asked < 4) return Reply{status, {{"Retry-After", "0"}}, "later"};
      return serve_object(request, kBody, "\"v1\"");
    });
    const auto object = make()->stat(server.url("/a"));
    EXPECT_TRUE(object) << status << ": " << object.error().message;
    EXPECT_EQ(asked, 4) << status;
  }
}

// If this failed, a storm of 503 would never end for whoever waits, or end in a wrong answer.
TEST(HttpStorage, GivesUpAfterTheAttemptsItWasGiven) {
  LoopbackServer server([](const Received&) { return Reply{503, {}, "no"}; });
  const auto object = make()->stat(server.url("/a"));
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().code, Errc::kIo);
  EXPECT_EQ(object.error().detail, 503);
  EXPECT_EQ(server.requests().size(), 5U);
  EXPECT_NE(object.error().message.find("after 5 attempts"), std::string::npos) << object.error().message;
}

// If this failed, a wrong name would be asked for again and again.
TEST(HttpStorage, DoesNotRepeatWhatWillNotChange) {
  for (const int status : {400, 401, 404, 410}) {
    LoopbackServer server([&](const Received&) { return Reply{status, {}, "no"}; });
    const auto object = make()->stat(server.url("/a"));
    ASSERT_FALSE(object);
    EXPECT_EQ(object.error().code, status == 404 || status == 410 ? Errc::kNotFound : Errc::kIo) << status;
    EXPECT_EQ(object.error().detail, status);
    EXPECT_EQ(server.requests().size(), 1U) << status;
  }
}

// If this failed, a server that accepts and then says nothing would hang a load for ever.
TEST(HttpStorage, AStallIsATryAgain) {
  std::atomic<int> asked{0};
  LoopbackServer server([&](const Received& request) {
    Reply reply = serve_object(request, kBody, "\"v1\"");
    if (++asked == 1) reply.delay_ms = 5'000;
    if (asked == 2) reply.cut_at = 1'000, reply.hang_ms = 5'000;
    return reply;
  });
  HttpStorageOptions options = open_options();
  options.retry.stall_timeout_ms = 100;
  options.retry.connect_timeout_ms = 100;
  EXPECT_TRUE(fetch(*make(options), server.url("/a"), {0, kBody.size(), ""}).bytes == kBody);
  EXPECT_EQ(asked, 3);
}

// If this failed, a server that sends a byte now and then could keep a load for ever.
TEST(HttpStorage, ATrickleIsAStall) {
  LoopbackServer server([&](const Received& request) {
    Reply reply = serve_object(request, kBody, "\"v1\"");
    reply.drip_ms = 10;
    return reply;
  });
  HttpStorageOptions options = open_options();
  options.retry.stall_timeout_ms = 150;
  options.retry.attempts_max = 2;
  const Fetched fetched = fetch(*make(options), server.url("/a"), {0, kBody.size(), ""});
  EXPECT_EQ(code(fetched), Errc::kIo) << message(fetched);
  EXPECT_EQ(server.requests().size(), 2U);
}

// If this failed, what is not HTTP would be taken for an answer.
TEST(HttpStorage, AnAnswerThatIsNoneIsAnError) {
  for (const char* const raw :
       {"garbage\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 206 OK\r\nContent-Length: x\r\n"}) {
    LoopbackServer server([&](const Received&) {
      Reply reply;
      reply.raw = raw;
      return reply;
    });
    HttpStorageOptions options = open_options();
    options.retry.attempts_max = 2;
    EXPECT_TRUE(fetch(*make(options), server.url("/a"), {0, 9, ""}).error) << raw;
  }
}

// If this failed, a header without end would fill the memory.
TEST(HttpStorage, ABoundlessHeaderIsRefused) {
  LoopbackServer server([](const Received&) {
    Reply reply;
    for (int i = 0; i < 300; ++i)
      reply.headers.emplace_back("X-" + std::to_string(i), std::string(1'000, 'x'));
    return reply;
  });
  const auto object = make()->stat(server.url("/a"));
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().code, Errc::kTooLarge) << object.error().message;
}

// If this failed, a file moved to another path of an allowed host would be lost.
TEST(HttpStorage, FollowsRedirectsItMayFollow) {
  LoopbackServer server([](const Received& request) {
    if (request.target == "/a") return Reply{302, {{"Location", "/b?x=1"}}, "see there"};
    if (request.target == "/b?x=1") return Reply{307, {{"Location", "c"}}, ""};
    return serve_object(request, kBody, "\"v1\"");
  });
  const Fetched fetched = fetch(*make(), server.url("/a"), {10, 20, ""});
  EXPECT_TRUE(fetched.bytes == kBody.substr(10, 20)) << message(fetched);
  EXPECT_EQ(server.requests().back().target, "/c");
  EXPECT_EQ(server.requests().back().header("range"), "bytes=10-29");
}

// If this failed, two servers that point at each other would keep a load for ever.
TEST(HttpStorage, RedirectsAreBounded) {
  LoopbackServer server([](const Received& request) {
    return Reply{302, {{"Location", request.target + "x"}}, ""};
  });
  const auto object = make()->stat(server.url("/a"));
  ASSERT_FALSE(object);
  EXPECT_NE(object.error().message.find("more than 5 redirects"), std::string::npos)
      << object.error().message;
  EXPECT_EQ(server.requests().size(), 6U);
}

// If this failed, an allowed host could send us to any other.
TEST(HttpStorage, ARedirectMustPassTheSameChecks) {
  std::string location;
  LoopbackServer server([&](const Received&) { return Reply{302, {{"Location", location}}, ""}; });
  const auto provider = make();
  for (const char* const to :
       {"http://example.com/x?secret=s3cr3t", "file:///etc/passwd", "ftp://127.0.0.1/x",
        "//169.254.169.254/latest", "gopher://127.0.0.1/", "http://u:s3cr3t@127.0.0.1/"}) {
    location = to;
    const auto object = provider->stat(server.url("/a"));
    ASSERT_FALSE(object) << to;
    EXPECT_EQ(object.error().code, Errc::kInvalid) << to << ": " << object.error().message;
    EXPECT_EQ(object.error().message.find("s3cr3t"), std::string::npos) << object.error().message;
  }
  EXPECT_EQ(server.requests().size(), 6U) << "none of them is tried again";
}

// If this failed, whoever can name a URL could make this process talk to its own machine or its cloud.
TEST(HttpStorage, RefusesPrivateAddressesWhateverTheirName) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  HttpStorageOptions options = open_options();
  options.allow_private_addresses = false;
  options.allowed_hosts = {"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"};
  const auto provider = make(options);
  const std::string port = std::to_string(server.port());
  for (const std::string host :
       {"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"}) {
    const auto object = provider->stat("http://" + host + ":" + port + "/a");
    ASSERT_FALSE(object) << host;
    EXPECT_EQ(object.error().code, Errc::kInvalid) << host << ": " << object.error().message;
    EXPECT_NE(object.error().message.find("private address"), std::string::npos) << object.error().message;
  }
  EXPECT_EQ(server.connections(), 0U);
}

// If this failed, a host nobody allowed would be asked.
TEST(HttpStorage, AsksAllowedHostsOnly) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  const auto allows = [&](const std::string& pattern, const std::string& host) {
    HttpStorageOptions options = open_options();
    options.allowed_hosts = {pattern};
    const auto object = make(options)->stat("http://" + host + "/a");
    // A host that is allowed and not there is another error.
    return object || object.error().code != Errc::kInvalid;
  };
  const std::string port = std::to_string(server.port());
  EXPECT_TRUE(allows("127.0.0.1", "127.0.0.1:" + port));
  EXPECT_TRUE(allows("127.0.0.1:" + port, "127.0.0.1:" + port));
  EXPECT_FALSE(allows("127.0.0.1:1", "127.0.0.1:" + port));
  EXPECT_FALSE(allows("localhost", "127.0.0.1:" + port));
  EXPECT_TRUE(allows("LOCALHOST", "localhost:" + port));
  EXPECT_TRUE(allows("localhost", "LocalHost.:" + port));
  EXPECT_TRUE(allows("*.localhost", "a.b.localhost:" + port));
  EXPECT_FALSE(allows("*.localhost", "localhost:" + port));
  EXPECT_FALSE(allows("*.localhost", "evillocalhost:" + port));
  HttpStorageOptions none = open_options();
  none.allowed_hosts.clear();
  EXPECT_EQ(make(none)->stat(server.url("/a")).error().code, Errc::kInvalid);
}

// If this failed, a typing error in the configuration would open or close doors silently.
TEST(HttpStorage, RefusesOptionsThatMeanNothing) {
  HttpStorageOptions options = open_options();
  for (const char* const host :
       {"", "*", "http://host", "host/path", "user@host", "*.*.com", "ho st", "host:99999"}) {
    options.allowed_hosts = {host};
    EXPECT_FALSE(make_http_storage("http", options)) << host;
  }
  options = open_options();
  options.allow_http = false;
  EXPECT_EQ(make_http_storage("http", options).error().code, Errc::kInvalid);
  EXPECT_TRUE(make_http_storage("https", options));
  EXPECT_FALSE(make_http_storage("gopher", options));
  options.ca_file = "/nonexistent/ca.pem";
  EXPECT_FALSE(make_http_storage("https", options));
  options = open_options();
  options.max_concurrent = 0;
  EXPECT_FALSE(make_http_storage("http", options));
  options = open_options();
  options.retry.attempts_max = 0;
  EXPECT_FALSE(make_http_storage("http", options));
}

// If this failed, passwords in URLs would be sent, and written into logs.
TEST(HttpStorage, TakesNoSecretsInUrlsAndShowsNoQueries) {
  LoopbackServer server([](const Received&) { return Reply{500, {}, "no"}; });
  HttpStorageOptions options = open_options();
  options.retry.attempts_max = 1;
  const auto provider = make(options);
  const auto user = provider->stat("http://me:s3cr3t@" + server.host() + "/a");
  ASSERT_FALSE(user);
  EXPECT_EQ(user.error().code, Errc::kInvalid);
  EXPECT_EQ(user.error().message.find("s3cr3t"), std::string::npos) << user.error().message;
  const auto query = provider->stat(server.url("/a?signature=s3cr3t"));
  ASSERT_FALSE(query);
  EXPECT_EQ(query.error().message.find("s3cr3t"), std::string::npos) << query.error().message;
  EXPECT_EQ(server.requests().back().target, "/a?signature=s3cr3t");
}

// If this failed, a server without HEAD, or a URL signed for GET, could not be used.
TEST(HttpStorage, AsksByGetWhereHeadIsRefused) {
  for (const bool ranges : {true, false}) {
    LoopbackServer server([&](Received request) {
      if (request.method == "HEAD") return Reply{405, {}, ""};
      if (!ranges) request.headers.erase("range");
      return serve_object(request, kBody, "\"v1\"");
    });
    const auto object = make()->stat(server.url("/a"));
    ASSERT_TRUE(object) << object.error().message;
    EXPECT_EQ(object->size, kBody.size());
  }
}

// If this failed, the caller's own error (a full disk) would be hidden, or tried again.
TEST(HttpStorage, TheSinksErrorEndsTheFetch) {
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  const auto done = make()->fetch(server.url("/a"), {0, kBody.size(), ""},
                                  [](std::uint64_t, std::span<const std::byte>) -> Result<Unit> {
                                    return fail(Errc::kCancelled, "enough");
                                  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kCancelled);
  EXPECT_EQ(done.error().message, "enough");
  EXPECT_EQ(server.requests().size(), 1U);
}

// If this failed, a machine that is not there would hang a load, or be reported without its name.
TEST(HttpStorage, AServerThatIsNotThereIsNamed) {
  std::string url;
  {
    LoopbackServer server([](const Received&) { return Reply{}; });
    url = server.url("/a");
  }
  HttpStorageOptions options = open_options();
  options.retry.attempts_max = 2;
  const auto object = make(options)->stat(url);
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error().code, Errc::kIo);
  EXPECT_NE(object.error().message.find("127.0.0.1"), std::string::npos) << object.error().message;
}

// If this failed, a gzipped transfer would be stored as the adapter's bytes.
TEST(HttpStorage, RefusesAnEncodingNobodyAskedFor) {
  LoopbackServer server([](const Received& request) {
    EXPECT_EQ(request.header("accept-encoding"), "");
    Reply reply = serve_object(request, kBody, "\"v1\"");
    reply.headers.emplace_back("Content-Encoding", "gzip");
    return reply;
  });
  EXPECT_EQ(code(fetch(*make(), server.url("/a"), {0, 9, ""})), Errc::kUnsupported);
}

// If this failed, discovery over plain HTTP would look like an empty place.
TEST(HttpStorage, CannotList) {
  const auto listing = make()->list("http://127.0.0.1/a", true);
  ASSERT_FALSE(listing);
  EXPECT_EQ(listing.error().code, Errc::kUnsupported);
}

// If this failed, connections would go where the environment says, past the check of addresses.
TEST(HttpStorage, UsesNoProxyOfTheEnvironment) {
  LoopbackServer proxy([](const Received&) { return Reply{200, {{"ETag", "\"proxy\""}}, "proxy"}; });
  LoopbackServer server([](const Received& request) { return serve_object(request, kBody, "\"v1\""); });
  ::setenv("http_proxy", proxy.url().c_str(), 1);
  ::setenv("ALL_PROXY", proxy.url().c_str(), 1);
  const auto object = make()->stat(server.url("/a"));
  ::unsetenv("http_proxy");
  ::unsetenv("ALL_PROXY");
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(object->etag, "\"v1\"");
  EXPECT_EQ(proxy.connections(), 0U);
}

}  // namespace
}  // namespace loracle
