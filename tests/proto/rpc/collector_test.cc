#include "proto/rpc/collector.h"

#include <gtest/gtest.h>

namespace berth::rpc {
namespace {

TEST(CollectorTest, JoinsAStreamOfTwoChoices) {
  Collector collector;
  v1::StreamGenerateResponse message;
  message.set_request_id("r");
  message.mutable_started()->set_worker_id("w");
  collector.Add(message);
  for (int i = 0; i < 3; ++i) {
    for (int choice : {1, 0}) {
      v1::StreamGenerateResponse next;
      next.mutable_delta()->set_choice_index(choice);
      next.mutable_delta()->set_text(choice == 0 ? "a" : "b");
      next.mutable_delta()->add_token_ids(i);
      next.mutable_delta()->add_logprobs()->set_logprob(-i);
      collector.Add(next);
    }
  }
  v1::StreamGenerateResponse end;
  v1::Finished& finished = *end.mutable_finished();
  finished.add_choices()->set_choice_index(1);
  finished.mutable_choices(0)->set_reason(v1::FINISH_REASON_STOP_STRING);
  finished.mutable_choices(0)->set_matched_stop("!");
  finished.mutable_usage()->set_completion_tokens(6);
  finished.set_session_position(9);
  collector.Add(end);

  const v1::GenerateResponse& response = collector.response();
  EXPECT_EQ(response.request_id(), "r");
  EXPECT_EQ(response.started().worker_id(), "w");
  ASSERT_EQ(response.choices_size(), 2);
  EXPECT_EQ(response.choices(0).text(), "aaa");
  EXPECT_EQ(response.choices(1).text(), "bbb");
  EXPECT_EQ(response.choices(1).index(), 1);
  EXPECT_EQ(response.choices(1).token_ids_size(), 3);
  EXPECT_EQ(response.choices(1).logprobs_size(), 3);
  EXPECT_EQ(response.choices(1).finish_reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(response.choices(1).matched_stop(), "!");
  EXPECT_EQ(response.usage().completion_tokens(), 6);
  EXPECT_EQ(response.session_position(), 9);
}

TEST(CollectorTest, JoinsToolCallsAndReasoning) {
  Collector collector;
  for (const char* piece : {"{\"a\"", ":1}"}) {
    v1::StreamGenerateResponse next;
    v1::ToolCallDelta& call = *next.mutable_delta()->mutable_tool_call();
    call.set_index(1);
    if (*piece == '{') call.set_name("f");
    call.set_arguments_delta(piece);
    collector.Add(next);
  }
  v1::StreamGenerateResponse thought;
  thought.mutable_delta()->set_reasoning("hm");
  collector.Add(thought);
  const auto& choice = collector.response().choices(0);
  ASSERT_EQ(choice.tool_calls_size(), 2);
  EXPECT_EQ(choice.tool_calls(1).name(), "f");
  EXPECT_EQ(choice.tool_calls(1).arguments(), "{\"a\":1}");
  EXPECT_EQ(choice.reasoning(), "hm");
}

}  // namespace
}  // namespace berth::rpc
