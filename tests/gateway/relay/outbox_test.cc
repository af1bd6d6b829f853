#include "gateway/relay/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace berth::relay {
namespace {

using ::testing::ElementsAre;

v1::StreamGenerateResponse Token(int index, const std::string& text, int choice = 0) {
  v1::StreamGenerateResponse message;
  v1::Delta& delta = *message.mutable_delta();
  delta.set_choice_index(choice);
  delta.add_token_ids(100 + index);
  delta.set_first_token_index(index);
  if (!text.empty()) delta.set_text(text);
  return message;
}

v1::StreamGenerateResponse Started() {
  v1::StreamGenerateResponse message;
  message.mutable_started();
  return message;
}

TEST(OutboxTest, MessagesAreNumberedAsTheyAreTaken) {
  Outbox outbox(5);
  outbox.Push(Started());
  outbox.Push(Token(0, "a"));
  EXPECT_EQ(outbox.end_seq(), 7u);
  EXPECT_EQ(outbox.Take()->message->seq(), 5u);
  EXPECT_EQ(outbox.Take()->message->seq(), 6u);
  EXPECT_FALSE(outbox.Take().has_value());
  EXPECT_EQ(outbox.next_seq(), 7u);
}

TEST(OutboxTest, SaysWhetherAnotherMessageOrTheEndIsThere) {
  Outbox outbox(0);
  outbox.Push(Started());
  outbox.Push(Token(0, "a"));
  EXPECT_TRUE(outbox.Take()->more);
  EXPECT_FALSE(outbox.Take()->more);
  outbox.Push(Token(1, "b"));
  outbox.End(absl::OkStatus());
  EXPECT_TRUE(outbox.Take()->more);
  EXPECT_FALSE(outbox.Take()->more);
}

TEST(OutboxTest, UntakenDeltasMergeIntoOne) {
  Outbox outbox(0);
  outbox.Push(Token(0, "a"));
  outbox.Push(Token(1, ""));
  outbox.Push(Token(2, "c"));
  const auto item = outbox.Take();
  EXPECT_EQ(item->message->delta().text(), "ac");
  EXPECT_THAT(item->message->delta().token_ids(), ElementsAre(100, 101, 102));
  EXPECT_EQ(item->message->delta().first_token_index(), 0);
  EXPECT_EQ(outbox.pending_bytes(), 0u);
  EXPECT_FALSE(outbox.has_pending());
}

// They come in pieces that fit a message, and a caller who has not taken a long prompt's yet is not slow.
TEST(OutboxTest, APromptsLogprobsStayInPiecesAndDoNotCountAsUnread) {
  Outbox outbox(0);
  v1::StreamGenerateResponse piece;
  piece.mutable_delta()->add_prompt_logprobs()->set_logprob(-1);
  outbox.Push(piece);
  outbox.Push(piece);
  EXPECT_EQ(outbox.pending_bytes(), 0u);
  outbox.Push(Token(0, "a"));
  EXPECT_GT(outbox.pending_bytes(), 0u);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(outbox.Take()->message->delta().prompt_logprobs_size(), 1);
  EXPECT_EQ(outbox.Take()->message->delta().text(), "a");
}

TEST(OutboxTest, ChoicesMergeEachForItself) {
  Outbox outbox(0);
  for (int i = 0; i < 3; ++i) {
    outbox.Push(Token(i, "a", 0));
    outbox.Push(Token(i, "b", 1));
  }
  EXPECT_EQ(outbox.Take()->message->delta().text(), "aaa");
  EXPECT_EQ(outbox.Take()->message->delta().text(), "bbb");
  EXPECT_FALSE(outbox.has_pending());
}

TEST(OutboxTest, NothingMergesOverAnotherMessage) {
  Outbox outbox(0);
  outbox.Push(Token(0, "a"));
  outbox.Push(Started());
  outbox.Push(Token(1, "b"));
  EXPECT_EQ(outbox.Take()->message->delta().text(), "a");
  EXPECT_TRUE(outbox.Take()->message->has_started());
  EXPECT_EQ(outbox.Take()->message->delta().text(), "b");
}

TEST(OutboxTest, TheEndComesAfterWhatIsPendingAndOnce) {
  Outbox outbox(0);
  outbox.Push(Token(0, "a"));
  outbox.End(absl::InternalError("x"));
  EXPECT_TRUE(outbox.ended());
  EXPECT_TRUE(outbox.Take()->message.has_value());
  EXPECT_EQ(outbox.Take()->end->code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(outbox.Take().has_value());
}

TEST(OutboxTest, PendingBytesGrowWithWhatIsMerged) {
  Outbox outbox(0);
  outbox.Push(Token(0, std::string(1000, 'x')));
  outbox.Push(Token(1, std::string(1000, 'x')));
  EXPECT_GT(outbox.pending_bytes(), 2000u);
}

TEST(OutboxTest, WhatWasTakenDoesNotCountAsPending) {
  Outbox outbox(0);
  outbox.Push(Token(0, "a", 0));
  outbox.Push(Token(0, "b", 1));
  const size_t two = outbox.pending_bytes();
  for (int i = 1; i < 100; ++i) {
    ASSERT_TRUE(outbox.Take()->message.has_value());
    outbox.Push(Token(0, "c", i % 2 == 0));
    EXPECT_LE(outbox.pending_bytes(), two + 4) << i;
  }
}

TEST(OutboxTest, AMergeAddsWhatItAppends) {
  Outbox outbox(0);
  for (int i = 0; i < 1000; ++i) outbox.Push(Token(i, "x", 1));
  const size_t counted = outbox.pending_bytes(), real = outbox.Take()->message->ByteSizeLong();
  EXPECT_GE(counted, real);
  EXPECT_LE(counted, 3 * real);
}

TEST(MergeDeltaTest, ReasoningAndTextStayApart) {
  v1::Delta delta, next;
  delta.set_reasoning("hm");
  next.set_text("yes");
  EXPECT_FALSE(MergeDelta(delta, next));
  next.set_reasoning(", so");
  EXPECT_TRUE(MergeDelta(delta, next));
  EXPECT_EQ(delta.reasoning(), "hm, so");
}

TEST(MergeDeltaTest, ToolCallsMergeByTheirIndex) {
  v1::Delta delta, next;
  delta.mutable_tool_call()->set_id("call");
  delta.mutable_tool_call()->set_arguments_delta("{");
  next.mutable_tool_call()->set_arguments_delta("}");
  EXPECT_TRUE(MergeDelta(delta, next));
  EXPECT_EQ(delta.tool_call().id(), "call");
  EXPECT_EQ(delta.tool_call().arguments_delta(), "{}");
  next.mutable_tool_call()->set_index(1);
  EXPECT_FALSE(MergeDelta(delta, next));
}

TEST(MergeDeltaTest, LogprobsAreAppended) {
  v1::Delta delta, next;
  delta.add_logprobs()->set_logprob(-1);
  next.add_logprobs()->set_logprob(-2);
  ASSERT_TRUE(MergeDelta(delta, next));
  ASSERT_EQ(delta.logprobs_size(), 2);
  EXPECT_EQ(delta.logprobs(1).logprob(), -2);
}

}  // namespace
}  // namespace berth::relay
