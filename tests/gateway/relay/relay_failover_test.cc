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
