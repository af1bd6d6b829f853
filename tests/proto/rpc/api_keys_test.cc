#include "proto/rpc/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"

namespace berth::rpc {
namespace {

using ::testing::HasSubstr;

// Of "secret" and "other".
constexpr char kSecret[] = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOther[] = "sha256:D9298A10D1B0735837DC4BD85DAC641B0F3CEF27A47E5D53A54F2F3F5B2FCFFA";

std::string FileOf(const std::string& text) {
  const std::string path = testing::TempDir() + "/keys";
  std::ofstream(path) << text;
  return path;
}

absl::StatusOr<ApiKeys> Parse(const std::string& text) { return ApiKeys::Load({.file = FileOf(text)}); }

TEST(ApiKeysTest, AKeyTellsItsTenantAndTheTenantsLimits) {
  const auto keys = Parse(absl::StrCat("# callers\ntenant acme requests-per-minute=60 tokens-per-minute=1e5 max-priority=3\n",
                                       "key ", kSecret, " acme  # of the batch job\nkey ", kOther, " acme\n\n"));
  ASSERT_TRUE(keys.ok()) << keys.status();
  for (const char* key : {"secret", "other"}) {
    const auto tenant = keys->Find(key);
    ASSERT_NE(tenant, nullptr) << key;
    EXPECT_EQ(tenant->name, "acme");
    EXPECT_EQ(tenant->requests_per_minute, 60);
    EXPECT_EQ(tenant->tokens_per_minute, 100000);
    EXPECT_EQ(tenant->max_priority, 3);
  }
  EXPECT_EQ(keys->Find("Secret"), nullptr);
}

TEST(ApiKeysTest, ErrorsNameTheLine) {
  const std::string tenant = "tenant acme\n", key = absl::StrCat("key ", kSecret, " acme\n");
  for (const auto& [text, want] :
       std::vector<std::pair<std::string, std::string>>{{tenant + "key secret acme", ":2: the key is not sha256:"},
                                                        {tenant + "key sha256:00 acme", ":2: the key is not sha256:"},
                                                        {key, ":1: there is no tenant acme before its key"},
                                                        {tenant + key + key, ":3: the key is there twice"},
                                                        {tenant + tenant, ":2: tenant acme is there twice"},
                                                        {"tenant acme requests-per-minute=0", "requests-per-minute is \"0\""},
                                                        {"tenant acme tokens-per-minute=nan", "tokens-per-minute is \"nan\""},
                                                        {"tenant acme max-priority=high", "max-priority is \"high\""},
                                                        {"tenant acme rpm=3", "\"rpm=3\", want requests-per-minute=N"},
                                                        {"user acme", ":1: want \"tenant NAME"},
                                                        {tenant, "there is no key"}}) {
    EXPECT_THAT(std::string(Parse(text).status().message()), HasSubstr(want)) << text;
  }
  EXPECT_THAT(std::string(ApiKeys::Load({.file = "/no/such"}).status().message()), HasSubstr("cannot read /no/such"));
}

TEST(AuthenticatorTest, BearersAreToldApartAndOthersRefused) {
  EXPECT_EQ(Authenticator().Authenticate("")->get()->name, "default");
  Authenticator authenticator(*ApiKeys::Load({.keys = {"k"}}));
  EXPECT_EQ(authenticator.Authenticate("Bearer k")->get()->name, "default");
  for (const auto& [value, reason] :
       {std::pair("", "NO_API_KEY"), {"k", "NO_API_KEY"}, {"Bearer ", "UNKNOWN_API_KEY"}, {"Bearer kk", "UNKNOWN_API_KEY"}}) {
    const absl::Status status = authenticator.Authenticate(value).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << value;
    EXPECT_EQ(Reason(status), reason) << value;
  }
  authenticator.Replace(*ApiKeys::Load({.keys = {"new"}}));
  EXPECT_FALSE(authenticator.Authenticate("Bearer k").ok());
  EXPECT_TRUE(authenticator.Authenticate("Bearer new").ok());
}

}  // namespace
}  // namespace berth::rpc
