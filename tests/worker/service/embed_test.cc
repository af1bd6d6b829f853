#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/service/direct_fixture.h"

namespace berth::service {
namespace {

class EmbedTest : public DirectTest {
 protected:
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request, absl::Duration timeout = absl::Seconds(30)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    v1::EmbedResponse response;
    const grpc::Status status = worker_.inference->Embed(&context, request, &response);
    if (!status.ok()) return rpc::FromGrpc(status);
    return response;
  }
  static v1::EmbedRequest Texts(const std::vector<std::string>& texts) {
    v1::EmbedRequest request;
    for (const std::string& text : texts) request.add_inputs()->set_text(text);
    return request;
  }
};

TEST_F(EmbedTest, GivesEveryInputItsVectorOfLengthOneAndFreesAllKv) {
  const std::string text(700, 'x');
  const auto response = Embed(Texts({"ship", text, "ship", "berth"}));
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->embeddings_size(), 4);
  EXPECT_EQ(response->usage().prompt_tokens(), 4 + 700 + 4 + 5);
  EXPECT_EQ(response->model(), worker_.Info().models(0).name());
  const auto values = [&](int i) {
    return std::vector<float>(response->embeddings(i).values().begin(), response->embeddings(i).values().end());
  };
  EXPECT_EQ(values(0), values(2));
  EXPECT_NE(values(0), values(3));
  for (int i = 0; i < 4; ++i) {
    double squares = 0;
    for (const float x : values(i)) squares += x * x;
    EXPECT_NEAR(squares, 1, 1e-5);
  }
  AwaitFreeKv();
  EXPECT_EQ(worker_.Load().kv_blocks_cached(), 0);
}

TEST_F(EmbedTest, WhatIsWrongIsNamed) {
  v1::EmbedRequest bad_token = Texts({"x"});
  bad_token.add_inputs()->mutable_token_ids()->add_ids(1 << 20);
  v1::EmbedRequest other = Texts({"x"});
  other.set_model("gpt-9");
  const std::pair<v1::EmbedRequest, const char*> cases[] = {
      {Texts({}), "inputs: has 0 inputs, want 1 … 32"},
      {Texts(std::vector<std::string>(33, "x")), "inputs: has 33 inputs"},
      {Texts({"x", ""}), "inputs.text: is empty"},
      {Texts({"a\xff"}), ""},
      {bad_token, "inputs.token_ids: has token id 1048576"},
      {other, "gpt-9"},
      {Texts({"x", std::string(4097, 'x')}), "inputs: one has 4097 tokens, the context holds 4096"},
  };
  for (const auto& [request, message] : cases) {
    const absl::Status status = Embed(request).status();
    EXPECT_FALSE(status.ok()) << message;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(message));
  }
  EXPECT_TRUE(Embed(Texts({"x", std::string(4096, 'x')})).ok()) << "nothing has to follow an input";
  AwaitFreeKv();
}

TEST_F(EmbedTest, ADeadlineEndsItAndFreesItsKv) {
  v1::EmbedRequest request = Texts(std::vector<std::string>(32, std::string(4000, 'x')));
  EXPECT_EQ(Embed(request, absl::Milliseconds(20)).status().code(), absl::StatusCode::kDeadlineExceeded);
  AwaitFreeKv();
}

}  // namespace
}  // namespace berth::service
