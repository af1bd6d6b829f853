#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using RelayFailoverTest = RelayTest;

TEST_F(RelayFailoverTest, AnotherWorkerGoesOnWithUnbrokenNumbering) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  const std::string lost = run.worker, next = Other(lost);
  const uint64_t seed = run.submit.generation().sampling().seed();
  workers_.SendStarted(lost, run.submit.stream_id());
  workers_.SendToken(lost, run.submit.stream_id(), 0, "a");
  workers_.SendToken(lost, run.submit.stream_id(), 1, "b");
  Kill(lost);
  EXPECT_FALSE(run.caller->ended());
  FindSubmit(run);
  ASSERT_EQ(run.worker, next);
  const v1::GenerationSpec& spec = run.submit.generation();
  EXPECT_EQ(spec.sampling().seed(), seed);
  EXPECT_THAT(spec.resume().choices(0).token_ids(), ElementsAre(1000, 1001));
  EXPECT_EQ(spec.resume().model_fingerprint(), 7u);
  EXPECT_THAT(run.submit.lost_holders(), ElementsAre(lost + "/99"));
  EXPECT_EQ(run.submit.affinity(), v1::AFFINITY_REBIND);
  EXPECT_FALSE(run.submit.suspect());
  workers_.SendStarted(next, run.submit.stream_id());
  workers_.SendToken(next, run.submit.stream_id(), 2, "c");
  workers_.SendFinished(next, run.submit.stream_id());
  EXPECT_TRUE(run.caller->status().ok());
  EXPECT_EQ(run.caller->text(), "abc");
  ASSERT_NE(run.caller->resumed(), nullptr);
  EXPECT_EQ(run.caller->resumed()->replayed_tokens(), 2);
  for (size_t i = 0; i < run.caller->messages().size(); ++i) EXPECT_EQ(run.caller->messages()[i].seq(), i);
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_failovers_total{phase=\"mid_stream\",result=\"ok\"} 1"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_affinity_moves_total{reason=\"death\"} 1"));
}

TEST_F(RelayFailoverTest, ACancelledRequestEndsWithItsWorker) {
  MakeAttached(2);
  const auto cancelled = [&] {
    Running run = Run(Request("s", "r1"));
    workers_.SendToken(run.worker, run.submit.stream_id(), 0, "a");
    v1::CancelRequest request;
    request.set_request_id("r1");
    relay_->Cancel("t", request, [](bool found) { EXPECT_TRUE(found); });
    EXPECT_FALSE(run.caller->ended()) << "its worker is to end it";
    return run;
  };
  const auto expect_over = [&](Running& run, const char* what) {
    FindSubmit(run);
    EXPECT_EQ(run.worker, "") << what;
    ASSERT_TRUE(run.caller->ended()) << what;
    EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kCancelled) << what;
    EXPECT_EQ(run.caller->text(), "a");
  };
  Running run = cancelled();
  workers_.SendError(run.worker, run.submit.stream_id(),
                     rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the worker is draining"));
  expect_over(run, "handed over");
  run = cancelled();
  Kill(run.worker);
  expect_over(run, "lost");
}

TEST_F(RelayFailoverTest, OthersDoNotNotice) {
  MakeAttached(2);
  Running a = Run(Request("s"));
  Running b;
  for (int i = 0; b.worker.empty() || b.worker == a.worker; ++i) b = Run(Request("t" + std::to_string(i)));
  Kill(a.worker);
  workers_.SendToken(b.worker, b.submit.stream_id(), 0, "still here");
  EXPECT_EQ(b.caller->text(), "still here");
}

TEST_F(RelayFailoverTest, WithoutAnotherWorkerTheStreamIsLostWithItsLastNumber) {
  MakeAttached(1);
  Running run = Run(Request());
  workers_.SendStarted("w0", run.submit.stream_id());
  workers_.SendToken("w0", run.submit.stream_id(), 0, "a");
  Kill("w0");
  ASSERT_TRUE(run.caller->ended());
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "WORKER_LOST");
  EXPECT_EQ(run.caller->text(), "a");
  EXPECT_EQ(relay_->open_streams(), 0);
  EXPECT_EQ(OpenStreams(), 0);
}

TEST_F(RelayFailoverTest, OnlyAnEqualFingerprintGoesOn) {
  Make(2);
  workers_.Attach("w0", 1, /*fingerprint=*/7);
  workers_.Attach("w1", 1, /*fingerprint=*/8);
  Running run = Run(Request("s"));
  workers_.SendStarted(run.worker, run.submit.stream_id(), run.worker == "w0" ? 7 : 8);
  Kill(run.worker);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "WORKER_LOST");
}

TEST_F(RelayFailoverTest, AtMostTwoFailovers) {
  MakeAttached(4);
  Running run = Run(Request("s"));
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(run.caller->ended());
    workers_.SendStarted(run.worker, run.submit.stream_id());
    workers_.SendToken(run.worker, run.submit.stream_id(), i, "x");
    const std::string lost = run.worker;
    Kill(lost);
    FindSubmit(run);
  }
  EXPECT_EQ(rpc::Reason(run.caller->status()), "WORKER_LOST");
  EXPECT_EQ(run.caller->text(), "xxx");
}

TEST_F(RelayFailoverTest, ARequestThatMayHaveKilledTwoWorkersEnds) {
  MakeAttached(3);
  Running run = Run(Request("s"));
  Kill(run.worker);
  FindSubmit(run);
  EXPECT_TRUE(run.submit.suspect());
  EXPECT_FALSE(run.submit.generation().has_resume());
  Kill(run.worker);
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "REQUEST_SUSPECT");
}

TEST_F(RelayFailoverTest, TwoDeathsInTheFirstStepOfAnAttemptAreSuspectMidStreamToo) {
  MakeAttached(4, {.max_failovers = 9});
  Running run = Run(Request("s"));
  workers_.SendStarted(run.worker, run.submit.stream_id());
  workers_.SendToken(run.worker, run.submit.stream_id(), 0, "a");
  Kill(run.worker);
  FindSubmit(run);
  EXPECT_FALSE(run.submit.suspect()) << "its first step had gone well";
  Kill(run.worker);
  FindSubmit(run);
  EXPECT_TRUE(run.submit.suspect());
  Kill(run.worker);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "REQUEST_SUSPECT");
}

TEST_F(RelayFailoverTest, SuspectsAreTriedOneAtATimeSoThatOnlyTheCulpritEnds) {
  MakeAttached(2);
  std::vector<Running> runs;
  std::string first;
  for (int i = 0; runs.size() < 3; ++i) {
    Running run = Run(Request("s" + std::to_string(i)));
    if (first.empty()) first = run.worker;
    if (run.worker == first) runs.push_back(std::move(run));
  }
  const std::string next = Other(first);
  workers_.TakeWritten(next);
  Kill(first);
  std::vector<v1::Submit> tried = workers_.TakeSubmits(next);
  ASSERT_EQ(tried.size(), 1u);
  EXPECT_TRUE(tried[0].suspect());
  workers_.SendStarted(next, tried[0].stream_id());
  tried = workers_.TakeSubmits(next);
  ASSERT_EQ(tried.size(), 1u) << "once the first step of the one is done, the next is tried";
  workers_.SendError(next, tried[0].stream_id(), absl::InvalidArgumentError("refused"));
  tried = workers_.TakeSubmits(next);
  ASSERT_EQ(tried.size(), 1u);
  time_.Advance(absl::Milliseconds(150));
  workers_.Attach(first, 2);
  workers_.TakeWritten(first);
  Kill(next);
  int suspects = 0;
  for (const Running& run : runs) {
    suspects += run.caller->ended() && rpc::Reason(run.caller->status()) == "REQUEST_SUSPECT";
  }
  EXPECT_EQ(suspects, 1) << "the one whose first step it was";
  EXPECT_EQ(workers_.TakeSubmits(first).size(), 1u) << "the one that had started goes on";
}

TEST_F(RelayFailoverTest, AStreamThatHasBegunDoesNotQueueBehindThoseThatHaveNot) {
  Make(2);
  workers_.Attach("w0", 1, 7, /*credit=*/1);
  workers_.Attach("w1", 1, 7, /*credit=*/1);
  for (const char* worker : {"w0", "w1"}) workers_.TakeWritten(worker);
  Running a = Run(Request("a")), b = Run(Request("b")), waiting = Run(Request("c"));
  ASSERT_EQ(waiting.worker, "");
  workers_.SendStarted(a.worker, a.submit.stream_id());
  const std::string next = b.worker;
  Kill(a.worker);
  workers_.SendFinished(next, b.submit.stream_id());
  FindSubmit(a);
  EXPECT_EQ(a.worker, next);
  EXPECT_TRUE(a.submit.generation().has_resume());
}

TEST_F(RelayFailoverTest, TheGapIsMeasuredFromTokenToToken) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  workers_.SendStarted(run.worker, run.submit.stream_id());
  workers_.SendToken(run.worker, run.submit.stream_id(), 0, "a");
  Kill(run.worker);
  FindSubmit(run);
  time_.Advance(absl::Milliseconds(200));
  workers_.SendStarted(run.worker, run.submit.stream_id());
  workers_.SendToken(run.worker, run.submit.stream_id(), 1, "b");
  workers_.SendToken(run.worker, run.submit.stream_id(), 2, "c");
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_failover_gap_seconds_count 1"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_failover_gap_seconds_sum 0.2"));
}

TEST_F(RelayFailoverTest, InteractiveTurnsStayWithinTheirJournal) {
  Make(2);
  workers_.Attach("w0", 1, 7, 32, "disk");
  workers_.Attach("w1", 1, 7, 32, "disk");
  Running run = Run(InteractiveTurn("s"));
  const std::string lost = run.worker;
  workers_.SendStarted(lost, run.submit.stream_id());
  Kill(lost);
  FindSubmit(run);
  EXPECT_EQ(run.worker, Other(lost));
}

TEST_F(RelayFailoverTest, WithoutASharedJournalTheSessionIsLost) {
  MakeAttached(2);
  Running run = Run(InteractiveTurn("s"));
  workers_.SendStarted(run.worker, run.submit.stream_id());
  Kill(run.worker);
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "SESSION_LOST");
}

}  // namespace
}  // namespace berth::relay
