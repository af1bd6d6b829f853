#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::HasSubstr;

class RelayAdmissionTest : public RelayTest {
 protected:
  GenerationRequest WithPriority(int priority) {
    GenerationRequest request = Request();
    request.spec.set_priority(priority);
    return request;
  }
};

TEST_F(RelayAdmissionTest, RequestsBeyondTheCreditWaitForAStreamToEnd) {
  Make(1);
  workers_.Attach("w0", 1, 7, /*credit=*/2);
  Running a = Run(Request()), b = Run(Request()), c = Run(Request());
  EXPECT_TRUE(c.worker.empty());
  EXPECT_EQ(relay_->waiting(), 1);
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_queue_depth{priority=\"normal\"} 1"));
  workers_.SendFinished("w0", a.submit.stream_id());
  FindSubmit(c);
  EXPECT_EQ(c.worker, "w0");
  EXPECT_EQ(relay_->waiting(), 0);
}

TEST_F(RelayAdmissionTest, MoreCreditLetsThemGo) {
  Make(1);
  workers_.Attach("w0", 1, 7, 0);
  Running a = Run(Request());
  EXPECT_TRUE(a.worker.empty());
  workers_.SendLoad("w0", FakeWorkers::Load(1));
  FindSubmit(a);
  EXPECT_EQ(a.worker, "w0");
}

TEST_F(RelayAdmissionTest, HigherPriorityGoesFirstAndNobodyOvertakesEquals) {
  Make(1);
  workers_.Attach("w0", 1, 7, 0);
  std::vector<Running> runs;
  for (int priority : {0, 5, -5, 5}) runs.push_back(Run(WithPriority(priority)));
  std::vector<int> order;
  for (int credit = 1; credit <= 4; ++credit) {
    workers_.SendLoad("w0", FakeWorkers::Load(credit));
    for (const v1::Submit& submit : workers_.TakeSubmits("w0")) order.push_back(submit.generation().priority());
  }
  EXPECT_EQ(order, (std::vector<int>{5, 5, 0, -5}));
}

TEST_F(RelayAdmissionTest, AFullQueueRefusesWithRetryInfo) {
  Make(1, {.max_waiting = 1});
  workers_.Attach("w0", 1, 7, 0);
  Running a = Run(Request()), b = Run(Request());
  EXPECT_FALSE(a.caller->ended());
  ASSERT_TRUE(b.caller->ended());
  EXPECT_EQ(b.caller->status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(rpc::RetryAfter(b.caller->status()).has_value());
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_shed_total{priority=\"normal\",reason=\"queue_full\"} 1"));
  Running c = Run(WithPriority(1));
  EXPECT_FALSE(c.caller->ended());
  EXPECT_EQ(rpc::Reason(a.caller->status()), "QUEUE_FULL") << "displaced by the higher priority";
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_shed_total{priority=\"normal\",reason=\"displaced\"} 1"));
}

TEST_F(RelayAdmissionTest, NobodyWaitsForEver) {
  Make(1, {.max_wait = absl::Seconds(2)});
  workers_.Attach("w0", 1, 7, 0);
  Running a = Run(Request());
  time_.Advance(absl::Seconds(1));
  workers_.SendLoad("w0", FakeWorkers::Load(0));
  EXPECT_FALSE(a.caller->ended());
  time_.Advance(absl::Seconds(1));
  ASSERT_TRUE(a.caller->ended());
  EXPECT_EQ(rpc::Reason(a.caller->status()), "QUEUE_TIMEOUT");
  EXPECT_EQ(relay_->waiting(), 0);
}

TEST_F(RelayAdmissionTest, AWaitingRequestCanBeCancelledAndAbandoned) {
  Make(1);
  workers_.Attach("w0", 1, 7, 0);
  Running a = Run(Request("", "a")), b = Run(Request("", "b"));
  v1::CancelRequest request;
  request.set_request_id("a");
  bool found = false;
  relay_->Cancel("t", request, [&](bool answer) { found = answer; });
  EXPECT_TRUE(found);
  EXPECT_EQ(a.caller->status().code(), absl::StatusCode::kCancelled);
  b.caller->Leave();
  EXPECT_EQ(relay_->waiting(), 0);
  workers_.SendLoad("w0", FakeWorkers::Load(8));
  EXPECT_TRUE(workers_.TakeSubmits("w0").empty());
}

TEST_F(RelayAdmissionTest, AnAbandonedRequestHoldsItsPlaceUntilTheWorkerSaysSo) {
  Make(1);
  workers_.Attach("w0", 1, 7, 1);
  Running a = Run(Request()), b = Run(Request());
  a.caller->Leave();
  FindSubmit(b);
  EXPECT_TRUE(b.worker.empty());
  workers_.SendError("w0", a.submit.stream_id(), absl::CancelledError("cancelled"));
  FindSubmit(b);
  EXPECT_EQ(b.worker, "w0");
}

TEST_F(RelayAdmissionTest, TheLimitIsSharedAmongGateways) {
  Make(1, {.max_streams = 4});
  workers_.Attach("w0");
  v1::LoadReport load = FakeWorkers::Load();
  load.set_attached_gateways(2);
  workers_.SendLoad("w0", load);
  Running a = Run(Request()), b = Run(Request()), c = Run(Request());
  EXPECT_FALSE(b.worker.empty());
  EXPECT_TRUE(c.worker.empty());
  workers_.SendFinished("w0", a.submit.stream_id());
  FindSubmit(c);
  EXPECT_FALSE(c.worker.empty());
}

TEST_F(RelayAdmissionTest, ATenantsTokensAreEstimatedAndCorrectedFromUsage) {
  MakeAttached(1);
  const auto limits = std::make_shared<const rpc::Tenant>(rpc::Tenant{.name = "t", .tokens_per_minute = 1000});
  GenerationRequest request = Request();
  request.limits = limits;
  request.spec.mutable_prompt()->set_text(std::string(400, 'x'));
  Running a = Run(request), b = Run(request);
  EXPECT_NEAR(relay_->RateLevels(*limits).tokens->remaining, 800, 2) << "bytes / 4 of both prompts";
  v1::StreamEvent finished;
  finished.set_stream_id(a.submit.stream_id());
  finished.mutable_finished()->mutable_usage()->set_prompt_tokens(350);
  finished.mutable_finished()->mutable_usage()->set_completion_tokens(50);
  workers_.SendEvent("w0", finished);
  EXPECT_NEAR(relay_->RateLevels(*limits).tokens->remaining, 500, 2);
  b.caller->Leave();
  EXPECT_NEAR(relay_->RateLevels(*limits).tokens->remaining, 600, 2) << "it had not begun";
  request.spec.mutable_prompt()->set_text(std::string(4000, 'x'));
  Running c = Run(request);
  ASSERT_TRUE(c.caller->ended());
  EXPECT_EQ(rpc::Reason(c.caller->status()), "RATE_LIMITED");
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_rate_limited_total{tenant=\"t\"} 1"));
}

TEST_F(RelayAdmissionTest, WhatWouldEndTooLateIsRefusedAtOnce) {
  Make(1);
  workers_.Attach("w0", 1, 7, /*credit=*/1);
  Running a = Run(Request());
  time_.Advance(absl::Seconds(1));
  workers_.SendFinished("w0", a.submit.stream_id());
  // Each takes a second, one after the other.
  const auto within = [&](absl::Duration left, int priority = 0) {
    GenerationRequest request = WithPriority(priority);
    request.deadline = time_.Monotonic() + left;
    return Run(std::move(request));
  };
  Running first = within(absl::Milliseconds(100));
  EXPECT_FALSE(first.worker.empty()) << "there is room: nobody guesses";
  Running second = within(absl::Seconds(4)), third = within(absl::Milliseconds(2900));
  EXPECT_FALSE(second.caller->ended());
  ASSERT_TRUE(third.caller->ended());
  EXPECT_EQ(rpc::Reason(third.caller->status()), "OVERLOADED");
  EXPECT_EQ(rpc::RetryAfter(third.caller->status()), absl::Seconds(2)) << "two that last a second";
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_shed_total{priority=\"normal\",reason=\"deadline\"} 1"));
  Running urgent = within(absl::Milliseconds(2900), 1);
  EXPECT_FALSE(urgent.caller->ended()) << "it goes before the second";
  // What waited too long to end in time does not take a worker's place.
  time_.Advance(absl::Milliseconds(1500));
  workers_.SendFinished("w0", first.submit.stream_id());
  FindSubmit(urgent);
  EXPECT_EQ(urgent.worker, "w0");
  EXPECT_FALSE(second.caller->ended()) << "it could be in time still, if it ran now";
  time_.Advance(absl::Milliseconds(900));
  workers_.SendFinished("w0", urgent.submit.stream_id());
  ASSERT_TRUE(second.caller->ended());
  EXPECT_EQ(rpc::Reason(second.caller->status()), "OVERLOADED");
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_shed_total{priority=\"normal\",reason=\"late\"} 1"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_shed_seconds_bucket{reason=\"deadline\",le=\"1e-05\"} 1"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_shed_seconds_bucket{reason=\"late\",le=\"0.1\"} 0"));
  EXPECT_TRUE(workers_.TakeSubmits("w0").empty());
}

TEST_F(RelayAdmissionTest, WaitsThatWereLongerThanExpectedAreExpectedAgain) {
  Make(1);
  workers_.Attach("w0", 1, 7, /*credit=*/1);
  Running a = Run(Request());
  time_.Advance(absl::Milliseconds(500));
  workers_.SendFinished("w0", a.submit.stream_id());
  Running b = Run(Request()), waits = Run(Request());
  EXPECT_TRUE(waits.worker.empty());
  time_.Advance(absl::Milliseconds(1500));
  workers_.SendFinished("w0", b.submit.stream_id());
  FindSubmit(waits);
  GenerationRequest request = Request();
  request.deadline = time_.Monotonic() + absl::Seconds(1);
  Running late = Run(std::move(request));
  ASSERT_TRUE(late.caller->ended());
  EXPECT_EQ(rpc::RetryAfter(late.caller->status()), absl::Seconds(2))
      << late.caller->status() << ": requests last 1 s; the wait of 1.5 s was to be one of 0.5 s";
}

TEST_F(RelayAdmissionTest, AFollowUpTurnWaitsForItsOwnWorkerAndLetsOthersPass) {
  Make(2);
  workers_.Attach("w0", 1, 7, 1);
  workers_.Attach("w1", 1, 7, 1);
  Running first = Run(InteractiveTurn("s"));
  Running waits = Run(InteractiveTurn("s~1"));
  EXPECT_TRUE(waits.worker.empty());
  EXPECT_EQ(relay_->waiting(), 1);
  Running other = Run(Request());
  EXPECT_NE(other.worker, first.worker);
  EXPECT_FALSE(other.worker.empty());
  workers_.SendFinished(first.worker, first.submit.stream_id());
  FindSubmit(waits);
  EXPECT_EQ(waits.worker, first.worker);
}

TEST_F(RelayAdmissionTest, AFullWorkersQueueKeepsNobodyFromAnIdleOne) {
  Make(2, {.max_waiting = 2});
  workers_.Attach("w0", 1, 7, 1);
  workers_.Attach("w1", 1, 7, 1);
  Running first = Run(InteractiveTurn("s"));
  std::vector<Running> waiting;
  for (const char* session : {"s~1", "s~2"}) {
    waiting.push_back(Run(InteractiveTurn(session)));
    EXPECT_EQ(waiting.back().worker, "");
  }
  Running other = Run(Request());
  EXPECT_EQ(other.worker, Other(first.worker)) << "nobody ahead can go there";
  Running refused = Run(Request());
  ASSERT_TRUE(refused.caller->ended());
  EXPECT_EQ(rpc::Reason(refused.caller->status()), "QUEUE_FULL");
  workers_.SendFinished(first.worker, first.submit.stream_id());
  FindSubmit(waiting[0]);
  EXPECT_EQ(waiting[0].submit.generation().session_id(), "s~1");
}

TEST_F(RelayAdmissionTest, ADrainingWorkersRoomGoesToWhoWaitsForIt) {
  Make(1);
  workers_.Attach("w0", 1, 7, 1);
  Running first = Run(InteractiveTurn("s"));
  Running waits = Run(InteractiveTurn("s~1"));
  EXPECT_EQ(waits.worker, "");
  v1::LoadReport load = FakeWorkers::Load(1);
  load.set_state(v1::WORKER_STATE_DRAINING);
  workers_.SendLoad("w0", load);
  workers_.SendFinished("w0", first.submit.stream_id());
  FindSubmit(waits);
  EXPECT_EQ(waits.worker, "w0") << "it keeps its sessions while it drains";
}

}  // namespace
}  // namespace berth::relay
