#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <optional>
#include <thread>

#include "storage/aws_profile.hpp"
#include "storage/credentials.hpp"
#include "storage/loopback_server.hpp"
#include "storage/utc_time.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::LoopbackServer;
using testing::Received;
using testing::Reply;
using testing::TempDir;

/// A chain with an environment and a clock of its own.
struct World {
  std::map<std::string, std::string> variables{{"HOME", "/nonexistent"},
                                               {"AWS_EC2_METADATA_DISABLED", "true"}};
  std::atomic<std::int64_t> now{1'700'000'000};
  std::string profile;

  /// As a machine in EC2, whose metadata are at `endpoint`.
  void be_an_instance(const std::string& endpoint) {
    variables.erase("AWS_EC2_METADATA_DISABLED");
    variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = endpoint;
  }

  [[nodiscard]] std::unique_ptr<CredentialChain> chain() {
    CredentialOptions options;
    options.profile = profile;
    options.env = [this](const std::string& name) -> std::optional<std::string> {
      const auto at = variables.find(name);
      if (at == variables.end()) return std::nullopt;
      return at->second;
    };
    options.unix_s = [this] { return now.load(); };
    options.retry.attempts_max = 2;
    options.retry.first_delay_ms = 1;
    options.retry.connect_timeout_ms = 500;
    options.retry.stall_timeout_ms = 500;
    auto made = CredentialChain::make(std::move(options));
    EXPECT_TRUE(made);
    return std::move(*made);
  }
};

std::string iso(std::int64_t unix_s) {
  const std::string compact = compact_utc(unix_s);
  return compact.substr(0, 4) + "-" + compact.substr(4, 2) + "-" + compact.substr(6, 2) + "T" +
         compact.substr(9, 2) + ":" + compact.substr(11, 2) + ":" + compact.substr(13, 2) + "Z";
}

std::string json_keys(const std::string& access, std::int64_t expires) {
  return R"({"AccessKeyId":")" + access + R"(","SecretAccessKey":"s","Token":"t","Expiration":")" +
         iso(expires) + "\"}";
}

std::string access_key(const Result<AwsCredentials>& found) {
  return found ? found->access_key : "error: " + found.error().message;
}

// If this failed, the first thing everybody tries would not work.
TEST(Credentials, TheEnvironmentComesFirst) {
  World world;
  TempDir dir;
  world.variables["AWS_SHARED_CREDENTIALS_FILE"] =
      dir.write("credentials", "[default]\naws_access_key_id=FILE\naws_secret_access_key=s\n");
  EXPECT_EQ(access_key(world.chain()->get()), "FILE");
  world.variables["AWS_ACCESS_KEY_ID"] = "ENV";
  EXPECT_EQ(world.chain()->get().error().code, Errc::kInvalid) << "half of a pair is a mistake";
  world.variables["AWS_SECRET_ACCESS_KEY"] = "s";
  world.variables["AWS_SESSION_TOKEN"] = "t";
  const auto found = world.chain()->get();
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (AwsCredentials{"ENV", "s", "t", 0}));
  world.profile = "default";
  EXPECT_EQ(access_key(world.chain()->get()), "FILE") << "who names a profile means it";
}

// If this failed, a second account's adapters would be read with the first one's keys.
TEST(Credentials, ProfilesAreReadFromBothFiles) {
  World world;
  TempDir dir;
  world.variables["AWS_SHARED_CREDENTIALS_FILE"] = dir.write(
      "credentials",
      "# comment\r\n[default]\r\naws_access_key_id = D \r\naws_secret_access_key=d/+=#x # old\r\n\r\n"
      "[work]\naws_access_key_id=W\naws_secret_access_key=w\naws_session_token=wt\n");
  world.variables["AWS_CONFIG_FILE"] = dir.write(
      "config",
      "[default]\nregion = eu-west-1\n[profile work]\nregion=eu-north-1\naws_access_key_id=C\n"
      "aws_secret_access_key=c\n[profile  config-only]\naws_access_key_id=CO\naws_secret_access_key=co\n"
      "s3 =\n  max_concurrent_requests = 3\n[profile sso]\nsso_session = x\n"
      "[profile half]\naws_access_key_id=H\n[profile region]\nregion=x\n");
  const auto first = world.chain()->get();
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(*first, (AwsCredentials{"D", "d/+=#x", "", 0}));
  world.variables["AWS_PROFILE"] = "work";
  EXPECT_EQ(*world.chain()->get(), (AwsCredentials{"W", "w", "wt", 0}));
  world.profile = "config-only";
  EXPECT_EQ(access_key(world.chain()->get()), "CO");
  for (const auto& [name, code] : std::map<std::string, Errc>{{"absent", Errc::kInvalid},
                                                              {"half", Errc::kInvalid},
                                                              {"sso", Errc::kUnsupported},
                                                              {"region", Errc::kInvalid}}) {
    world.profile = name;
    EXPECT_EQ(world.chain()->get().error().code, code) << name;
  }
  world.profile = "region";
  const std::string none = world.chain()->get().error().message;
  EXPECT_NE(none.find("'region'"), std::string::npos) << none;
  EXPECT_EQ(none.find("AWS_ACCESS_KEY_ID"), std::string::npos) << "whose keys are not looked at: " << none;
}

// If this failed, a user without credentials would not learn where they were looked for.
TEST(Credentials, NoneAtAllIsExplained) {
  World world;
  const auto found = world.chain()->get();
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Errc::kInvalid);
  EXPECT_NE(found.error().message.find("AWS_ACCESS_KEY_ID"), std::string::npos) << found.error().message;
}

// If this failed, pods with a service account (EKS) could not read S3.
TEST(Credentials, WebIdentityIsExchangedForKeys) {
  World world;
  TempDir dir;
  LoopbackServer sts([&](const Received& request) {
    if (request.body.find("good%2Btoken") == std::string::npos)
      return Reply{
          403, {}, "<ErrorResponse><Error><Message>InvalidIdentityToken: bad-token</Message></Error>"};
    return Reply{
        200,
        {},
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
        "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s"
        "</SecretAccessKey><SessionToken>t</SessionToken><Expiration>" +
            iso(world.now + 3'600) +
            "</Expiration></Credentials></AssumeRoleWithWebIdentityResult></"
            "AssumeRoleWithWebIdentityResponse>"};
  });
  world.variables["AWS_ENDPOINT_URL_STS"] = sts.url();
  world.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = dir.write("token", "good+token\n");
  EXPECT_EQ(world.chain()->get().error().code, Errc::kInvalid) << "AWS_ROLE_ARN is missing";
  world.variables["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/x";
  world.variables["AWS_ROLE_SESSION_NAME"] = "me";
  const auto found = world.chain()->get();
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(*found, (AwsCredentials{"WEB", "s", "t", world.now + 3'600}));
  const Received request = sts.requests()[0];
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.body,
            "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&"
            "RoleSessionName=me&Version=2011-06-15&WebIdentityToken=good%2Btoken");
  dir.write("token", "bad-token");
  const auto refused = world.chain()->get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().detail, 403);
  EXPECT_EQ(refused.error().message.find("bad-token"), std::string::npos) << refused.error().message;
}

// If this failed, tasks in ECS and pods with an identity agent could not read S3.
TEST(Credentials, TheContainersAgentIsAskedWithItsToken) {
  World world;
  TempDir dir;
  LoopbackServer agent([&](const Received& request) {
    if (request.header("authorization") != "Basic abc") return Reply{401, {}, "no"};
    return Reply{200, {}, json_keys("ECS", world.now + 3'600)};
  });
  world.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.url("/creds?id=1");
  EXPECT_EQ(world.chain()->get().error().detail, 401);
  world.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "Basic abc";
  EXPECT_EQ(access_key(world.chain()->get()), "ECS");
  EXPECT_EQ(agent.requests().back().target, "/creds?id=1");
  world.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "wrong";
  world.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = dir.write("token", "Basic abc\n");
  EXPECT_EQ(access_key(world.chain()->get()), "ECS");
  world.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = dir.write("token", "Basic\nX-Evil: abc\n");
  EXPECT_EQ(world.chain()->get().error().code, Errc::kInvalid);
  // Over plain HTTP, anybody on the way would have the keys.
  world.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://example.com/creds";
  EXPECT_EQ(world.chain()->get().error().code, Errc::kInvalid);
}

/// An instance as IMDSv2 has it.
struct Instance {
  World& world;
  std::atomic<int> served{0};
  std::atomic<bool> down{false};
  std::int64_t lifetime = 3'600;

  Reply answer(const Received& request) {
    if (down) return {500, {}, "down"};
    if (request.method == "PUT" && request.target == "/latest/api/token") {
      if (request.header("x-aws-ec2-metadata-token-ttl-seconds").empty()) return {400, {}, ""};
      return {200, {}, "the-token"};
    }
    if (request.header("x-aws-ec2-metadata-token") != "the-token") return {401, {}, ""};
    if (request.target == "/latest/meta-data/iam/security-credentials/") return {200, {}, "my role\n"};
    if (request.target != "/latest/meta-data/iam/security-credentials/my%20role") return {404, {}, ""};
    return {200, {}, json_keys("IMDS" + std::to_string(++served), world.now + lifetime)};
  }
};

// If this failed, machines in EC2 could not use their role, or would ask a version that leaks it.
TEST(Credentials, TheInstanceIsAskedByItsSecondVersion) {
  World world;
  Instance instance{world};
  LoopbackServer imds([&](const Received& request) { return instance.answer(request); });
  world.be_an_instance(imds.url("/"));
  EXPECT_EQ(access_key(world.chain()->get()), "IMDS1");
  EXPECT_EQ(imds.requests().size(), 3U);
}

// If this failed, a long-running service would stop reading S3 when its first keys expire.
TEST(Credentials, AreRenewedBeforeTheyExpire) {
  World world;
  Instance instance{world};
  LoopbackServer imds([&](const Received& request) { return instance.answer(request); });
  world.be_an_instance(imds.url());
  const auto chain = world.chain();
  EXPECT_EQ(access_key(chain->get()), "IMDS1");
  world.now += 3'000;
  EXPECT_EQ(access_key(chain->get()), "IMDS1") << "ten minutes are left";
  world.now += 301;
  EXPECT_EQ(access_key(chain->get()), "IMDS2") << "five minutes are left";
  instance.down = true;
  world.now += 3'400;
  EXPECT_EQ(access_key(chain->get()), "IMDS2") << "the old ones still hold for a moment";
  const std::size_t asked = imds.requests().size();
  EXPECT_EQ(access_key(chain->get()), "IMDS2");
  EXPECT_EQ(imds.requests().size(), asked) << "and the source is not asked at every request";
  world.now += 300;
  EXPECT_FALSE(chain->get()) << "expired keys are of no use";
  instance.down = false;
  world.now += 11;
  EXPECT_EQ(access_key(chain->get()), "IMDS3");
}

// If this failed, an instance whose own source is away would cut off everything that runs on it.
TEST(Credentials, ExpiredOnesOfTheInstanceServeOn) {
  World world;
  Instance instance{world};
  instance.lifetime = -100;
  LoopbackServer imds([&](const Received& request) { return instance.answer(request); });
  world.be_an_instance(imds.url());
  const auto chain = world.chain();
  EXPECT_EQ(access_key(chain->get()), "IMDS1");
  world.now += 60;
  EXPECT_EQ(access_key(chain->get()), "IMDS1");
}

// If this failed, a hundred loads at once would ask the instance a hundred times.
TEST(Credentials, ManyThreadsAskOnce) {
  World world;
  Instance instance{world};
  LoopbackServer imds([&](const Received& request) { return instance.answer(request); });
  world.be_an_instance(imds.url());
  const auto chain = world.chain();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 16; ++i) threads.emplace_back([&] { good += chain->get().has_value() ? 1 : 0; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 16);
  EXPECT_EQ(instance.served, 1);
}

// If this failed, keys that were replaced in the file would only be seen after a restart.
TEST(Credentials, RefusedOnesAreReadAgain) {
  World world;
  TempDir dir;
  world.variables["AWS_SHARED_CREDENTIALS_FILE"] =
      dir.write("credentials", "[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n");
  const auto chain = world.chain();
  const AwsCredentials old = chain->get().value();
  EXPECT_FALSE(chain->renew_refused(old)) << "read a moment ago";
  world.now += 60;
  EXPECT_FALSE(chain->renew_refused(old)) << "the file says the same";
  dir.write("credentials", "[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n");
  world.now += 60;
  EXPECT_TRUE(chain->renew_refused(old));
  EXPECT_EQ(access_key(chain->get()), "NEW");
  EXPECT_TRUE(chain->renew_refused(old)) << "others are at hand already";
}

// If this failed, one refused request would take the keys from all others while their source is down.
TEST(Credentials, ARefusalDoesNotThrowAwayWhatServes) {
  World world;
  Instance instance{world};
  LoopbackServer imds([&](const Received& request) { return instance.answer(request); });
  world.be_an_instance(imds.url());
  const auto chain = world.chain();
  const AwsCredentials first = chain->get().value();
  instance.down = true;
  world.now += 60;
  EXPECT_FALSE(chain->renew_refused(first));
  EXPECT_EQ(access_key(chain->get()), "IMDS1");
  const std::size_t asked = imds.requests().size();
  EXPECT_FALSE(chain->renew_refused(first));
  EXPECT_EQ(imds.requests().size(), asked) << "and the source is not asked at every refusal";
  instance.down = false;
  world.now += 11;
  EXPECT_TRUE(chain->renew_refused(first));
  EXPECT_EQ(access_key(chain->get()), "IMDS2");
}

// If this failed, every request of a machine whose source of keys is broken would wait for it anew.
TEST(Credentials, ABrokenSourceIsNotAskedAtEveryRequest) {
  World world;
  LoopbackServer agent([&](const Received&) { return Reply{500, {}, "down"}; });
  world.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.url("/creds");
  const auto chain = world.chain();
  EXPECT_EQ(chain->get().error().detail, 500);
  const std::size_t asked = agent.requests().size();
  EXPECT_EQ(chain->get().error().detail, 500);
  EXPECT_EQ(agent.requests().size(), asked);
  world.now += 11;
  EXPECT_EQ(chain->get().error().detail, 500);
  EXPECT_EQ(agent.requests().size(), 2 * asked);
}

// If this failed, a machine that is no instance would wait at every start.
TEST(Credentials, AnAbsentInstanceIsNoError) {
  World world;
  world.variables.erase("AWS_EC2_METADATA_DISABLED");
  std::string gone;
  {
    LoopbackServer server([](const Received&) { return Reply{}; });
    gone = server.url();
  }
  world.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = gone;
  EXPECT_EQ(world.chain()->get().error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace loracle
