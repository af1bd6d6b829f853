#include "gateway/http/error_body.h"

#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

nlohmann::json ErrorOf(const absl::Status& status) { return nlohmann::json::parse(ErrorBody(status))["error"]; }

TEST(ErrorBodyTest, HasTheFourFieldsOfOpenAi) {
  const auto error = ErrorOf(rpc::FieldError("sampling.temperature", "is 3, want 0 to 2"));
  EXPECT_EQ(error.size(), 4u);
  EXPECT_EQ(error["type"], "invalid_request_error");
  EXPECT_EQ(error["param"], "temperature");
  EXPECT_TRUE(error["code"].is_null());
  EXPECT_NE(std::string(error["message"]).find("is 3"), std::string::npos);
}

TEST(ErrorBodyTest, FieldsOfTheContractGetTheirNamesOverHttp) {
  EXPECT_EQ(ErrorOf(rpc::FieldError("sampling.choice_count", "x"))["param"], "n");
  EXPECT_EQ(ErrorOf(rpc::FieldError("stop.stop_strings", "x"))["param"], "stop");
  EXPECT_EQ(ErrorOf(rpc::FieldError("messages[0].role", "x"))["param"], "messages[0].role");
  EXPECT_TRUE(ErrorOf(absl::InternalError("x"))["param"].is_null());
}

TEST(ErrorBodyTest, MessagesNameFieldsAsTheEndpointDoes) {
  const auto message = [](const char* path, const char* field) {
    const std::string body = ErrorBody(rpc::FieldError(field, "is odd"), path);
    return nlohmann::json::parse(body)["error"]["message"].get<std::string>();
  };
  EXPECT_EQ(message("/v1/completions", "sampling.top_p"), "top_p: is odd");
  EXPECT_EQ(message("/v1/completions", "constraint"), "response_format: is odd");
  EXPECT_EQ(message("/v1/responses", "constraint"), "text.format: is odd");
  EXPECT_EQ(message("/generate", "prompt.token_ids"), "input_ids: is odd");
  EXPECT_EQ(message("/v1/completions", "prompt.token_ids"), "prompt: is odd");
  const std::string anthropic = AnthropicErrorBody(rpc::FieldError("stop.stop_strings", "is odd"));
  EXPECT_EQ(nlohmann::json::parse(anthropic)["error"]["message"], "stop_sequences: is odd");
}

TEST(ErrorBodyTest, ReasonsBecomeCodes) {
  const auto error = ErrorOf(rpc::ErrorWithReason(absl::StatusCode::kNotFound, "MODEL_NOT_FOUND", "no"));
  EXPECT_EQ(error["code"], "model_not_found");
}

TEST(ErrorBodyTest, StatusesFollowTheCanonicalTable) {
  EXPECT_EQ(HttpStatusOf(absl::InvalidArgumentError("")), 400);
  EXPECT_EQ(HttpStatusOf(absl::NotFoundError("")), 404);
  EXPECT_EQ(HttpStatusOf(absl::AbortedError("")), 409);
  EXPECT_EQ(HttpStatusOf(absl::ResourceExhaustedError("")), 429);
  EXPECT_EQ(HttpStatusOf(absl::UnavailableError("")), 503);
  EXPECT_EQ(HttpStatusOf(absl::DeadlineExceededError("")), 504);
  EXPECT_EQ(HttpStatusOf(absl::UnimplementedError("")), 501);
  EXPECT_EQ(ErrorOf(absl::ResourceExhaustedError("x"))["type"], "rate_limit_error");
  EXPECT_EQ(ErrorOf(absl::UnavailableError("x"))["type"], "server_error");
}

TEST(ErrorBodyTest, RetryAfterIsRoundedUpToSeconds) {
  EXPECT_EQ(RetryAfterSeconds(absl::UnavailableError("x")), 0);
  EXPECT_EQ(RetryAfterSeconds(rpc::WithRetryAfter(absl::ResourceExhaustedError("x"), absl::Milliseconds(100))), 1);
  EXPECT_EQ(RetryAfterSeconds(rpc::WithRetryAfter(absl::ResourceExhaustedError("x"), absl::Milliseconds(2500))), 3);
}

TEST(ErrorBodyTest, BrokenUtf8InAMessageStaysJson) {
  EXPECT_FALSE(nlohmann::json::parse(ErrorBody(absl::InternalError("\xff\xfe")), nullptr, false).is_discarded());
}

}  // namespace
}  // namespace berth::http
