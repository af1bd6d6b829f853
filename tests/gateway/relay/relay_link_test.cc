#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::ElementsAre;

using RelayLinkTest = RelayTest;

TEST_F(RelayLinkTest, ARequestWaitsWhileItsOnlyWorkersLinkIsMended) {
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

TEST_F(RelayLinkTest, AMomentaryBreakReattachesAtTheNextToken) {
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
  EXPECT_EQ(run.caller->resumed(), nullptr) << "the caller does not notice";
}

TEST_F(RelayLinkTest, ACancelIsSentAgainWithTheReattach) {
  MakeAttached(1);
  Running run = Run(Request("s", "r1"));
  v1::CancelRequest request;
  request.set_request_id("r1");
  relay_->Cancel("t", request, [](bool found) { EXPECT_TRUE(found); });
  workers_.Break("w0");
  workers_.TakeWritten("w0");
  workers_.Attach("w0");
  const auto written = workers_.TakeWritten("w0");
  ASSERT_FALSE(written.empty());
  const v1::AttachRequest& frame = written.back();
  EXPECT_EQ(frame.reattaches_size(), 1);
  ASSERT_EQ(frame.cancels_size(), 1);
  EXPECT_EQ(frame.cancels(0).stream_id(), 0u) << "no stream of this link yet";
  EXPECT_EQ(frame.cancels(0).request_id(), "r1");
  EXPECT_EQ(frame.cancels(0).tenant(), "t");
}

TEST_F(RelayLinkTest, ARefusedReattachIsAFailover) {
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

TEST_F(RelayLinkTest, ACancelBetweenWorkersEndsTheRequest) {
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

TEST_F(RelayLinkTest, WhatADrainingWorkerHandsOverIsNoFailover) {
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

TEST_F(RelayLinkTest, ADrainingWorkerIsNotAskedOverAndOver) {
  MakeAttached(1);
  Running run = Run(Request("s"));
  const absl::Status draining = rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the worker is draining");
  workers_.SendError("w0", run.submit.stream_id(), draining);
  FindSubmit(run);
  workers_.SendError("w0", run.submit.stream_id(), draining);
  EXPECT_EQ(rpc::Reason(run.caller->status()), "DRAINING");
}

TEST_F(RelayLinkTest, AnUnhealthyWorkersStreamsMoveAtOnce) {
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

TEST_F(RelayLinkTest, ASilentWorkersStreamsMove) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  const std::string lost = run.worker;
  for (int i = 0; i < 5; ++i) {
    time_.Advance(absl::Milliseconds(500));
    workers_.SendLoad(Other(lost), FakeWorkers::Load());
  }
  FindSubmit(run);
  EXPECT_EQ(run.worker, Other(lost));
  EXPECT_FALSE(run.submit.suspect()) << "silence is no death that it could be blamed for";
}

}  // namespace
}  // namespace berth::relay
