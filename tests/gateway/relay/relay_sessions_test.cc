#include "gateway/routing/rendezvous.h"
#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Four workers; the one that a session ranks first has just started, the others long before it.
class RelaySessionsTest : public RelayTest {
 protected:
  void SetUp() override {
    Make(4, {.move_idle = absl::Seconds(60)});
    for (int index : relay_->view().Rank(routing::SessionKey("t", "s"))) {
      ranks_.push_back(relay_->view().worker(index).address.id);
    }
    for (const std::string& id : ranks_) {
      workers_.Attach(id, Start(id == ranks_[0]), 7, 32, "disk");
      workers_.TakeWritten(id);
    }
  }
  int64_t Start(bool late) { return absl::ToUnixMicros(time_.Now()) - (late ? 0 : 3'600'000'000); }
  std::vector<std::string> Asked() {
    std::vector<std::string> asked;
    for (const Lookup& lookup : lookups_) asked.push_back(lookup.worker);
    return asked;
  }
  // A turn whose session the second rank holds, where it was last used `idle` ago.
  Running RunHeldBySecond(absl::Duration idle, GenerationRequest request = Request("s"), uint64_t version = 0) {
    Running run = Run(std::move(request));
    lookups_[0].Found(version, idle);
    lookups_[1].Unknown();
    FindSubmit(run);
    return run;
  }
  // Discovery's list without `without`.
  std::vector<routing::WorkerAddress> Others(const std::string& without) {
    std::vector<routing::WorkerAddress> list;
    for (const std::string& id : ranks_) {
      if (id != without) list.push_back({id, "host:1"});
    }
    return list;
  }
  // A turn that ends at once.
  std::string Turn(const std::string& session = "s") {
    Running run = Run(Request(session));
    workers_.SendStarted(run.worker, run.submit.stream_id());
    workers_.SendFinished(run.worker, run.submit.stream_id());
    return run.worker;
  }
  // Time passes, and all workers are heard of.
  void Pass(absl::Duration time) {
    for (; time > absl::ZeroDuration(); time -= absl::Milliseconds(500)) {
      time_.Advance(absl::Milliseconds(500));
      for (const std::string& id : ranks_) workers_.SendLoad(id, FakeWorkers::Load());
    }
  }
  std::string Hint(const std::string& id) {
    return id + "/" + std::to_string(static_cast<uint64_t>(Start(id == ranks_[0])) << 12);
  }

  // Where a call that concerns only the session goes; "": nowhere yet.
  void FindSession(const std::string& model = "m") {
    owner_.clear();
    v1::HasSessionRequest session;
    session.set_tenant("t");
    session.set_model(model);
    session.set_session_id("s");
    relay_->FindSession(session,
                        [this](int worker) { owner_ = worker < 0 ? "nobody" : relay_->view().worker(worker).address.id; });
  }

  std::vector<std::string> ranks_;
  std::string owner_;
};

TEST_F(RelaySessionsTest, ASessionsOwnCallsGoWhereItIs) {
  FindSession();
  ASSERT_THAT(Asked(), ElementsAre(ranks_[1], ranks_[2]));
  EXPECT_EQ(lookups_[0].question.session_id(), "s");
  lookups_[0].Found(1, absl::Seconds(61));
  EXPECT_EQ(owner_, "") << "another may have a newer one";
  lookups_[1].Unknown();
  EXPECT_EQ(owner_, ranks_[1]);
  FindSession("gpt-9");
  EXPECT_EQ(owner_, "nobody");
}

TEST_F(RelaySessionsTest, AJoinedWorkerTakesNoLiveSession) {
  Running run = Run(Request("s"));
  ASSERT_THAT(Asked(), ElementsAre(ranks_[1], ranks_[2]));
  EXPECT_EQ(lookups_[0].question.session_id(), "s");
  EXPECT_EQ(lookups_[0].question.tenant(), "t");
  EXPECT_EQ(run.worker, "") << "before the answers";
  lookups_[0].Unknown();
  lookups_[1].Found(0, absl::Seconds(5));
  FindSubmit(run);
  EXPECT_EQ(run.worker, ranks_[2]);
  EXPECT_EQ(run.submit.affinity(), v1::AFFINITY_HIT);
  workers_.SendFinished(run.worker, run.submit.stream_id());
  EXPECT_EQ(Turn(), ranks_[2]);
  EXPECT_EQ(lookups_.size(), 2u) << "the answer is remembered";
}

TEST_F(RelaySessionsTest, TheNewestCopyWinsThenTheOneUsedLast) {
  Running run = Run(Request("s"));
  lookups_[0].Found(3, absl::Seconds(1));
  lookups_[1].Found(4, absl::Seconds(9));
  FindSubmit(run);
  EXPECT_EQ(run.worker, ranks_[2]);
}

TEST_F(RelaySessionsTest, NobodysSessionStartsAtItsFirstRank) {
  Running run = Run(Request("s"));
  lookups_[0].Unknown();
  lookups_[1].answer(absl::DeadlineExceededError("silent"), {});
  FindSubmit(run);
  EXPECT_EQ(run.worker, ranks_[0]);
}

TEST_F(RelaySessionsTest, AnIdleSessionMovesToItsFirstRank) {
  Running run = RunHeldBySecond(absl::Seconds(61));
  EXPECT_EQ(run.worker, ranks_[0]);
  EXPECT_EQ(run.submit.affinity(), v1::AFFINITY_REBIND);
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_affinity_moves_total{reason=\"scale\"} 1"));
}

TEST_F(RelaySessionsTest, WhatIsRememberedMovesWhenIdleToo) {
  Running run = RunHeldBySecond(absl::Seconds(1));
  workers_.SendFinished(run.worker, run.submit.stream_id());
  Pass(absl::Seconds(59));
  EXPECT_EQ(Turn(), ranks_[1]);
  Pass(absl::Seconds(59));
  EXPECT_EQ(Turn(), ranks_[1]) << "each turn counts";
  Pass(absl::Seconds(61));
  EXPECT_EQ(Turn(), ranks_[0]);
  EXPECT_EQ(Turn(), ranks_[0]);
}

TEST_F(RelaySessionsTest, AnInteractiveSessionWithoutASharedJournalNeverMoves) {
  for (const std::string& id : ranks_) {
    workers_.Break(id);
    workers_.Attach(id, Start(id == ranks_[0]), 7, 32, /*journal=*/"");
    workers_.TakeWritten(id);
  }
  EXPECT_EQ(RunHeldBySecond(absl::Hours(1), InteractiveTurn("s"), /*version=*/1).worker, ranks_[1]);
}

TEST_F(RelaySessionsTest, ASessionThatOpensIsAskedOfNobody) {
  GenerationRequest turn = InteractiveTurn("s");
  turn.spec.mutable_session()->set_start(true);
  EXPECT_EQ(Run(turn).worker, ranks_[0]);
  EXPECT_TRUE(lookups_.empty());
}

TEST_F(RelaySessionsTest, WhoLeavesWhileWorkersAreAskedLeavesNothingBehind) {
  { Running run = Run(Request("s")); }
  lookups_[0].Found(0, absl::Seconds(1));
  lookups_[1].Unknown();
  for (const std::string& id : ranks_) EXPECT_TRUE(workers_.TakeSubmits(id).empty());
  EXPECT_EQ(relay_->open_streams(), 0);
}

TEST_F(RelaySessionsTest, AHintIsVerifiedByItsWorker) {
  GenerationRequest request = Request("s");
  request.worker_hint = Hint(ranks_[3]);
  Running run = Run(request);
  ASSERT_THAT(Asked(), ElementsAre(ranks_[1], ranks_[2], ranks_[3]));
  lookups_[0].Unknown();
  lookups_[1].Unknown();
  lookups_[2].Found(0, absl::Seconds(1));
  FindSubmit(run);
  EXPECT_EQ(run.worker, ranks_[3]);
  EXPECT_THAT(Metrics(), HasSubstr("berth_gateway_routing_decisions_total{outcome=\"hint\",policy=\"session\"} 1"));
}

TEST_F(RelaySessionsTest, HintsOfOtherIncarnationsAndStrangersCountForNothing) {
  for (const std::string& hint : {ranks_[3] + "/1", std::string("stranger/1"), std::string("nonsense"), ranks_[3] + "/x"}) {
    lookups_.clear();
    GenerationRequest request = Request("s");
    request.worker_hint = hint;
    Running run = Run(request);
    EXPECT_THAT(Asked(), ElementsAre(ranks_[1], ranks_[2])) << hint;
  }
}

TEST_F(RelaySessionsTest, ARestartedWorkerIsKnownToBeEmpty) {
  Running run = RunHeldBySecond(absl::Seconds(1));
  ASSERT_EQ(run.worker, ranks_[1]);
  workers_.SendFinished(run.worker, run.submit.stream_id());
  FindSession();
  EXPECT_EQ(owner_, ranks_[1]);
  workers_.Break(ranks_[1]);
  workers_.Attach(ranks_[1], Start(true) + 1);
  lookups_.clear();
  FindSession();
  ASSERT_THAT(Asked(), ElementsAre(ranks_[2]));
  lookups_[0].Unknown();
  EXPECT_EQ(owner_, ranks_[0]);
  lookups_.clear();
  Run(Request("s"));
  EXPECT_THAT(Asked(), ElementsAre(ranks_[2])) << "rank 2 started after rank 1 now";
}

TEST_F(RelaySessionsTest, AFailedHolderIsNotInsistedOn) {
  Running run = RunHeldBySecond(absl::Seconds(1));
  workers_.SendError(run.worker, run.submit.stream_id(), absl::UnavailableError("device fault"));
  FindSubmit(run);
  EXPECT_EQ(run.worker, ranks_[0]);
}

TEST_F(RelaySessionsTest, ARemovedWorkerEndsWhatItRunsAndGetsNothingNew) {
  Running run = Run(Request());
  std::vector<routing::WorkerAddress> rest = Others(run.worker);
  relay_->SetWorkers(rest);
  EXPECT_TRUE(workers_.IsOpen(run.worker));
  for (int i = 0; i < 8; ++i) EXPECT_NE(Run(Request("n" + std::to_string(i), "")).worker, run.worker);
  workers_.SendToken(run.worker, run.submit.stream_id(), 0, "a");
  workers_.SendFinished(run.worker, run.submit.stream_id());
  EXPECT_TRUE(run.caller->status().ok());
  EXPECT_FALSE(workers_.IsOpen(run.worker)) << "nothing runs there any more";
  EXPECT_THAT(Metrics(), Not(HasSubstr("berth_gateway_worker_up{worker=\"" + run.worker + "\"}")));
  rest.push_back({"w9", "host:9"});
  const int places = relay_->view().size();
  relay_->SetWorkers(rest);
  EXPECT_TRUE(workers_.IsOpen("w9"));
  EXPECT_EQ(relay_->view().size(), places) << "the place is used again";
}

TEST_F(RelaySessionsTest, AWorkerAtAnotherAddressIsLost) {
  Running run = Run(Request());
  workers_.SendStarted(run.worker, run.submit.stream_id());
  const std::string moved = run.worker;
  std::vector<routing::WorkerAddress> list = Others(moved);
  list.push_back({moved, "elsewhere:1"});
  const int attempts = workers_.attempts(moved);
  relay_->SetWorkers(list);
  EXPECT_EQ(workers_.attempts(moved), attempts + 1) << "the new address is tried at once";
  FindSubmit(run);
  EXPECT_NE(run.worker, moved);
  EXPECT_TRUE(run.submit.generation().has_resume());
}

TEST_F(RelaySessionsTest, AWorkerThatComesBackToTheListKeepsItsLink) {
  Running run = Run(Request());
  const int attempts = workers_.attempts(run.worker);
  relay_->SetWorkers(Others(run.worker));
  relay_->SetWorkers(Others(""));
  workers_.SendFinished(run.worker, run.submit.stream_id());
  EXPECT_TRUE(workers_.IsOpen(run.worker));
  EXPECT_EQ(workers_.attempts(run.worker), attempts);
}

}  // namespace
}  // namespace berth::relay
