#include "proto/rpc/status.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::rpc {
namespace {

TEST(Status, DetailsSurviveGrpc) {
  absl::Status status =
      ErrorWithReason(absl::StatusCode::kResourceExhausted, "SLOW_CLIENT", "too slow", {{"pending", "65537"}});
  status = WithRetryAfter(status, absl::Milliseconds(1250));
  const absl::Status back = FromGrpc(ToGrpc(status));
  EXPECT_EQ(back.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(back.message(), "too slow");
  EXPECT_EQ(Reason(back), "SLOW_CLIENT");
  EXPECT_EQ(RetryAfter(back), absl::Milliseconds(1250));
}

TEST(Status, FieldErrorsNameTheField) {
  const absl::Status back = FromProto(ToProto(FieldError("sampling.temperature", "is NaN, want 0 … 2")));
  EXPECT_EQ(back.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(back.message(), "sampling.temperature: is NaN, want 0 … 2");
  EXPECT_THAT(FieldViolations(back), testing::ElementsAre(testing::Pair("sampling.temperature", "is NaN, want 0 … 2")));
}

TEST(Status, PlainErrorsHaveNoDetails) {
  const absl::Status back = FromGrpc(ToGrpc(absl::NotFoundError("no model x")));
  EXPECT_EQ(back, absl::NotFoundError("no model x"));
  EXPECT_EQ(Reason(back), "");
  EXPECT_EQ(RetryAfter(back), std::nullopt);
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
}

TEST(Status, BrokenDetailsOfAPeerAreIgnored) {
  const absl::Status back = FromGrpc(grpc::Status(grpc::StatusCode::ABORTED, "busy", "\xff\xff not a proto"));
  EXPECT_EQ(back, absl::AbortedError("busy"));
}

TEST(Status, HttpCodes) {
  EXPECT_EQ(HttpCode(absl::StatusCode::kInvalidArgument), 400);
  EXPECT_EQ(HttpCode(absl::StatusCode::kNotFound), 404);
  EXPECT_EQ(HttpCode(absl::StatusCode::kResourceExhausted), 429);
  EXPECT_EQ(HttpCode(absl::StatusCode::kUnavailable), 503);
  EXPECT_EQ(HttpCode(absl::StatusCode::kInternal), 500);
}

}  // namespace
}  // namespace berth::rpc
