#include "clients/cpp/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clients/cpp/async_client.h"
#include "tests/clients/cli/fake_server.h"

namespace berth::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerationSpec Spec(const std::string& text = "hello", const std::string& session = "") {
  v1::GenerationSpec spec;
  spec.set_session_id(session);
  spec.mutable_prompt()->mutable_chat()->add_messages()->set_content(text);
  return spec;
}

std::string Text(Client& client, const v1::GenerationSpec& spec) {
  std::string text;
  const absl::Status status = client.Generate(spec, [&](const auto& message) {
    EXPECT_TRUE(message.delta().token_ids().empty()) << "nobody asked for them";
    text += message.delta().text();
  });
  return status.ok() ? text : status.ToString();
}

TEST(ClientTest, AStreamThatBreaksGoesOnThroughTheNextGateway) {
  cli::FakeServer first, second;
  first.next_status = absl::UnavailableError("socket closed");
  first.breaks_later = true;
  const auto client = *Client::Make({.gateways = {first.address(), second.address()}});
  EXPECT_EQ(Text(*client, Spec("hello", "s")), "hello heard");
  ASSERT_EQ(second.specs.size(), 1u);
  const v1::GenerationSpec &before = first.specs[0], &after = second.specs[0];
  EXPECT_EQ(before.request_id(), after.request_id());
  EXPECT_EQ(before.sampling().seed(), after.sampling().seed());
  EXPECT_FALSE(before.has_resume());
  EXPECT_EQ(after.resume().next_seq(), 2u);
  EXPECT_THAT(after.resume().choices(0).token_ids(), ElementsAre(100));
  EXPECT_THAT(second.hints, ElementsAre("w/7"));
  EXPECT_EQ(Text(*client, Spec("hello", "s")), "hello heard");
  EXPECT_EQ(second.hints.back(), "w2/8") << "where the session ran last";
}

TEST(ClientTest, ARequestThatNobodyHeardOfIsSentAgain) {
  cli::FakeServer second;
  const auto client = *Client::Make({.gateways = {"127.0.0.1:1", second.address()}});
  EXPECT_EQ(Text(*client, Spec()), "hello heard");
  EXPECT_TRUE(second.specs[0].has_resume()) << "should it run already, this takes it over";
}

TEST(ClientTest, AnAsynchronousStreamGoesOn) {
  cli::FakeServer first, second;
  first.next_status = absl::UnavailableError("socket closed");
  first.breaks_later = true;
  rpc::Shard shard(std::make_unique<grpc::CompletionQueue>());
  AsyncClient client(*Gateways::Make({.gateways = {first.address(), second.address()}}), {}, shard);
  shard.Start();
  base::Notification ended;
  std::string text;
  absl::Status end;
  shard.Post([&] {
    client.Start(
        Spec(), absl::Seconds(20), [&](const auto& message) { text += message.delta().text(); },
        [&](const absl::Status& status) {
          end = status;
          ended.Notify();
        });
  });
  ended.Wait();
  shard.Stop();
  EXPECT_TRUE(end.ok()) << end;
  EXPECT_EQ(text, "hello heard");
}

TEST(ClientTest, AnotherErrorIsTheEnd) {
  cli::FakeServer server;
  server.next_status = absl::InvalidArgumentError("too hot");
  const auto client = server.Client();
  EXPECT_EQ(Text(*client, Spec()), "INVALID_ARGUMENT: too hot");
  EXPECT_EQ(server.specs.size(), 1u);
  EXPECT_FALSE(Client::Make({}).ok());
}

v1::StreamGenerateResponse Tokens(uint64_t seq, int first, std::initializer_list<int> ids) {
  v1::StreamGenerateResponse message;
  message.set_seq(seq);
  message.mutable_delta()->set_first_token_index(first);
  for (int id : ids) message.mutable_delta()->add_token_ids(id);
  return message;
}

class ProgressTest : public ::testing::Test {
 protected:
  absl::Status Take(v1::StreamGenerateResponse message) { return progress_.Take(message); }
  std::optional<absl::Duration> Retry(const absl::Status& status) { return progress_.Retry(status, /*gateways=*/2, random_); }

  absl::BitGen random_;
  Progress progress_{Spec(), {.attempts = 4}, random_, absl::UnixEpoch() + absl::Seconds(5)};
};

TEST_F(ProgressTest, WhatMustStayIsFixedBeforeTheFirstAttempt) {
  const v1::GenerationSpec& spec = progress_.request().generation();
  EXPECT_FALSE(spec.request_id().empty());
  EXPECT_TRUE(spec.sampling().has_seed());
  EXPECT_EQ(spec.template_clock().seconds(), 5);
}

TEST_F(ProgressTest, GapsAndDoublesAreErrors) {
  EXPECT_TRUE(Take(Tokens(0, 0, {1, 2})).ok());
  EXPECT_THAT(std::string(Take(Tokens(2, 2, {3})).message()), HasSubstr("message 2"));
  EXPECT_THAT(std::string(Take(Tokens(1, 1, {2})).message()), HasSubstr("want token 2"));
}

TEST_F(ProgressTest, EveryGatewayIsTriedBeforeItWaitsAndNotForEver) {
  const absl::Status broken = absl::UnavailableError("gone");
  EXPECT_EQ(Retry(broken), absl::ZeroDuration());
  EXPECT_GT(*Retry(broken), absl::ZeroDuration());
  EXPECT_TRUE(Take(Tokens(0, 0, {1})).ok());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Retry(broken).has_value()) << "a message begins the count anew";
  EXPECT_FALSE(Retry(broken).has_value());
}

TEST_F(ProgressTest, TheServerSaysHowLongToWait) {
  const absl::Status full = rpc::WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Seconds(3));
  EXPECT_GE(*Retry(full), absl::Seconds(3));
  EXPECT_FALSE(progress_.request().generation().has_resume()) << "it has not begun";
  EXPECT_FALSE(Retry(absl::ResourceExhaustedError("you are slow")).has_value());
}

}  // namespace
}  // namespace berth::client
