#include <set>

#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::HasSubstr;

using RelayRetryTest = RelayTest;

TEST_F(RelayRetryTest, AWorkerThatFailsARequestIsNotAskedAgainAtOnce) {
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

TEST_F(RelayRetryTest, ARequestThatWaitsForItsRetryCanBeCancelled) {
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

TEST_F(RelayRetryTest, RetriesBeyondTheBudgetAreRefused) {
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

TEST_F(RelayRetryTest, AWorkerThatKeepsFailingGetsNoMoreWorkForAWhile) {
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

TEST_F(RelayRetryTest, BackpressureAndCallersErrorsAreNoFaults) {
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

TEST_F(RelayRetryTest, AWorkersOwnTroubleMovesTheRequestButItsRefusalDoesNot) {
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
