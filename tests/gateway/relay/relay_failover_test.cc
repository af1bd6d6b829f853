#include <set>

#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RelayFailoverTest : public RelayTest {
 protected:
  static std::string Other(const std::string& worker) { return worker == "w0" ? "w1" : "w0"; }
  // The worker's process is gone: its stream breaks and its port refuses.
  void Kill(const std::string& worker) {
    workers_.Break(worker);
    workers_.Break(worker);
  }
  static const v1::Resumed* FindResumed(const FakeCaller& caller) {
    for (const auto& message : caller.messages()) {
      if (message.has_resumed()) return &message.resumed();
    }
    return nullptr;
  }
};

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
  ASSERT_NE(FindResumed(*run.caller), nullptr);
  EXPECT_EQ(FindResumed(*run.caller)->replayed_tokens(), 2);
  for (size_t i = 0; i < run.caller->messages().size(); ++i) EXPECT_EQ(run.caller->messages()[i].seq(), i);
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_failovers_total{phase=\"mid_stream\",result=\"ok\"} 1"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_affinity_moves_total{reason=\"death\"} 1"));
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

TEST_F(RelayFailoverTest, AWorkerThatFailsARequestIsNotAskedAgainAtOnce) {
  MakeAttached(3);
  Running run = Run(Request("s"));
  std::set<std::string> asked = {run.worker};
  workers_.SendError(run.worker, run.submit.stream_id(), absl::UnavailableError("device fault"));
  FindSubmit(run);
  EXPECT_TRUE(asked.insert(run.worker).second) << "the first retry goes elsewhere at once";
  workers_.SendError(run.worker, run.submit.stream_id(), absl::UnavailableError("device fault"));
  FindSubmit(run);
  EXPECT_EQ(run.worker, "") << "the second one waits a moment";
  for (const char* worker : {"w0", "w1", "w2"}) workers_.SendLoad(worker, FakeWorkers::Load());
  time_.Advance(absl::Milliseconds(150));
  FindSubmit(run);
  EXPECT_NE(run.worker, "");
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_retries_total{reason=\"unavailable\"} 2"));
}

TEST_F(RelayFailoverTest, ARequestThatWaitsForItsRetryCanBeCancelled) {
  MakeAttached(2);
  Running run = Run(Request("s", "r1"));
  for (int i = 0; i < 2; ++i) {
    workers_.SendError(run.worker, run.submit.stream_id(), absl::UnavailableError("device fault"));
    if (i == 0) FindSubmit(run);
  }
  v1::CancelRequest cancel;
  cancel.set_request_id("r1");
  relay_->Cancel("t", cancel, [](bool found) { EXPECT_TRUE(found); });
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kCancelled);
  time_.Advance(absl::Milliseconds(200));
  FindSubmit(run);
  EXPECT_EQ(run.worker, "");
}

TEST_F(RelayFailoverTest, RetriesBeyondTheBudgetAreRefused) {
  Make(2);
  for (const char* worker : {"w0", "w1"}) workers_.Attach(worker, 1, 7, /*credit=*/1000);
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    Running run = Run(Request("s" + std::to_string(i)));
    workers_.SendError(run.worker, run.submit.stream_id(), absl::UnavailableError("device fault"));
    if (!run.caller->ended()) continue;
    EXPECT_EQ(rpc::Reason(run.caller->status()), "RETRY_BUDGET");
    EXPECT_TRUE(rpc::RetryAfter(run.caller->status()).has_value());
    ++refused;
  }
  EXPECT_GT(refused, 100);
  EXPECT_LT(refused, 300) << "ten a second and a fifth of the requests are retried";
}

TEST_F(RelayFailoverTest, AWorkerThatKeepsFailingGetsNoMoreWorkForAWhile) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  const std::string bad = run.worker;
  for (int i = 0; i < 5; ++i) {
    if (i > 0) run = Run(Request("s"));
    ASSERT_EQ(run.worker, bad);
    workers_.SendError(bad, run.submit.stream_id(), absl::InternalError("NaN"));
  }
  run = Run(Request("s"));
  EXPECT_EQ(run.worker, Other(bad));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_circuit_state{worker=\"" + bad + "\"} 2"));
  for (int i = 0; i < 10; ++i) {
    time_.Advance(absl::Milliseconds(500));
    for (const char* worker : {"w0", "w1"}) workers_.SendLoad(worker, FakeWorkers::Load());
  }
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_circuit_state{worker=\"" + bad + "\"} 1"));
  // The session itself stays where it lives now.
  for (int i = 0; run.worker != bad && i < 50; ++i) run = Run(Request("t" + std::to_string(i)));
  ASSERT_EQ(run.worker, bad) << "it is tried again";
  workers_.SendFinished(bad, run.submit.stream_id());
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_circuit_transitions_total{to=\"closed\",worker=\"" + bad + "\"} 1"));
}

TEST_F(RelayFailoverTest, BackpressureAndCallersErrorsAreNoFaults) {
  MakeAttached(2);
  for (int i = 0; i < 20; ++i) {
    for (const absl::Status& status :
         {absl::ResourceExhaustedError("full"), absl::InvalidArgumentError("bad"), absl::AbortedError("busy"),
          absl::DeadlineExceededError("late"), rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "bye")}) {
      Running run = Run(Request("s" + std::to_string(i)));
      workers_.SendError(run.worker, run.submit.stream_id(), status);
    }
  }
  for (int i = 0; i < 2; ++i) EXPECT_EQ(relay_->view().worker(i).faults, 0);
}

TEST_F(RelayFailoverTest, WhatADrainingWorkerHandsOverIsNoFailover) {
  MakeAttached(2, {.max_failovers = 0});
  Running run = Run(Request("s"));
  workers_.SendStarted(run.worker, run.submit.stream_id());
  for (int i = 0; i < 6; ++i) {
    const std::string left = run.worker;
    workers_.SendToken(left, run.submit.stream_id(), i, "x");
    workers_.SendError(left, run.submit.stream_id(),
                       rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the worker is draining"));
    FindSubmit(run);
    ASSERT_EQ(run.worker, Other(left));
    workers_.SendStarted(run.worker, run.submit.stream_id());
  }
  workers_.SendFinished(run.worker, run.submit.stream_id());
  EXPECT_TRUE(run.caller->status().ok());
  EXPECT_EQ(run.caller->text(), "xxxxxx");
}

TEST_F(RelayFailoverTest, ADrainingWorkerIsNotAskedOverAndOver) {
  MakeAttached(1);
  Running run = Run(Request("s"));
  const absl::Status draining = rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the worker is draining");
  workers_.SendError("w0", run.submit.stream_id(), draining);
  FindSubmit(run);
  workers_.SendError("w0", run.submit.stream_id(), draining);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "DRAINING");
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

TEST_F(RelayFailoverTest, ARequestWaitsWhileItsOnlyWorkersLinkIsMended) {
  MakeAttached(1);
  workers_.Break("w0");
  Running run = Run(Request());
  EXPECT_FALSE(run.caller->ended());
  workers_.Attach("w0");
  FindSubmit(run);
  EXPECT_EQ(run.worker, "w0");
  workers_.Break("w0");
  Running second = Run(Request());
  workers_.Break("w0");
  EXPECT_EQ(rpc::Reason(second.caller->status()), "NO_HEALTHY_WORKER") << "told at once when nobody is left";
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

TEST_F(RelayFailoverTest, AMomentaryBreakReattachesAtTheNextToken) {
  MakeAttached(2);
  Running run = Run(Request("s", "r1"));
  workers_.SendStarted(run.worker, run.submit.stream_id());
  workers_.SendToken(run.worker, run.submit.stream_id(), 0, "a");
  workers_.Break(run.worker);
  workers_.Attach(run.worker);
  const auto written = workers_.TakeWritten(run.worker);
  ASSERT_FALSE(written.empty());
  const v1::AttachRequest& frame = written.back();
  ASSERT_EQ(frame.reattaches_size(), 1);
  EXPECT_EQ(frame.reattaches(0).request_id(), "r1");
  EXPECT_EQ(frame.reattaches(0).stream_id(), run.submit.stream_id());
  EXPECT_THAT(frame.reattaches(0).received_tokens(), ElementsAre(1));
  v1::StreamEvent event;
  event.set_stream_id(run.submit.stream_id());
  event.mutable_reattached();
  workers_.SendEvent(run.worker, event);
  workers_.SendToken(run.worker, run.submit.stream_id(), 1, "b");
  workers_.SendFinished(run.worker, run.submit.stream_id());
  EXPECT_TRUE(run.caller->status().ok());
  EXPECT_EQ(run.caller->text(), "ab");
  EXPECT_EQ(FindResumed(*run.caller), nullptr) << "the caller does not notice";
}

TEST_F(RelayFailoverTest, ARefusedReattachIsAFailover) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  const std::string lost = run.worker;
  workers_.SendToken(lost, run.submit.stream_id(), 0, "a");
  const uint64_t first = run.submit.stream_id();
  workers_.Break(lost);
  workers_.Attach(lost);
  workers_.SendError(lost, first, absl::NotFoundError("not parked here"));
  FindSubmit(run);
  EXPECT_NE(run.submit.stream_id(), first);
  EXPECT_TRUE(run.submit.generation().has_resume());
}

TEST_F(RelayFailoverTest, ACancelBetweenWorkersEndsTheRequest) {
  MakeAttached(1);
  Running run = Run(Request("", "r1"));
  workers_.Break("w0");
  v1::CancelRequest request;
  request.set_request_id("r1");
  bool found = false;
  relay_->Cancel("t", request, [&](bool answer) { found = answer; });
  EXPECT_TRUE(found);
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kCancelled);
  workers_.Attach("w0");
  for (const v1::AttachRequest& frame : workers_.TakeWritten("w0")) {
    EXPECT_EQ(frame.submits_size() + frame.reattaches_size(), 0);
  }
}

TEST_F(RelayFailoverTest, AnUnhealthyWorkersStreamsMoveAtOnce) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  const std::string lost = run.worker;
  workers_.SendToken(lost, run.submit.stream_id(), 0, "a");
  v1::LoadReport load = FakeWorkers::Load();
  load.set_state(v1::WORKER_STATE_UNHEALTHY);
  workers_.SendLoad(lost, load);
  EXPECT_EQ(workers_.TakeWritten(lost).back().cancels_size(), 1);
  FindSubmit(run);
  EXPECT_EQ(run.worker, Other(lost));
  EXPECT_TRUE(workers_.IsOpen(lost)) << "it says so itself when it is well again";
}

TEST_F(RelayFailoverTest, ASilentWorkersStreamsMove) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  const std::string lost = run.worker;
  for (int i = 0; i < 5; ++i) {
    time_.Advance(absl::Milliseconds(500));
    workers_.SendLoad(Other(lost), FakeWorkers::Load());
  }
  FindSubmit(run);
  EXPECT_EQ(run.worker, Other(lost));
}

TEST_F(RelayFailoverTest, InteractiveTurnsStayWithinTheirJournal) {
  Make(2);
  workers_.Attach("w0", 1, 7, 32, "disk");
  workers_.Attach("w1", 1, 7, 32, "disk");
  GenerationRequest turn = Request("s");
  turn.spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  Running run = Run(turn);
  const std::string lost = run.worker;
  workers_.SendStarted(lost, run.submit.stream_id());
  Kill(lost);
  FindSubmit(run);
  EXPECT_EQ(run.worker, Other(lost));
}

TEST_F(RelayFailoverTest, WithoutASharedJournalTheSessionIsLost) {
  MakeAttached(2);
  GenerationRequest turn = Request("s");
  turn.spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  Running run = Run(turn);
  workers_.SendStarted(run.worker, run.submit.stream_id());
  Kill(run.worker);
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "SESSION_LOST");
}

TEST_F(RelayFailoverTest, AWorkersOwnTroubleMovesTheRequestButItsRefusalDoesNot) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  workers_.SendError(run.worker, run.submit.stream_id(), absl::UnavailableError("device fault"));
  FindSubmit(run);
  EXPECT_FALSE(run.caller->ended());
  EXPECT_FALSE(run.submit.suspect());
  workers_.SendError(run.worker, run.submit.stream_id(),
                     rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "JOURNAL_UNAVAILABLE", "busy"));
  EXPECT_EQ(rpc::Reason(run.caller->status()), "JOURNAL_UNAVAILABLE");
}

}  // namespace
}  // namespace berth::relay
