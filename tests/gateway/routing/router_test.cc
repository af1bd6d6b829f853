#include "gateway/routing/router.h"

#include <gtest/gtest.h>

#include <set>

#include "gateway/routing/rendezvous.h"
#include "tests/gateway/routing/cluster_fixture.h"

namespace berth::routing {
namespace {

constexpr uint64_t kKey = 12345;

std::vector<int> Order(const ClusterView& view) { return view.Rank(kKey); }

RouteDecision RouteFor(const ClusterView& view, RouteRequest request) {
  request.model = "m";
  return Route(view, request, kNow);
}

void ExpectPlaced(const RouteDecision& decision, int worker, v1::Affinity affinity) {
  EXPECT_EQ(decision.outcome, RouteOutcome::kPlaced);
  EXPECT_EQ(decision.worker, worker);
  EXPECT_EQ(decision.affinity, affinity);
}

TEST(RouterTest, ASessionGoesToItsFirstRank) {
  const ClusterView view = ReadyView(4);
  ExpectPlaced(RouteFor(view, {.key = kKey}), Order(view)[0], v1::AFFINITY_HIT);
  ExpectPlaced(RouteFor(view, {.key = kKey, .starts_session = true}), Order(view)[0], v1::AFFINITY_NEW);
  ExpectPlaced(RouteFor(view, {.key = kKey, .may_spill = false}), Order(view)[0], v1::AFFINITY_HIT);
}

TEST(RouterTest, TwoGatewaysAgreeWhateverTheySawBefore) {
  ClusterView a = ReadyView(5), b = ReadyView(5);
  b.Detached(0, LinkState::kDown);
  ASSERT_TRUE(b.Attached(0, Hello("w0", 2), kNow).ok());
  b.Reported(0, Load(), kNow);
  for (uint64_t key = 0; key < 500; ++key) {
    EXPECT_EQ(RouteFor(a, {.key = key}).worker, RouteFor(b, {.key = key}).worker);
  }
}

TEST(RouterTest, AFailedWorkersSessionsMoveToTheNextRankAndNoOthers) {
  ClusterView view = ReadyView(4);
  const ClusterView before = view;
  view.Detached(2, LinkState::kDown);
  for (uint64_t key = 0; key < 500; ++key) {
    const std::vector<int> order = view.Rank(key);
    const RouteDecision decision = RouteFor(view, {.key = key});
    if (order[0] == 2) {
      ExpectPlaced(decision, order[1], v1::AFFINITY_REBIND);
    } else {
      ExpectPlaced(decision, order[0], v1::AFFINITY_HIT);
      EXPECT_EQ(RouteFor(before, {.key = key}).worker, decision.worker);
    }
  }
}

TEST(BoundTest, WaitingOrFarAboveTheMean) {
  EXPECT_FALSE(IsOverBound(Load(0, 0), 0));
  EXPECT_TRUE(IsOverBound(Load(0, 1), 100));
  EXPECT_FALSE(IsOverBound(Load(8, 0), 0)) << "half its slots is always allowed";
  EXPECT_TRUE(IsOverBound(Load(9, 0), 0));
  EXPECT_FALSE(IsOverBound(Load(12, 0), 10));
  EXPECT_TRUE(IsOverBound(Load(13, 0), 10));
}

TEST(RouterTest, OnlyWhatMaySpillLeavesABusyWorker) {
  ClusterView view = ReadyView(3);
  const std::vector<int> order = Order(view);
  view.Reported(order[0], Load(16, 3), kNow);
  ExpectPlaced(RouteFor(view, {.key = kKey}), order[1], v1::AFFINITY_SPILL);
  ExpectPlaced(RouteFor(view, {.key = kKey, .starts_session = true}), order[1], v1::AFFINITY_SPILL);
  ExpectPlaced(RouteFor(view, {.key = kKey, .may_spill = false}), order[0], v1::AFFINITY_HIT);
}

TEST(RouterTest, WhenAllAreBusyTheFirstRankKeepsItsSession) {
  ClusterView view = ReadyView(3);
  for (int i = 0; i < 3; ++i) view.Reported(i, Load(16, 1), kNow);
  ExpectPlaced(RouteFor(view, {.key = kKey}), Order(view)[0], v1::AFFINITY_HIT);
}

TEST(RouterTest, WithoutCreditRequestsWaitOrSpill) {
  ClusterView view = ReadyView(2);
  const std::vector<int> order = Order(view);
  v1::LoadReport full = Load();
  full.set_submit_credit(0);
  view.Reported(order[0], full, kNow);
  ExpectPlaced(RouteFor(view, {.key = kKey}), order[1], v1::AFFINITY_SPILL);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .may_spill = false}).outcome, RouteOutcome::kNoRoom);
  view.Reported(order[1], full, kNow);
  EXPECT_EQ(RouteFor(view, {.key = kKey}).outcome, RouteOutcome::kNoRoom);
  EXPECT_EQ(RouteFor(view, {}).outcome, RouteOutcome::kNoRoom);
}

TEST(RouterTest, AFollowUpWaitsForAWorkerThatMayComeBack) {
  ClusterView view = ReadyView(2);
  const std::vector<int> order = Order(view);
  view.Detached(order[0], LinkState::kReconnecting);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .may_spill = false}).outcome, RouteOutcome::kNoRoom);
  ExpectPlaced(RouteFor(view, {.key = kKey}), order[1], v1::AFFINITY_REBIND);
  view.Detached(order[0], LinkState::kDown);
  ExpectPlaced(RouteFor(view, {.key = kKey, .may_spill = false}), order[1], v1::AFFINITY_REBIND);
}

TEST(RouterTest, AFollowUpLeavesADrainingWorkerOnlyWithItsJournal) {
  ClusterView view = MakeView(2);
  const std::vector<int> order = Order(view);
  const auto attach = [&](const char* domain, v1::WorkerState state, int index) {
    v1::WorkerHello hello = Hello(view.worker(index).address.id);
    hello.set_journal_domain(domain);
    ASSERT_TRUE(view.Attached(index, hello, kNow).ok());
    v1::LoadReport load = Load();
    load.set_state(state);
    view.Reported(index, load, kNow);
  };
  attach("", v1::WORKER_STATE_DRAINING, order[0]);
  attach("", v1::WORKER_STATE_READY, order[1]);
  ExpectPlaced(RouteFor(view, {.key = kKey, .may_spill = false}), order[0], v1::AFFINITY_HIT);
  ExpectPlaced(RouteFor(view, {.key = kKey, .starts_session = true}), order[1], v1::AFFINITY_REBIND);
  attach("disk", v1::WORKER_STATE_DRAINING, order[0]);
  attach("disk", v1::WORKER_STATE_READY, order[1]);
  ExpectPlaced(RouteFor(view, {.key = kKey, .may_spill = false}), order[1], v1::AFFINITY_REBIND);
}

void Eject(ClusterView& view, int worker) {
  for (int i = 0; i < kFaultsToEject; ++i) view.Faulted(worker, kNow);
  ASSERT_EQ(view.worker(worker).circuit(kNow), Circuit::kOpen);
}

TEST(RouterTest, AnEjectedWorkerIsTakenOnlyForWantOfOthers) {
  ClusterView view = ReadyView(2);
  const std::vector<int> order = Order(view);
  Eject(view, order[0]);
  ExpectPlaced(RouteFor(view, {.key = kKey}), order[1], v1::AFFINITY_REBIND);
  ExpectPlaced(RouteFor(view, {}), order[1], v1::AFFINITY_NEW);
  view.Detached(order[1], LinkState::kDown);
  ExpectPlaced(RouteFor(view, {.key = kKey}), order[0], v1::AFFINITY_HIT);
}

TEST(RouterTest, TheWorkerThatFailedTheRequestIsTakenOnlyForWantOfOthers) {
  ClusterView view = ReadyView(2);
  const std::vector<int> order = Order(view);
  ExpectPlaced(RouteFor(view, {.key = kKey, .avoid = order[0]}), order[1], v1::AFFINITY_REBIND);
  view.Detached(order[1], LinkState::kDown);
  ExpectPlaced(RouteFor(view, {.key = kKey, .avoid = order[0]}), order[0], v1::AFFINITY_HIT);
}

TEST(RouterTest, AFollowUpLeavesAnEjectedWorkerOnlyWithItsJournal) {
  for (const char* journal : {"", "disk"}) {
    ClusterView view = ReadyView(2);
    const std::vector<int> order = Order(view);
    for (int index : order) {
      v1::WorkerHello hello = Hello(view.worker(index).address.id);
      hello.set_journal_domain(journal);
      ASSERT_TRUE(view.Attached(index, hello, kNow).ok());
      view.Reported(index, Load(), kNow);
    }
    Eject(view, order[0]);
    EXPECT_EQ(RouteFor(view, {.key = kKey, .may_spill = false}).worker, *journal == 0 ? order[0] : order[1]);
    view.Detached(order[0], LinkState::kReconnecting);
    if (*journal == 0) {
      EXPECT_EQ(RouteFor(view, {.key = kKey, .may_spill = false}).outcome, RouteOutcome::kNoRoom);
    }
  }
}

TEST(RouterTest, SuspectsAreTriedOneAtATime) {
  ClusterView view = ReadyView(2);
  const std::vector<int> order = Order(view);
  view.SetSuspect(order[0], true);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .suspect = true}).worker, order[1]);
  EXPECT_EQ(RouteFor(view, {.key = kKey}).worker, order[0]) << "others do not care";
  view.SetSuspect(order[1], true);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .suspect = true}).outcome, RouteOutcome::kNoRoom);
  EXPECT_EQ(RouteFor(view, {.suspect = true}).outcome, RouteOutcome::kNoRoom);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .may_spill = false, .suspect = true}).outcome, RouteOutcome::kNoRoom);
}

TEST(RouterTest, WhatMayComeBackIsWaitedFor) {
  ClusterView view = ReadyView(1);
  view.Detached(0, LinkState::kReconnecting);
  EXPECT_EQ(RouteFor(view, {.key = kKey}).outcome, RouteOutcome::kNoRoom);
  EXPECT_EQ(Route(view, {.key = kKey, .model = "other"}, kNow).outcome, RouteOutcome::kNoWorker);
  view.Detached(0, LinkState::kDown);
  EXPECT_EQ(RouteFor(view, {.key = kKey}).outcome, RouteOutcome::kNoWorker);
  EXPECT_EQ(Route(ReadyView(1), {.model = "m"}, kNow + kSuspicionAge).outcome, RouteOutcome::kNoRoom) << "silent for a moment";
}

TEST(RouterTest, WithoutAKeyTheLeastLoadedIsTaken) {
  ClusterView view = ReadyView(3);
  view.Reported(0, Load(3), kNow);
  view.Reported(1, Load(1), kNow);
  view.Reported(2, Load(2), kNow);
  ExpectPlaced(RouteFor(view, {}), 1, v1::AFFINITY_NEW);
}

TEST(RouterTest, ABurstBetweenTwoReportsSpreads) {
  ClusterView view = ReadyView(4);
  for (int i = 0; i < 40; ++i) view.StreamOpened(RouteFor(view, {}).worker);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(view.worker(i).open_streams, 10);
}

TEST(RouterTest, OnlyWorkersWithTheModelAndItsFingerprintServe) {
  ClusterView view = ReadyView(2);
  EXPECT_EQ(Route(view, {.key = kKey, .model = "other"}, kNow).outcome, RouteOutcome::kNoWorker);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .fingerprint = 8}).outcome, RouteOutcome::kNoWorker);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .fingerprint = 7}).outcome, RouteOutcome::kPlaced);
  EXPECT_EQ(RouteFor(view, {.key = kKey, .journal_domain = "elsewhere"}).outcome, RouteOutcome::kNoWorker);
}

TEST(RouterTest, NobodyThereIsNoWorker) {
  EXPECT_EQ(RouteFor(MakeView(2), {.key = kKey}).outcome, RouteOutcome::kNoWorker);
  EXPECT_EQ(RouteFor(MakeView(2), {.key = kKey, .may_spill = false}).outcome, RouteOutcome::kNoWorker);
  EXPECT_EQ(RouteFor(MakeView(2), {}).outcome, RouteOutcome::kNoWorker);
  EXPECT_EQ(SessionOwner(MakeView(2), {.key = kKey, .model = "m"}), -1);
}

TEST(RouterTest, ASessionsOwnerIsItsFirstAttachedRankThatServesItsModel) {
  ClusterView view = ReadyView(3);
  const std::vector<int> order = Order(view);
  EXPECT_EQ(SessionOwner(view, {.key = kKey, .model = "m"}), order[0]);
  view.Detached(order[0], LinkState::kDown);
  EXPECT_EQ(SessionOwner(view, {.key = kKey, .model = "m"}), order[1]);
  v1::WorkerHello hello = Hello(view.worker(order[1]).address.id);
  hello.mutable_models(0)->set_name("other");
  ASSERT_TRUE(view.Attached(order[1], hello, kNow).ok());
  EXPECT_EQ(SessionOwner(view, {.key = kKey, .model = "m"}), order[2]);
  EXPECT_EQ(SessionOwner(view, {.key = kKey, .model = "other"}), order[1]);
  EXPECT_EQ(SessionOwner(view, {.key = kKey}), order[1]) << "each serves one model, and none is named";
  EXPECT_EQ(SessionOwner(view, {.key = kKey, .model = "third"}), -1);
}

}  // namespace
}  // namespace berth::routing
