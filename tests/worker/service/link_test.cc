#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/test_worker.h"

namespace berth::service {
namespace {

using berth::testing::ChatSpec;
using berth::testing::Outcome;
using berth::testing::TestLink;
using berth::testing::TestWorker;

class LinkTest : public ::testing::Test {
 protected:
  // What gateway g1 says when its first link broke.
  v1::GatewayHello SecondHello() {
    v1::GatewayHello hello;
    hello.set_gateway_id("g1");
    hello.set_epoch(2);
    *hello.mutable_expected_incarnation() = worker_.Info().incarnation();
    return hello;
  }
  static v1::Reattach& AddReattach(int stream, const std::string& request_id, v1::AttachRequest& request) {
    v1::Reattach& reattach = *request.add_reattaches();
    reattach.set_stream_id(stream);
    reattach.set_request_id(request_id);
    reattach.set_tenant("tenant");
    return reattach;
  }

  TestWorker worker_;
};

TEST_F(LinkTest, HelloTellsWhoTheWorkerIs) {
  TestLink link(worker_, "g1", 7);
  ASSERT_TRUE(link.Next());
  EXPECT_EQ(link.hello.worker_id(), "worker-0");
  EXPECT_EQ(link.hello.epoch(), 7);
  ASSERT_EQ(link.hello.models_size(), 1);
  EXPECT_EQ(link.hello.models(0).name(), "sim");
  EXPECT_EQ(link.frame.load().state(), v1::WORKER_STATE_READY);
  EXPECT_GT(link.frame.load().submit_credit(), 0);
}

TEST_F(LinkTest, AnIdleLinkBeats) {
  TestLink link(worker_, "g1");
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(link.Next());
  EXPECT_EQ(link.frame.frame(), 4);
  EXPECT_EQ(link.frame.load().attached_gateways(), 1);
}

TEST_F(LinkTest, OneFramePerStepCarriesAllStreams) {
  TestLink link(worker_, "g1");
  for (int i = 1; i <= 8; ++i) link.Submit(i, ChatSpec("r" + std::to_string(i), "hello", 100, i));
  size_t most = 0;
  ASSERT_TRUE(link.Until([&] {
    most = std::max<size_t>(most, link.frame.events_size());
    return link.streams.size() == 8 &&
           std::all_of(link.streams.begin(), link.streams.end(), [](auto& s) { return s.second.over(); });
  }));
  EXPECT_GE(most, 8);
  for (int i = 1; i <= 8; ++i) {
    const Outcome& outcome = link.streams[i];
    EXPECT_TRUE(outcome.error.ok()) << outcome.error;
    EXPECT_EQ(outcome.tokens.at(0).size(), 100);
    EXPECT_EQ(outcome.text, worker_.Stream(ChatSpec("d" + std::to_string(i), "hello", 100, i)).text);
  }
}

TEST(LinkPaceTest, StepsThatCostTooMuchToSendGoTogether) {
  worker::WorkerOptions options = TestWorker::Options();
  // Whatever sending costs is too much, for 100 ms each time.
  options.link.merge_share = 1e-6;
  options.link.merge_time = absl::Milliseconds(100);
  TestWorker worker(options);
  TestLink link(worker, "g1");
  link.Submit(1, ChatSpec("r", "hello", 300));
  const Outcome& outcome = link.Await(1);
  EXPECT_EQ(outcome.tokens.at(0).size(), 300);
  EXPECT_LT(outcome.deltas, 150);
}

TEST_F(LinkTest, WithoutAcknowledgementsALinkFallsSilentThenCatchesUpInOneGo) {
  TestLink link(worker_, "g1");
  link.acknowledge = false;
  link.Submit(1, ChatSpec("r", "hello", 900));
  // It sends for 250 ms; then nothing more comes, also no heartbeat, until the acknowledgement.
  uint64_t before = 0;
  const absl::Time begin = absl::Now();
  while (absl::Now() - begin < absl::Milliseconds(240)) {
    ASSERT_TRUE(link.Next());
    before = link.frame.frame();
  }
  TestLink other(worker_, "g2");
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(other.Next());  // half a second of heartbeats
  EXPECT_LT(link.streams[1].tokens[0].size(), 900);
  link.Acknowledge();
  link.acknowledge = true;
  Outcome& outcome = link.Await(1);
  EXPECT_GT(before, 0);
  EXPECT_EQ(outcome.tokens.at(0).size(), 900);
  // The backlog came merged, not step by step.
  EXPECT_LT(outcome.deltas, 890);
  EXPECT_EQ(outcome.text, worker_.Stream(ChatSpec("d", "hello", 900)).text);
}

TEST_F(LinkTest, NoFrameIsLargerThanItsCap) {
  TestLink link(worker_, "g1");
  link.acknowledge = false;
  for (int i = 1; i <= 8; ++i) {
    v1::GenerationSpec spec = ChatSpec("r" + std::to_string(i), "hello", 400, i);
    spec.mutable_output()->set_top_logprobs(20);
    link.Submit(i, spec);
  }
  // Let a backlog of log-probabilities grow, then read on.
  TestLink other(worker_, "g2");
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(other.Next());
  link.acknowledge = true;
  size_t largest = 0, total = 0;
  ASSERT_TRUE(link.Until([&] {
    largest = std::max(largest, link.frame.ByteSizeLong());
    total += link.frame.ByteSizeLong();
    if (link.frame.frame() > 0) link.Acknowledge();
    return link.streams.size() == 8 &&
           std::all_of(link.streams.begin(), link.streams.end(), [](auto& s) { return s.second.over(); });
  }));
  EXPECT_LE(largest, (256 << 10) + 4096);
  EXPECT_GT(total, 512 << 10);
  for (auto& [id, outcome] : link.streams) EXPECT_EQ(outcome.logprobs.at(0), 400) << id;
}

TEST_F(LinkTest, ALargePromptComesInChunks) {
  worker::WorkerOptions options = TestWorker::Options();
  options.sim.max_length = 400000;
  options.sim.kv_blocks = 8000;
  TestWorker worker(options);
  v1::GenerationSpec spec = ChatSpec("r", std::string(300000, 'x'), 5);
  const std::string prompt = spec.prompt().SerializeAsString();
  TestLink link(worker, "g1");
  v1::AttachRequest submit;
  submit.add_submits()->set_stream_id(1);
  *submit.mutable_submits(0)->mutable_generation() = spec;
  submit.mutable_submits(0)->mutable_generation()->clear_prompt();
  submit.mutable_submits(0)->set_prompt_follows(true);
  link.Send(submit);
  constexpr size_t kChunk = 64 << 10;
  for (size_t at = 0; at < prompt.size(); at += kChunk) {
    v1::AttachRequest request;
    v1::PromptChunk& chunk = *request.add_prompt_chunks();
    chunk.set_stream_id(1);
    chunk.set_data(prompt.substr(at, kChunk));
    chunk.set_last(at + kChunk >= prompt.size());
    link.Send(request);
  }
  Outcome& outcome = link.Await(1);
  EXPECT_TRUE(outcome.error.ok()) << outcome.error;
  EXPECT_GT(outcome.started.prompt_tokens(), 300000);
  EXPECT_EQ(outcome.tokens.at(0).size(), 5);
}

TEST_F(LinkTest, BrokenChunksFailTheirStreamOnly) {
  TestLink link(worker_, "g1");
  v1::AttachRequest request;
  request.add_submits()->set_stream_id(1);
  request.mutable_submits(0)->set_prompt_follows(true);
  v1::PromptChunk& chunk = *request.add_prompt_chunks();
  chunk.set_stream_id(1);
  chunk.set_data("\xff\xff\xff");
  chunk.set_last(true);
  request.add_prompt_chunks()->set_stream_id(99);  // nobody's
  link.Send(request);
  EXPECT_EQ(link.Await(1).error.code(), absl::StatusCode::kInvalidArgument);
  link.Submit(2, ChatSpec("ok", "hello", 3));
  EXPECT_TRUE(link.Await(2).error.ok());
}

TEST_F(LinkTest, CancelsAreAnsweredAndFreeTheKv) {
  TestLink link(worker_, "g1");
  link.Submit(1, ChatSpec("r", "hello", 4000));
  ASSERT_TRUE(link.Until([&] { return link.streams[1].tokens[0].size() > 5; }));
  link.Cancel(1, "r");
  link.Cancel(44, "nobody");
  ASSERT_TRUE(link.Until([&] { return link.answers.size() == 2; }));
  EXPECT_TRUE(link.answers[0].found());
  EXPECT_FALSE(link.answers[1].found());
  Outcome& outcome = link.Await(1);
  EXPECT_EQ(outcome.finished.choices(0).reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_EQ(outcome.finished.usage().completion_tokens(), static_cast<int>(outcome.tokens[0].size()));
  ASSERT_TRUE(link.Until([&] { return link.frame.load().kv_blocks_used() == 0 && link.frame.load().running() == 0; }));
}

TEST_F(LinkTest, ATimeoutEndsTheStream) {
  TestLink link(worker_, "g1");
  link.Submit(1, ChatSpec("r", "hello", 4000), absl::Milliseconds(80));
  Outcome& outcome = link.Await(1);
  ASSERT_TRUE(outcome.has_finished) << outcome.error;
  EXPECT_EQ(outcome.finished.choices(0).reason(), v1::FINISH_REASON_DEADLINE);
  link.Submit(2, ChatSpec("late", "hello", 40), absl::Nanoseconds(1));
  EXPECT_EQ(link.Await(2).error.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(LinkTest, BeyondItsCreditALinkIsRefused) {
  worker::WorkerOptions options = TestWorker::Options();
  options.sim.slots = 2;
  TestWorker worker(options);
  TestLink link(worker, "g1");
  ASSERT_TRUE(link.Next());
  const int credit = link.frame.load().submit_credit();
  for (int i = 1; i <= credit + 1; ++i) link.Submit(i, ChatSpec("r" + std::to_string(i), "hello", 4000));
  Outcome& refused = link.Await(credit + 1);
  EXPECT_EQ(rpc::Reason(refused.error), "OVERLOADED");
  EXPECT_TRUE(rpc::RetryAfter(refused.error).has_value());
  EXPECT_FALSE(link.streams[1].over());
}

TEST_F(LinkTest, ProtocolErrorsEndTheLinkWithAReason) {
  TestLink no_hello(worker_, v1::GatewayHello());
  EXPECT_EQ(no_hello.End().code(), absl::StatusCode::kInvalidArgument);

  v1::GatewayHello stranger;
  stranger.set_gateway_id("g1");
  stranger.mutable_expected_incarnation()->set_start_time_micros(12345);
  TestLink other_incarnation(worker_, stranger);
  EXPECT_EQ(rpc::Reason(other_incarnation.End()), "OTHER_INCARNATION");

  TestLink twice(worker_, "g2");
  twice.Submit(5, ChatSpec("a", "hello", 4000));
  twice.Submit(5, ChatSpec("b", "hello", 4000));
  EXPECT_EQ(twice.End().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LinkTest, ANewerLinkReplacesTheOlderAndAnOlderIsRefused) {
  TestLink first(worker_, "g1", 3);
  ASSERT_TRUE(first.Next());
  TestLink stale(worker_, "g1", 2);
  EXPECT_EQ(rpc::Reason(stale.End()), "STALE_EPOCH");
  TestLink second(worker_, "g1", 4);
  ASSERT_TRUE(second.Next());
  EXPECT_EQ(rpc::Reason(first.End()), "LINK_REPLACED");
  EXPECT_EQ(second.frame.load().attached_gateways(), 1);
}

// A link breaks at any point of a stream; the next one gets exactly what is missing.
TEST_F(LinkTest, AReattachContinuesWhereTheGatewayStands) {
  v1::GenerationSpec spec = ChatSpec("parked", "hello", 600, 9);
  spec.mutable_sampling()->set_choice_count(2);
  spec.mutable_stop()->add_stop_strings("never to be seen");
  Outcome got;
  {
    TestLink link(worker_, "g1", 1);
    link.Submit(1, spec);
    ASSERT_TRUE(link.Until([&] { return link.streams[1].tokens[1].size() > 20; }));
    got = link.streams[1];
    link.Break();
  }
  TestLink link(worker_, SecondHello());
  v1::AttachRequest request;
  v1::Reattach& reattach = AddReattach(12, "parked", request);
  for (int i = 0; i < 2; ++i) {
    reattach.add_received_tokens(static_cast<int>(got.tokens[i].size()));
    link.streams[12].skipped[i] = static_cast<int>(got.tokens[i].size());
  }
  AddReattach(13, "other", request);
  link.Send(request);
  EXPECT_EQ(rpc::Reason(link.Await(13).error), "NOT_PARKED");
  Outcome& rest = link.Await(12);
  EXPECT_TRUE(rest.reattached);
  EXPECT_FALSE(rest.has_started);
  spec.set_request_id("undisturbed");
  const Outcome whole = worker_.Stream(spec);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(got.text[i] + rest.text[i], whole.text.at(i)) << "choice " << i;
}

TEST_F(LinkTest, AReattachGoesOnInThePromptsLogprobs) {
  v1::GenerationSpec spec = ChatSpec("parked", std::string(500, 'x'), 600, 9);
  spec.mutable_output()->set_top_logprobs(1);
  spec.mutable_output()->set_prompt_logprobs(true);
  {
    TestLink link(worker_, "g1", 1);
    link.Submit(1, spec);
    ASSERT_TRUE(link.Until([&] { return link.streams[1].tokens[0].size() > 5; }));
    EXPECT_EQ(link.streams[1].prompt_logprobs, link.streams[1].started.prompt_tokens());
    link.Break();
  }
  TestLink link(worker_, SecondHello());
  v1::AttachRequest request;
  v1::Reattach& reattach = AddReattach(12, "parked", request);
  reattach.set_received_prompt_logprobs(100);
  link.Send(request);
  Outcome& rest = link.Await(12);
  ASSERT_TRUE(rest.error.ok()) << rest.error;
  EXPECT_EQ(rest.prompt_logprobs, rest.finished.usage().prompt_tokens() - 100);
  EXPECT_EQ(rest.tokens.at(0).size(), 600u);
}

TEST_F(LinkTest, AGatewayThatGaveItsStreamsUpMaySubmitThemAnew) {
  {
    TestLink link(worker_, "g1", 1);
    link.Submit(1, ChatSpec("again", "hello", 3000));
    ASSERT_TRUE(link.Until([&] { return link.streams[1].tokens[0].size() > 3; }));
  }
  TestLink link(worker_, "g1", 2);
  link.Submit(1, ChatSpec("again", "hello", 5));
  EXPECT_EQ(link.Await(1).tokens[0].size(), 5);
}

TEST_F(LinkTest, OnlyTheGatewayThatLostAStreamMayTakeItUp) {
  TestLink link(worker_, "g1", 1);
  link.Submit(1, ChatSpec("mine", "hello", 3000));
  ASSERT_TRUE(link.Until([&] { return link.streams[1].tokens[0].size() > 3; }));
  TestLink thief(worker_, "g2", 1);
  v1::AttachRequest request;
  AddReattach(1, "mine", request);
  thief.Send(request);
  EXPECT_EQ(rpc::Reason(thief.Await(1).error), "NOT_PARKED");
}

TEST_F(LinkTest, TenantsDoNotSeeEachOther) {
  TestLink link(worker_, "g1");
  link.Submit(1, ChatSpec("r", "hello", 3000));
  ASSERT_TRUE(link.Until([&] { return link.streams[1].has_started; }));
  v1::AttachRequest request;
  request.add_cancels()->set_request_id("r");
  request.mutable_cancels(0)->set_tenant("another");
  link.Send(request);
  ASSERT_TRUE(link.Until([&] { return link.answers.size() == 1; }));
  EXPECT_FALSE(link.answers[0].found());
}

TEST_F(LinkTest, RequestsThatEndAtOnceAreAnswered) {
  TestLink link(worker_, "g1");
  v1::GenerationSpec bad = ChatSpec("bad", "hello", 10);
  bad.mutable_sampling()->set_top_p(7);
  link.Submit(1, bad);
  EXPECT_EQ(link.Await(1).error.code(), absl::StatusCode::kInvalidArgument);
  link.Submit(2, ChatSpec("one", "hello", 1));
  EXPECT_EQ(link.Await(2).tokens.at(0).size(), 1);
}

}  // namespace
}  // namespace berth::service
