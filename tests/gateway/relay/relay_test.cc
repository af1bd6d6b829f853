#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::HasSubstr;

TEST_F(RelayTest, AStreamRunsFromItsSubmitToItsEnd) {
  MakeAttached(1);
  Running run = Run(Request());
  EXPECT_EQ(run.submit.tenant(), "t");
  EXPECT_TRUE(run.submit.generation().sampling().has_seed());
  EXPECT_FALSE(run.submit.has_timeout());
  workers_.SendStarted("w0", run.submit.stream_id());
  workers_.SendToken("w0", run.submit.stream_id(), 0, "hel");
  workers_.SendToken("w0", run.submit.stream_id(), 1, "lo");
  EXPECT_EQ(run.caller->text(), "hello");
  EXPECT_FALSE(run.caller->ended());
  workers_.SendFinished("w0", run.submit.stream_id());
  ASSERT_TRUE(run.caller->ended());
  EXPECT_TRUE(run.caller->status().ok());
  for (size_t i = 0; i < run.caller->messages().size(); ++i) EXPECT_EQ(run.caller->messages()[i].seq(), i);
  EXPECT_EQ(relay_->open_streams(), 0);
  EXPECT_EQ(OpenStreams(), 0);
}

TEST_F(RelayTest, ATraceparentThatIsNoneGoesNoFurther) {
  MakeAttached(1);
  for (const std::string& traceparent : {std::string("00-abc-def-01"), std::string("\xff"), std::string(257, '0')}) {
    GenerationRequest request = Request();
    request.traceparent = traceparent;
    EXPECT_EQ(Run(std::move(request)).submit.traceparent(), traceparent == "00-abc-def-01" ? traceparent : "");
  }
}

TEST_F(RelayTest, AFrameServesManyStreams) {
  MakeAttached(1);
  std::vector<Running> runs;
  for (int i = 0; i < 8; ++i) runs.push_back(Run(Request()));
  v1::AttachResponse frame = workers_.Frame("w0");
  for (size_t i = 0; i < runs.size(); ++i) {
    v1::StreamEvent& event = *frame.add_events();
    event.set_stream_id(runs[i].submit.stream_id());
    event.mutable_delta()->set_text(std::to_string(i));
  }
  workers_.Send("w0", frame);
  for (size_t i = 0; i < runs.size(); ++i) EXPECT_EQ(runs[i].caller->text(), std::to_string(i));
}

TEST_F(RelayTest, SessionsStickToTheirWorker) {
  MakeAttached(4);
  std::map<std::string, std::string> placed;
  for (int round = 0; round < 3; ++round) {
    for (int s = 0; s < 20; ++s) {
      const std::string session = "s" + std::to_string(s);
      Running run = Run(Request(session));
      ASSERT_FALSE(run.worker.empty());
      const auto [it, fresh] = placed.emplace(session, run.worker);
      EXPECT_EQ(it->second, run.worker);
      workers_.SendFinished(run.worker, run.submit.stream_id());
    }
  }
}

TEST_F(RelayTest, AWorkersErrorEndsTheStreamWithItsDetails) {
  MakeAttached(1);
  Running run = Run(Request());
  workers_.SendError("w0", run.submit.stream_id(), rpc::FieldError("sampling.temperature", "is NaN"));
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rpc::FieldViolations(run.caller->status()).front().first, "sampling.temperature");
  EXPECT_EQ(OpenStreams(), 0);
}

TEST_F(RelayTest, WhatWasGeneratedComesBeforeTheError) {
  MakeAttached(1);
  Running run = Run(Request());
  run.caller->SetReading(false);
  workers_.SendToken("w0", run.submit.stream_id(), 0, "a");
  workers_.SendError("w0", run.submit.stream_id(), absl::InternalError("broken"));
  run.caller->SetReading(true);
  EXPECT_EQ(run.caller->text(), "a");
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kInternal);
}

TEST_F(RelayTest, EventsOfUnknownStreamsAreDropped) {
  MakeAttached(1);
  workers_.SendToken("w0", 12345, 0, "x");
  workers_.SendFinished("w0", 12345);
  Running run = Run(Request());
  EXPECT_FALSE(run.caller->ended());
}

TEST_F(RelayTest, ACallerWhoLeavesCancelsUpstream) {
  MakeAttached(1);
  Running run = Run(Request("", "r1"));
  run.caller->Leave();
  const std::vector<v1::AttachRequest> written = workers_.TakeWritten("w0");
  ASSERT_EQ(written.size(), 1u);
  ASSERT_EQ(written[0].cancels_size(), 1);
  EXPECT_EQ(written[0].cancels(0).stream_id(), run.submit.stream_id());
  EXPECT_EQ(written[0].cancels(0).request_id(), "r1");
  EXPECT_EQ(relay_->open_streams(), 0);
  EXPECT_EQ(OpenStreams(), 1) << "the worker has not answered yet";
  workers_.SendFinished("w0", run.submit.stream_id());
  EXPECT_EQ(OpenStreams(), 0);
}

TEST_F(RelayTest, CancelByIdLetsTheWorkerEndTheStream) {
  MakeAttached(1);
  Running run = Run(Request("s", "r1"));
  std::optional<bool> found;
  v1::CancelRequest request;
  request.set_request_id("r1");
  relay_->Cancel("t", request, [&](bool answer) { found = answer; });
  EXPECT_EQ(found, true);
  EXPECT_FALSE(run.caller->ended());
  EXPECT_EQ(workers_.TakeWritten("w0")[0].cancels(0).stream_id(), run.submit.stream_id());
  workers_.SendFinished("w0", run.submit.stream_id());
  EXPECT_TRUE(run.caller->status().ok());
}

TEST_F(RelayTest, ACancelOfWhatHasNotLeftYetFreesItsPlaceAtOnce) {
  Make(1);
  workers_.Attach("w0");
  auto before = NewCaller(), caller = NewCaller();
  before->Open(Request());  // its submit is being written
  caller->Open(Request("", "r1"));
  EXPECT_EQ(OpenStreams(), 2);
  v1::CancelRequest request;
  request.set_request_id("r1");
  relay_->Cancel("t", request, [&](bool found) { EXPECT_TRUE(found); });
  EXPECT_EQ(caller->status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(OpenStreams(), 1);
  for (const v1::AttachRequest& frame : workers_.TakeWritten("w0")) EXPECT_EQ(frame.cancels_size(), 0);
}

TEST_F(RelayTest, CancelBySessionAndOnlyOfTheOwnTenant) {
  MakeAttached(1);
  Running run = Run(Request("s", "r1"));
  std::optional<bool> found;
  v1::CancelRequest request;
  request.set_session_id("s");
  relay_->Cancel("other", request, [&](bool answer) { found = answer; });
  EXPECT_FALSE(found.has_value()) << "it may run at another gateway";
  EXPECT_EQ(workers_.TakeWritten("w0")[0].cancels(0).tenant(), "other");
  time_.Advance(absl::Seconds(2));
  EXPECT_EQ(found, false) << "nobody answered";
  relay_->Cancel("t", request, [&](bool answer) { found = answer; });
  EXPECT_EQ(found, true);
}

TEST_F(RelayTest, AnUnknownRequestIsAskedOfEveryWorker) {
  MakeAttached(2);
  std::optional<bool> found;
  v1::CancelRequest request;
  request.set_request_id("elsewhere");
  uint64_t id = 0;
  const auto answer = [&](const char* worker, bool has) {
    v1::StreamEvent event;
    event.mutable_cancel_answer()->set_cancel_id(id);
    event.mutable_cancel_answer()->set_found(has);
    workers_.SendEvent(worker, event);
  };
  relay_->Cancel("t", request, [&](bool has) { found = has; });
  for (const char* worker : {"w0", "w1"}) {
    const auto written = workers_.TakeWritten(worker);
    ASSERT_EQ(written.size(), 1u);
    EXPECT_EQ(written[0].cancels(0).stream_id(), 0u);
    EXPECT_EQ(written[0].cancels(0).tenant(), "t");
    id = written[0].cancels(0).cancel_id();
  }
  answer("w0", false);
  EXPECT_FALSE(found.has_value());
  answer("w1", true);
  EXPECT_EQ(found, true);

  found.reset();
  request.clear_request_id();
  request.set_session_id("s");
  relay_->Cancel("t", request, [&](bool has) { found = has; });
  const auto written = workers_.TakeWritten("w0");
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written[0].cancels(0).session_id(), "s") << "its running turn may be another gateway's";
  id = written[0].cancels(0).cancel_id();
  answer("w0", false);
  time_.Advance(absl::Seconds(2));
  EXPECT_EQ(found, false) << "the other worker did not answer";
}

TEST_F(RelayTest, TheDeadlineEndsTheStreamAndTellsTheWorker) {
  MakeAttached(1);
  GenerationRequest request = Request();
  request.deadline = time_.Monotonic() + absl::Seconds(5);
  Running run = Run(std::move(request));
  EXPECT_EQ(run.submit.timeout().seconds(), 5);
  time_.Advance(absl::Milliseconds(2400));
  workers_.SendLoad("w0", FakeWorkers::Load());
  time_.Advance(absl::Milliseconds(2400));
  workers_.SendLoad("w0", FakeWorkers::Load());
  workers_.TakeWritten("w0");
  EXPECT_FALSE(run.caller->ended());
  time_.Advance(absl::Milliseconds(200));
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(workers_.TakeWritten("w0")[0].cancels_size(), 1);
}

TEST_F(RelayTest, TheDeadlineIsTheSameErrorWhenTheWorkerSeesItFirst) {
  MakeAttached(1);
  GenerationRequest request = Request();
  request.deadline = time_.Monotonic() + absl::Seconds(1);
  Running run = Run(request);
  workers_.SendStarted("w0", run.submit.stream_id());
  workers_.SendToken("w0", run.submit.stream_id(), 0, "a");
  time_.Stall(absl::Seconds(1));
  workers_.SendFinished("w0", run.submit.stream_id(), v1::FINISH_REASON_DEADLINE);
  ASSERT_TRUE(run.caller->ended());
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(run.caller->text(), "a");
  for (const v1::AttachRequest& written : workers_.TakeWritten("w0")) EXPECT_TRUE(written.cancels().empty());

  request.deadline = time_.Monotonic() + absl::Seconds(1);
  Running stored = Run(request);  // a turn that was cut short earlier
  workers_.SendStarted("w0", stored.submit.stream_id());
  workers_.SendFinished("w0", stored.submit.stream_id(), v1::FINISH_REASON_DEADLINE);
  EXPECT_TRUE(stored.caller->status().ok()) << stored.caller->status();
}

TEST_F(RelayTest, ADeadlineInThePastIsRefused) {
  MakeAttached(1);
  GenerationRequest request = Request();
  request.deadline = time_.Monotonic() - absl::Seconds(1);
  Running run = Run(std::move(request));
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(run.worker.empty());
}

TEST_F(RelayTest, ARunningRequestIdIsNotTakenTwice) {
  MakeAttached(1);
  Running first = Run(Request("", "same"));
  Running second = Run(Request("", "same"));
  EXPECT_EQ(second.caller->status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_FALSE(first.caller->ended());
  workers_.SendFinished("w0", first.submit.stream_id());
  Running third = Run(Request("", "same"));
  EXPECT_FALSE(third.caller->ended());
}

TEST_F(RelayTest, AResumeTakesTheStreamOver) {
  MakeAttached(1);
  Running first = Run(Request("", "same"));
  GenerationRequest again = Request("", "same");
  again.spec.mutable_resume()->set_next_seq(3);
  Running second = Run(std::move(again));
  EXPECT_EQ(first.caller->status().code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(second.caller->ended());
  EXPECT_TRUE(second.submit.generation().has_resume());
  workers_.SendToken("w0", first.submit.stream_id(), 0, "late");
  EXPECT_EQ(second.caller->text(), "");
  workers_.SendFinished("w0", second.submit.stream_id());
  EXPECT_TRUE(second.caller->status().ok());
}

TEST_F(RelayTest, ATakenOverStreamStaysAtItsWorker) {
  MakeAttached(2);
  Running other = Run(Request()), first = Run(Request("", "same"));
  workers_.SendFinished(other.worker, other.submit.stream_id());
  GenerationRequest again = Request("", "same");
  again.spec.mutable_resume()->set_next_seq(3);
  Running second = Run(std::move(again));
  EXPECT_EQ(second.worker, first.worker) << "which runs it, although the other one has nothing to do";
  workers_.SendError(first.worker, first.submit.stream_id(), absl::AbortedError("another call took the request over"));
  workers_.SendFinished(second.worker, second.submit.stream_id());
  EXPECT_TRUE(second.caller->status().ok());
  EXPECT_EQ(OpenStreams(), 0);
}

TEST_F(RelayTest, AStreamThatIsTakenOverToAnotherWorkerEndsAtTheOldOne) {
  MakeAttached(2);
  Running first = Run(Request("", "same"));
  workers_.SendLoad(first.worker, FakeWorkers::Load(/*credit=*/1));
  GenerationRequest again = Request("", "same");
  again.spec.mutable_resume()->set_next_seq(3);
  workers_.TakeWritten(first.worker);
  auto caller = NewCaller();
  caller->Open(std::move(again));
  EXPECT_EQ(workers_.TakeSubmits(Other(first.worker)).size(), 1u);
  const auto written = workers_.TakeWritten(first.worker);
  ASSERT_EQ(written.size(), 1u);
  ASSERT_EQ(written[0].cancels_size(), 1);
  EXPECT_EQ(written[0].cancels(0).stream_id(), first.submit.stream_id());
  workers_.SendFinished(first.worker, first.submit.stream_id());
  EXPECT_EQ(OpenStreams(), 1);
}

TEST_F(RelayTest, AStreamThatIsTakenOverAndLeftWhileItWaitsEndsAtItsWorker) {
  Make(1);
  workers_.Attach("w0", 1, 7, /*credit=*/1);
  Running first = Run(Request("", "same"));
  GenerationRequest again = Request("", "same");
  again.spec.mutable_resume()->set_next_seq(3);
  Running second = Run(std::move(again));
  EXPECT_EQ(second.worker, "");
  second.caller->Leave();
  const auto written = workers_.TakeWritten("w0");
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written[0].cancels(0).stream_id(), first.submit.stream_id());
}

TEST_F(RelayTest, ACallersOwnResumeDoesNotCountWhatWasBefore) {
  MakeAttached(1);
  GenerationRequest request = Request();
  request.spec.mutable_resume()->set_next_seq(3);
  request.spec.mutable_resume()->add_choices()->add_token_ids(1000);
  Running run = Run(std::move(request));
  time_.Advance(absl::Milliseconds(250));
  workers_.SendToken("w0", run.submit.stream_id(), 1, "b");
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_inter_token_latency_seconds_sum 0.25\n"));
}

TEST_F(RelayTest, UnknownModelAndMissingWorkersAreToldApart) {
  Make(1);
  EXPECT_EQ(Run(Request()).caller->status().code(), absl::StatusCode::kUnavailable);
  workers_.Attach("w0");
  GenerationRequest request = Request();
  request.spec.set_model("gpt-9");
  Running run = Run(std::move(request));
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(run.caller->status().message()), HasSubstr("gpt-9"));
}

TEST_F(RelayTest, ASlowCallersDeltasMergeAndNothingIsLost) {
  MakeAttached(1);
  Running run = Run(Request());
  run.caller->SetReading(false);
  std::string text;
  for (int i = 0; i < 100; ++i) {
    workers_.SendToken("w0", run.submit.stream_id(), i, "token ");
    text += "token ";
  }
  run.caller->SetReading(true);
  EXPECT_EQ(run.caller->text(), text);
  EXPECT_EQ(run.caller->messages().size(), 1u);
}

TEST_F(RelayTest, TooMuchUnreadEndsTheStreamAndTellsTheWorker) {
  MakeAttached(1);
  Running run = Run(Request());
  run.caller->SetReading(false);
  for (int i = 0; i < 70 && !run.caller->ended(); ++i)
    workers_.SendToken("w0", run.submit.stream_id(), i, std::string(1000, 'x'));
  ASSERT_TRUE(run.caller->ended());
  EXPECT_EQ(rpc::Reason(run.caller->status()), "SLOW_CLIENT");
  EXPECT_EQ(run.caller->status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(workers_.TakeWritten("w0").back().cancels_size(), 1);
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_slow_client_aborts_total 1"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_unread_bytes_bucket{le=\"65536\"} 65"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_unread_bytes_count 66")) << "the last of which was too much";
  EXPECT_EQ(relay_->open_streams(), 0);
}

TEST_F(RelayTest, ManyChoicesMayHaveMoreUnread) {
  MakeAttached(1);
  GenerationRequest request = Request();
  request.spec.mutable_sampling()->set_choice_count(128);
  Running run = Run(std::move(request));
  run.caller->SetReading(false);
  v1::AttachResponse frame = workers_.Frame("w0");
  for (int choice = 0; choice < 128; ++choice) {
    v1::StreamEvent& event = *frame.add_events();
    event.set_stream_id(run.submit.stream_id());
    event.mutable_delta()->set_choice_index(choice);
    event.mutable_delta()->set_text(std::string(1000, 'x'));
  }
  workers_.Send("w0", frame);
  EXPECT_FALSE(run.caller->ended()) << "this is one step of each";
  for (int step = 0; step < 8 && !run.caller->ended(); ++step) {
    v1::AttachResponse next = workers_.Frame("w0");
    *next.mutable_events() = frame.events();
    workers_.Send("w0", next);
  }
  EXPECT_TRUE(run.caller->ended());
}

TEST_F(RelayTest, ACallerWhoReadsNothingForLongIsGivenUp) {
  MakeAttached(1);
  Running run = Run(Request());
  run.caller->SetReading(false);
  workers_.SendToken("w0", run.submit.stream_id(), 0, "x");
  for (int i = 0; i < 29; ++i) {
    time_.Advance(absl::Seconds(1));
    workers_.SendLoad("w0", FakeWorkers::Load());
  }
  EXPECT_FALSE(run.caller->ended());
  time_.Advance(absl::Seconds(2));
  ASSERT_TRUE(run.caller->ended());
  EXPECT_EQ(rpc::Reason(run.caller->status()), "SLOW_CLIENT");
}

TEST_F(RelayTest, OneSlowCallerDoesNotHoldTheOthers) {
  MakeAttached(1);
  Running slow = Run(Request()), quick = Run(Request());
  slow.caller->SetReading(false);
  for (int i = 0; i < 10; ++i) {
    workers_.SendToken("w0", slow.submit.stream_id(), i, "s");
    workers_.SendToken("w0", quick.submit.stream_id(), i, "q");
  }
  EXPECT_EQ(quick.caller->text(), "qqqqqqqqqq");
}

TEST_F(RelayTest, StoppingEndsAllStreamsAndLinks) {
  MakeAttached(2);
  Running run = Run(Request());
  bool idle = false;
  relay_->Drain([&] { idle = true; });
  EXPECT_FALSE(idle);
  EXPECT_EQ(Run(Request()).caller->status().code(), absl::StatusCode::kUnavailable);
  relay_->Stop();
  EXPECT_EQ(rpc::Reason(run.caller->status()), "DRAINING");
  EXPECT_TRUE(idle);
  EXPECT_FALSE(workers_.IsOpen("w0"));
  EXPECT_EQ(time_.timers(), 0u);
}

TEST_F(RelayTest, ADrainWaitsForEmbeddingsAndTakesNoMore) {
  MakeAttached(1);
  const rpc::Tenant tenant{.name = "t"};
  ASSERT_TRUE(relay_->BeginEmbedding(tenant, {}, false).ok());
  bool idle = false;
  relay_->Drain([&] { idle = true; });
  EXPECT_FALSE(idle);
  EXPECT_EQ(rpc::Reason(relay_->BeginEmbedding(tenant, {}, false).status()), "DRAINING");
  relay_->EmbeddingEnded(tenant, 0);
  EXPECT_TRUE(idle);
}

TEST_F(RelayTest, MetricsTellWhatHappened) {
  MakeAttached(2);
  Running run = Run(Request("s"));
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_streams_open{worker=\"" + run.worker + "\"} 1"));
  workers_.SendToken(run.worker, run.submit.stream_id(), 0, "a");
  workers_.SendToken(run.worker, run.submit.stream_id(), 1, "b");
  workers_.SendFinished(run.worker, run.submit.stream_id());
  const std::string text = Metrics();
  EXPECT_THAT(text, HasSubstr("berth_gateway_worker_up{worker=\"w0\"} 1"));
  EXPECT_THAT(text, HasSubstr("berth_gateway_worker_state{state=\"ready\",worker=\"w1\"} 1"));
  EXPECT_THAT(text, HasSubstr("berth_gateway_streams_open{worker=\"" + run.worker + "\"} 0"));
  EXPECT_THAT(text, HasSubstr("berth_gateway_routing_decisions_total{outcome=\"affinity_hit\",policy=\"session\"} 1"));
  EXPECT_THAT(text, HasSubstr("berth_gateway_time_to_first_token_seconds_count 1"));
  EXPECT_THAT(text, HasSubstr("berth_gateway_inter_token_latency_seconds_count 1"));
}

}  // namespace
}  // namespace berth::relay
