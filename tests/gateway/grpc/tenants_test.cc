#include "nlohmann/json.hpp"
#include "tests/gateway/grpc/gateway_fixture.h"
#include "tests/gateway/grpc/http_client.h"
#include "tests/support/files.h"

namespace berth::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// Digests of the keys "secret", "other" and "third".
constexpr char kKeys[] =
    "tenant acme\n"
    "key sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b acme\n"
    "tenant small requests-per-minute=2 tokens-per-minute=1000 max-priority=0\n"
    "key sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa small\n"
    "tenant terse tokens-per-minute=1000\n"
    "key sha256:b1e99324505bd32da0e1f85dcf5e19a09db0481e8a15f62c41eb320304a8e927 terse\n";

class TenantsTest : public GatewayTest {
 protected:
  void Configure(GatewayOptions& options) override {
    berth::testing::WriteFile(folder_.PathOf("keys"), kKeys);
    options.api_keys.file = folder_.PathOf("keys");
  }
  static void UseKey(grpc::ClientContext& context, const std::string& key) {
    if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
  }
  absl::Status Generate(const std::string& key, int priority = 0) {
    grpc::ClientContext context;
    UseKey(context, key);
    v1::GenerateRequest request;
    *request.mutable_generation() = Request("hi").generation();
    request.mutable_generation()->set_priority(priority);
    v1::GenerateResponse response;
    return rpc::FromGrpc(inference_->Generate(&context, request, &response));
  }
  absl::StatusOr<std::string> SessionAtWorker(const std::string& key) {
    grpc::ClientContext context;
    UseKey(context, key);
    v1::GetSessionRequest request;
    request.set_session_id("s");
    v1::GetSessionResponse response;
    const absl::Status status = rpc::FromGrpc(v1::SessionService::NewStub(channel_)->GetSession(&context, request, &response));
    if (!status.ok()) return status;
    return response.session_id();
  }
  HttpClient::Response Post(const std::string& key) {
    return HttpClient(gateway_->ports().http)
        .PostAndReceive("/v1/completions", json{{"model", "m"}, {"prompt", "hi"}, {"max_tokens", 3}}.dump(),
                        key.empty() ? "" : "Authorization: Bearer " + key + "\r\n");
  }

  const berth::testing::TempDir folder_;
};

TEST_F(TenantsTest, OnlyCallersWithAKeyAreServed) {
  EXPECT_TRUE(Generate("secret").ok());
  EXPECT_EQ(rpc::Reason(Generate("")), "NO_API_KEY");
  EXPECT_EQ(rpc::Reason(Generate("wrong")), "UNKNOWN_API_KEY");
  EXPECT_EQ(SessionAtWorker("wrong").status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(Post("secret").status, 200);
  const auto refused = Post("");
  EXPECT_EQ(refused.status, 401);
  EXPECT_THAT(refused.head, HasSubstr("WWW-Authenticate: Bearer"));
  EXPECT_EQ(json::parse(refused.body)["error"]["code"], "no_api_key");
  EXPECT_EQ(HttpClient(gateway_->ports().http).Get("/v1/models").status, 401);
  EXPECT_EQ(HttpClient(gateway_->ports().http).Get("/health").status, 200);
}

TEST_F(TenantsTest, WorkersHearTheTenantAndNobodySeesAnothersSessions) {
  EXPECT_EQ(*SessionAtWorker("secret"), "acme/s");
  EXPECT_EQ(*SessionAtWorker("other"), "small/s");
  EXPECT_TRUE(Generate("secret").ok());
  std::vector<std::string> tenants;
  for (const auto& worker : workers_) {
    for (const v1::Submit& submit : worker->submits()) tenants.push_back(submit.tenant());
  }
  EXPECT_THAT(tenants, ::testing::ElementsAre("acme"));
}

TEST_F(TenantsTest, LimitsAreToldAndRefusalsSayWhenToComeBack) {
  const auto first = Post("other");
  ASSERT_EQ(first.status, 200) << first.body;
  EXPECT_THAT(first.head, HasSubstr("x-ratelimit-limit-requests: 2"));
  EXPECT_THAT(first.head, HasSubstr("x-ratelimit-remaining-requests: 1"));
  EXPECT_THAT(first.head, HasSubstr("x-ratelimit-limit-tokens: 1000"));
  EXPECT_EQ(rpc::FieldViolations(Generate("other", 1)).front().first, "priority");
  EXPECT_TRUE(Generate("other").ok());
  const auto third = Post("other");
  EXPECT_EQ(third.status, 429);
  EXPECT_THAT(third.head, HasSubstr("Retry-After: "));
  EXPECT_THAT(third.head, HasSubstr("x-ratelimit-remaining-requests: 0"));
  EXPECT_EQ(json::parse(third.body)["error"]["code"], "rate_limited");
  const absl::Status refused = Generate("other");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(rpc::RetryAfter(refused), absl::ZeroDuration());
  const auto other = Post("secret");
  EXPECT_EQ(other.status, 200) << "tenants do not share";
  EXPECT_EQ(other.head.find("x-ratelimit"), std::string::npos);
}

TEST_F(TenantsTest, AListIsOneRequest) {
  const auto post = [&](const char* path, json body) {
    body["model"] = "m";
    return HttpClient(gateway_->ports().http).PostAndReceive(path, body.dump(), "Authorization: Bearer other\r\n");
  };
  const auto prompts = post("/v1/completions", {{"prompt", {"hi", "hello", "hey"}}, {"max_tokens", 3}});
  ASSERT_EQ(prompts.status, 200) << prompts.body;
  EXPECT_THAT(prompts.head, HasSubstr("x-ratelimit-remaining-requests: 1"));
  const auto texts = post("/v1/embeddings", {{"input", std::vector<std::string>(100, "hi")}});
  ASSERT_EQ(texts.status, 200) << texts.body;
  EXPECT_EQ(json::parse(texts.body)["data"].size(), 100u);
  EXPECT_EQ(post("/v1/completions", {{"prompt", "hi"}, {"max_tokens", 3}}).status, 429);
  // Its tokens count all the same.
  const std::string text(3000, 'x');
  const auto many =
      HttpClient(gateway_->ports().http)
          .PostAndReceive("/v1/completions", json{{"model", "m"}, {"prompt", {text, text}}, {"max_tokens", 3}}.dump(),
                          "Authorization: Bearer third\r\n");
  EXPECT_EQ(many.status, 429) << many.body;
}

TEST_F(TenantsTest, AChangedFileCountsAndABrokenOneDoesNot) {
  const auto until = [&](const std::string& key, bool ok) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (Generate(key).ok() != ok) {
      if (absl::Now() > deadline) return false;
    }
    return true;
  };
  // "other" moves to acme, "secret" is no longer known.
  berth::testing::WriteFile(folder_.PathOf("next"),
                            "tenant acme\nkey sha256:"
                            "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa acme\n");
  std::rename(folder_.PathOf("next").c_str(), folder_.PathOf("keys").c_str());
  EXPECT_TRUE(until("secret", false));
  EXPECT_EQ(*SessionAtWorker("other"), "acme/s");
  const auto errors = [&] {
    return HttpClient(gateway_->ports().metrics).Get("/metrics").Has("config_reloads_total{result=\"error\"} 1");
  };
  berth::testing::WriteFile(folder_.PathOf("next"), "nonsense");
  std::rename(folder_.PathOf("next").c_str(), folder_.PathOf("keys").c_str());
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!errors()) ASSERT_LT(absl::Now(), deadline);
  EXPECT_TRUE(Generate("other").ok());
}

}  // namespace
}  // namespace berth::gateway
