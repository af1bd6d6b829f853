#include "clients/cli/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/clients/cli/fake_server.h"

namespace berth::cli {
namespace {

std::string Answer(Conversation& conversation, const std::string& text) {
  std::string answer;
  const absl::Status status = conversation.Ask(text, [&](const auto& message) { answer += TextOf(message); });
  return status.ok() ? answer : status.ToString();
}

TEST(ConversationTest, TurnsOfOneSession) {
  FakeServer server;
  ConversationOptions options{.model = "m", .system = "be brief"};
  options.generation.mutable_sampling()->set_seed(7);
  options.generation.mutable_stop()->set_max_tokens(5);
  const auto client = server.Client();
  Conversation conversation(*client, options);
  EXPECT_EQ(Answer(conversation, "a"), "a heard");
  EXPECT_EQ(Answer(conversation, "b"), "b heard");
  ASSERT_EQ(server.specs.size(), 2u);
  const v1::GenerationSpec &first = server.specs[0], &second = server.specs[1];
  EXPECT_EQ(first.model(), "m");
  EXPECT_EQ(first.sampling().seed(), 7u);
  EXPECT_EQ(first.stop().max_tokens(), 5);
  EXPECT_EQ(first.session().mode(), v1::SESSION_MODE_INTERACTIVE);
  EXPECT_TRUE(first.session().start());
  EXPECT_FALSE(second.session().start());
  EXPECT_FALSE(second.session().replace());
  EXPECT_FALSE(first.session_id().empty());
  EXPECT_EQ(first.session_id(), second.session_id());
  EXPECT_NE(first.request_id(), second.request_id());
  // The server keeps the history: a later turn carries the new message only.
  ASSERT_EQ(first.prompt().chat().messages_size(), 2);
  EXPECT_EQ(first.prompt().chat().messages(0).role(), "system");
  EXPECT_EQ(first.prompt().chat().messages(0).content(), "be brief");
  ASSERT_EQ(second.prompt().chat().messages_size(), 1);
  EXPECT_EQ(second.prompt().chat().messages(0).content(), "b");
}

TEST(ConversationTest, CloseFreesTheSessionAndTheNextTurnOpensAnother) {
  FakeServer server;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  EXPECT_TRUE(conversation.Close().ok());
  EXPECT_TRUE(server.closed.empty());
  Answer(conversation, "a");
  EXPECT_TRUE(conversation.Close().ok());
  EXPECT_THAT(server.closed, testing::ElementsAre(server.specs[0].session_id()));
  Answer(conversation, "b");
  EXPECT_TRUE(server.specs[1].session().start());
  EXPECT_NE(server.specs[1].session_id(), server.specs[0].session_id());
}

TEST(ConversationTest, AFirstTurnThatFailsIsTakenAgain) {
  FakeServer server;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  server.next_status = absl::ResourceExhaustedError("full");
  EXPECT_EQ(Answer(conversation, "a"), "RESOURCE_EXHAUSTED: full");
  EXPECT_EQ(Answer(conversation, "a"), "a heard");
  EXPECT_TRUE(server.specs[1].session().start());
  EXPECT_TRUE(server.specs[1].session().replace());
}

TEST(ConversationTest, ALostSessionIsReplacedByAnother) {
  FakeServer server;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  Answer(conversation, "a");
  server.next_status = rpc::ErrorWithReason(absl::StatusCode::kFailedPrecondition, "SESSION_NOT_FOUND", "it expired");
  EXPECT_THAT(Answer(conversation, "b"), testing::HasSubstr("it expired"));
  EXPECT_EQ(Answer(conversation, "c"), "c heard");
  EXPECT_TRUE(server.specs[2].session().start());
  EXPECT_NE(server.specs[2].session_id(), server.specs[0].session_id());
}

TEST(ConversationTest, InterruptEndsTheAnswerAndKeepsTheSession) {
  FakeServer server;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  EXPECT_FALSE(conversation.Interrupt());
  std::string answer;
  const absl::Status status = conversation.Ask("forever", [&](const v1::StreamGenerateResponse& message) {
    if (!message.has_delta()) return;
    answer += TextOf(message);
    EXPECT_TRUE(conversation.Interrupt());
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(answer, "forever");
  EXPECT_FALSE(conversation.Interrupt());
  EXPECT_EQ(Answer(conversation, "b"), "b heard");
  EXPECT_FALSE(server.specs[1].session().start());
}

TEST(ConversationTest, InterruptEndsTheStreamWhenTheServerKnowsNoSuchRequest) {
  FakeServer server;
  server.cancel_finds = false;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  const absl::Status status = conversation.Ask("forever", [&](const auto& message) {
    if (message.has_delta()) conversation.Interrupt();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST(ConversationTest, ASecondInterruptEndsTheStreamWhateverTheServerDoes) {
  FakeServer server;
  server.cancel_ends = false;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  const absl::Status status = conversation.Ask("forever", [&](const auto& message) {
    if (!message.has_delta()) return;
    EXPECT_TRUE(conversation.Interrupt());
    EXPECT_TRUE(conversation.Interrupt());
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST(ConversationTest, APersonDoesNotWaitLongForWhatTheServerDoesOnItsOwn) {
  FakeServer server;
  const auto client = server.Client();
  Conversation conversation(*client, {});
  const absl::Status status = conversation.Ask("forever", [&](const auto& message) {
    if (message.has_delta()) conversation.Interrupt();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(conversation.Close().ok());
  EXPECT_LE(server.cancel_time, absl::Seconds(2));
  EXPECT_LE(server.close_time, absl::Seconds(3));
}

TEST(ConversationTest, NoServerIsAnError) {
  const auto client = *client::Client::Make({.gateways = {"127.0.0.1:1"}, .retry = {.attempts = 2}});
  Conversation conversation(*client, {});
  EXPECT_THAT(Answer(conversation, "a"), testing::StartsWith("UNAVAILABLE"));
}

}  // namespace
}  // namespace berth::cli
