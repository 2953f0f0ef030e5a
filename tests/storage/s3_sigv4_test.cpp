#include <gtest/gtest.h>

#include <ostream>

#include "storage/sigv4.hpp"
#include "storage/utc_time.hpp"

namespace loracle {
namespace {

const AwsCredentials kSuite{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "", 0};
const AwsCredentials kManual{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", 0};
constexpr std::int64_t kSuiteTime = 1'440'938'160;   // 2015-08-30 12:36:00
constexpr std::int64_t kManualTime = 1'369'353'600;  // 2013-05-24 00:00:00
constexpr const char* kUnreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

struct Vector {
  const char* name;
  const char* method;
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
  std::vector<std::pair<std::string, std::string>> headers;
  const char* signature;
};
void PrintTo(const Vector& vector, std::ostream* out) { *out << vector.name; }

std::string signature_of(const std::string& authorization) {
  return authorization.substr(authorization.find("Signature=") + 10);
}

class SuiteVector : public ::testing::TestWithParam<Vector> {};

// Amazon's "Signature Version 4 test suite".
// If this failed, a service that checks signatures as Amazon does would refuse every request.
TEST_P(SuiteVector, IsSignedAsAmazonPublishedIt) {
  const Vector& vector = GetParam();
  SignableRequest request{vector.method,
                          vector.path,
                          vector.query,
                          {{"Host", "example.amazonaws.com"}, {"X-Amz-Date", "20150830T123600Z"}},
                          std::string(kEmptySha256)};
  for (const auto& header : vector.headers) request.headers.push_back(header);
  const std::string signed_by =
      authorization(request, {"us-east-1", "service", kSuiteTime, SignedPath::kNormalized}, kSuite);
  EXPECT_EQ(signature_of(signed_by), vector.signature) << canonical_request(request, SignedPath::kNormalized);
}

INSTANTIATE_TEST_SUITE_P(
    Suite, SuiteVector,
    ::testing::Values(Vector{"get_vanilla",
                             "GET",
                             "/",
                             {},
                             {},
                             "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
                      Vector{"post_vanilla",
                             "POST",
                             "/",
                             {},
                             {},
                             "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
                      Vector{"get_vanilla_query_order_key_case",
                             "GET",
                             "/",
                             {{"Param2", "value2"}, {"Param1", "value1"}},
                             {},
                             "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
                      Vector{"get_vanilla_query_unreserved",
                             "GET",
                             "/",
                             {{kUnreserved, kUnreserved}},
                             {},
                             "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
                      Vector{"get_vanilla_utf8_query",
                             "GET",
                             "/",
                             {{"\u1234", "bar"}},
                             {},
                             "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
                      Vector{"get_unreserved",
                             "GET",
                             std::string("/") + kUnreserved,
                             {},
                             {},
                             "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
                      Vector{"get_utf8",
                             "GET",
                             "/\u1234",
                             {},
                             {},
                             "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
                      Vector{"get_space_normalized",
                             "GET",
                             "/example space/",
                             {},
                             {},
                             "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
                      Vector{"get_relative_normalized",
                             "GET",
                             "/example/..",
                             {},
                             {},
                             "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
                      Vector{"get_slash_dot_slash_normalized",
                             "GET",
                             "/./",
                             {},
                             {},
                             "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
                      Vector{"get_slashes_of_root_normalized",
                             "GET",
                             "//",
                             {},
                             {},
                             "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
                      Vector{"get_header_key_duplicate",
                             "GET",
                             "/",
                             {},
                             {{"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}},
                             "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
                      Vector{"get_header_value_trim",
                             "GET",
                             "/",
                             {},
                             {{"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}},
                             "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
                      Vector{"post_header_value_case",
                             "POST",
                             "/",
                             {},
                             {{"My-Header1", "VALUE1"}},
                             "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"}),
    [](const auto& each) { return std::string(each.param.name); });

class ManualVector : public ::testing::TestWithParam<Vector> {};

// The examples of the S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
// If this failed, S3 would refuse every request as SignatureDoesNotMatch.
TEST_P(ManualVector, IsSignedAsTheS3ManualDoes) {
  const Vector& vector = GetParam();
  SignableRequest request{vector.method,
                          vector.path,
                          vector.query,
                          {{"Host", "examplebucket.s3.amazonaws.com"}, {"x-amz-date", "20130524T000000Z"}},
                          std::string(kEmptySha256)};
  if (request.method == "PUT")
    request.payload_sha256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
  request.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
  for (const auto& header : vector.headers) request.headers.push_back(header);
  const std::string signed_by =
      authorization(request, {"us-east-1", "s3", kManualTime, SignedPath::kAsSent}, kManual);
  EXPECT_EQ(signature_of(signed_by), vector.signature) << canonical_request(request, SignedPath::kAsSent);
}

INSTANTIATE_TEST_SUITE_P(
    Manual, ManualVector,
    ::testing::Values(Vector{"get_object",
                             "GET",
                             "/test.txt",
                             {},
                             {{"Range", "bytes=0-9"}},
                             "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
                      Vector{"put_object",
                             "PUT",
                             "/test%24file.text",
                             {},
                             {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                              {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                             "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
                      Vector{"get_lifecycle",
                             "GET",
                             "/",
                             {{"lifecycle", ""}},
                             {},
                             "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
                      Vector{"list_objects",
                             "GET",
                             "/",
                             {{"prefix", "J"}, {"max-keys", "2"}},
                             {},
                             "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"}),
    [](const auto& each) { return std::string(each.param.name); });

// If this failed, a request would name the keys it is signed with wrongly, and be refused.
TEST(SigV4, NamesScopeAndHeadersInTheAuthorization) {
  const SignableRequest request{"GET",
                                "/",
                                {},
                                {{"X-Amz-Date", "20150830T123600Z"}, {"Host", "example.amazonaws.com"}},
                                std::string(kEmptySha256)};
  EXPECT_EQ(authorization(request, {"us-east-1", "service", kSuiteTime, SignedPath::kNormalized}, kSuite),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

// If this failed, credentials would be thrown away too early or used after their end.
TEST(UtcTime, ReadsAndWritesTheFormsOfTheWeb) {
  EXPECT_EQ(compact_utc(kSuiteTime), "20150830T123600Z");
  EXPECT_EQ(compact_utc(0), "19700101T000000Z");
  EXPECT_EQ(parse_iso8601("2015-08-30T12:36:00Z"), kSuiteTime);
  EXPECT_EQ(parse_iso8601("2015-08-30T12:36:00.125Z"), kSuiteTime);
  EXPECT_EQ(parse_iso8601("2024-02-29T00:00:00Z"), 1'709'164'800);
  for (const char* const bad : {"", "2015-08-30", "2015-02-30T12:36:00Z", "2015-08-30T24:36:00Z",
                                "2015-08-30T12:36:00+01:00", "yyyy-08-30T12:36:00Z"})
    EXPECT_EQ(parse_iso8601(bad), std::nullopt) << bad;
  EXPECT_EQ(parse_http_date("Tue, 15 Nov 1994 12:45:26 GMT"), 784'903'526);
  EXPECT_EQ(parse_http_date("yesterday"), std::nullopt);
}

}  // namespace
}  // namespace loracle
