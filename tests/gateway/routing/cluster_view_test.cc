#include "gateway/routing/cluster_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/gateway/routing/cluster_fixture.h"

namespace berth::routing {
namespace {

using ::testing::HasSubstr;

TEST(ClusterViewTest, AWorkerTakesWorkOnceAttachedAndReady) {
  ClusterView view = MakeView(2);
  EXPECT_EQ(view.Find("w1"), 1);
  EXPECT_EQ(view.Find("w2"), -1);
  EXPECT_FALSE(view.CanTakeNew(1, kNow));
  ASSERT_TRUE(view.Attached(1, Hello("w1"), kNow).ok());
  EXPECT_FALSE(view.CanTakeNew(1, kNow)) << "before its first report";
  view.Reported(1, Load(), kNow);
  EXPECT_TRUE(view.CanTakeNew(1, kNow));
  EXPECT_EQ(view.UpCount(), 1);
}

TEST(ClusterViewTest, SilenceStopsPlacementsUntilTheNextFrame) {
  ClusterView view = ReadyView(1);
  EXPECT_TRUE(view.CanTakeNew(0, kNow + absl::Milliseconds(999)));
  EXPECT_FALSE(view.CanTakeNew(0, kNow + absl::Seconds(1)));
  EXPECT_TRUE(view.MayTakeNew(0)) << "in a moment";
  view.Heard(0, kNow + absl::Seconds(2));
  EXPECT_TRUE(view.CanTakeNew(0, kNow + absl::Seconds(2)));
}

TEST(ClusterViewTest, OnlyReadyWorkersTakeNewWork) {
  ClusterView view = ReadyView(1);
  for (v1::WorkerState state : {v1::WORKER_STATE_STARTING, v1::WORKER_STATE_DRAINING, v1::WORKER_STATE_UNHEALTHY}) {
    v1::LoadReport load = Load();
    load.set_state(state);
    view.Reported(0, load, kNow);
    EXPECT_FALSE(view.CanTakeNew(0, kNow)) << state;
    EXPECT_FALSE(view.MayTakeNew(0)) << state;
  }
}

// Faults until the worker is ejected; 0 when that never happens.
int FaultsToEject(ClusterView& view, int worker, absl::Duration now) {
  for (int faults = 1; faults < 100; ++faults) {
    if (view.Faulted(worker, now)) return faults;
  }
  return 0;
}

TEST(ClusterViewTest, FaultsInARowEjectAWorkerForLongerEachTime) {
  ClusterView view = ReadyView(2);
  EXPECT_EQ(FaultsToEject(view, 0, kNow), kFaultsToEject);
  EXPECT_EQ(view.worker(0).circuit(kNow + kFirstEjection - absl::Milliseconds(1)), Circuit::kOpen);
  absl::Duration now = kNow + kFirstEjection;
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kHalfOpen);
  EXPECT_EQ(FaultsToEject(view, 0, now), 1) << "on probation one is enough";
  now += kFirstEjection;
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kOpen);
  now += kFirstEjection;
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kHalfOpen);
  EXPECT_TRUE(view.Succeeded(0));
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kClosed);
  EXPECT_EQ(FaultsToEject(view, 0, now), kFaultsToEject);
}

TEST(ClusterViewTest, ASuccessBetweenFaultsForgivesThem) {
  ClusterView view = ReadyView(2);
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(view.Faulted(0, kNow));
    EXPECT_FALSE(view.Faulted(0, kNow));
    EXPECT_FALSE(view.Succeeded(0)) << "the circuit was closed all the time";
  }
}

TEST(ClusterViewTest, NeverMoreThanHalfAreEjected) {
  ClusterView alone = ReadyView(1);
  EXPECT_EQ(FaultsToEject(alone, 0, kNow), 0);
  ClusterView view = ReadyView(5);
  EXPECT_NE(FaultsToEject(view, 0, kNow), 0);
  EXPECT_NE(FaultsToEject(view, 1, kNow), 0);
  EXPECT_EQ(FaultsToEject(view, 2, kNow), 0);
  EXPECT_EQ(FaultsToEject(view, 2, kNow + kFirstEjection), 1) << "the others are back";
}

// Steps of all workers for so long, ten a second; the worker of index 0 takes `slow`, the others 10 ms. Whether it was ejected.
bool StepAll(ClusterView& view, absl::Duration slow, absl::Duration* now, absl::Duration for_so_long) {
  bool ejected = false;
  for (const absl::Duration end = *now + for_so_long; *now < end; *now += absl::Milliseconds(100)) {
    for (int i = 1; i < view.size(); ++i) EXPECT_FALSE(view.Timed(i, PaceKind::kStep, absl::Milliseconds(10), *now));
    ejected |= view.Timed(0, PaceKind::kStep, slow, *now);
  }
  return ejected;
}

TEST(ClusterViewTest, AWorkerMuchSlowerThanItsPeersIsEjectedUntilItIsQuickAgain) {
  ClusterView view = ReadyView(4);
  absl::Duration now = kNow;
  EXPECT_FALSE(StepAll(view, absl::Milliseconds(40), &now, absl::Seconds(30))) << "not much slower";
  EXPECT_TRUE(StepAll(view, absl::Milliseconds(100), &now, absl::Seconds(9)));
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kOpen);
  EXPECT_FALSE(view.Succeeded(0)) << "a slow worker succeeds, too";
  now += kFirstSlowEjection;
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kHalfOpen);
  EXPECT_TRUE(StepAll(view, absl::Milliseconds(100), &now, absl::Seconds(5))) << "on probation a window is enough";
  now += 2 * kFirstSlowEjection;
  EXPECT_FALSE(StepAll(view, absl::Milliseconds(10), &now, absl::Seconds(3)));
  EXPECT_TRUE(view.Succeeded(0));
  EXPECT_EQ(view.worker(0).circuit(now), Circuit::kClosed);
}

TEST(ClusterViewTest, AWorkerWithSomeLongStepsIsNotSlow) {
  ClusterView view = ReadyView(4);
  absl::Duration now = kNow;
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(StepAll(view, absl::Milliseconds(300), &now, absl::Milliseconds(1500)));
    EXPECT_FALSE(StepAll(view, absl::Milliseconds(10), &now, absl::Milliseconds(500)));
  }
}

TEST(ClusterViewTest, OnlyWorkersOfOneModelAreCompared) {
  ClusterView view = ReadyView(3);
  v1::WorkerHello large = Hello("w0");
  large.mutable_models(0)->set_fingerprint(8);
  ASSERT_TRUE(view.Attached(0, large, kNow).ok());
  absl::Duration now = kNow;
  EXPECT_FALSE(StepAll(view, absl::Milliseconds(100), &now, absl::Seconds(30)));
}

TEST(ClusterViewTest, SlownessEjectsNoMoreThanHalfAndNobodyWhenItIsSwitchedOff) {
  ClusterView alone = ReadyView(1);
  absl::Duration now = kNow;
  EXPECT_FALSE(StepAll(alone, absl::Seconds(1), &now, absl::Seconds(30))) << "nobody to compare with";
  ClusterView view = ReadyView(3);
  EXPECT_FALSE(StepAll(view, absl::Milliseconds(100), &now, absl::Seconds(5)));
  EXPECT_NE(FaultsToEject(view, 2, now), 0);
  EXPECT_FALSE(StepAll(view, absl::Milliseconds(100), &now, absl::Seconds(4))) << "one of three is ejected";
  ClusterView off({{"w0", "host:1"}, {"w1", "host:2"}}, /*slow_factor=*/0);
  EXPECT_FALSE(StepAll(off, absl::Seconds(1), &now, absl::Seconds(30)));
}

TEST(ClusterViewTest, RefusesAHelloOfAnotherWorker) {
  ClusterView view = MakeView(1);
  const absl::Status status = view.Attached(0, Hello("stranger"), kNow);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("stranger"));
  EXPECT_EQ(view.UpCount(), 0);
}

TEST(ClusterViewTest, OfTwoIncarnationsTheNewerWins) {
  ClusterView view = MakeView(1);
  ASSERT_TRUE(view.Attached(0, Hello("w0", 20), kNow).ok());
  EXPECT_FALSE(view.Attached(0, Hello("w0", 19), kNow).ok());
  EXPECT_TRUE(view.Attached(0, Hello("w0", 20), kNow).ok());
  EXPECT_TRUE(view.Attached(0, Hello("w0", 21), kNow).ok());
}

TEST(ClusterViewTest, ADetachedWorkerIsForgottenButItsModelIsKnown) {
  ClusterView view = ReadyView(2);
  view.Detached(0, LinkState::kDown);
  EXPECT_FALSE(view.CanTakeNew(0, kNow));
  EXPECT_EQ(view.UpCount(), 1);
  EXPECT_TRUE(view.KnowsModel("m"));
  EXPECT_TRUE(view.KnowsModel(""));
  EXPECT_FALSE(view.KnowsModel("other"));
  EXPECT_EQ(view.ModelLabel("other"), "other");
  EXPECT_EQ(view.ModelLabel(""), "m");
}

TEST(ClusterViewTest, ModelsOfSeveralWorkersAreListedOnce) {
  ClusterView view = ReadyView(2);
  v1::WorkerHello hello = Hello("w1");
  hello.add_models()->set_name("a");
  ASSERT_TRUE(view.Attached(1, hello, kNow).ok());
  ASSERT_EQ(view.Models().size(), 2u);
  EXPECT_EQ(view.Models()[0].name(), "a");
  EXPECT_EQ(view.Models()[1].name(), "m");
}

TEST(ClusterViewTest, RoomFollowsTheCreditOfTheLastReport) {
  ClusterView view = ReadyView(1);
  v1::LoadReport load = Load();
  load.set_submit_credit(2);
  view.Reported(0, load, kNow);
  view.StreamOpened(0);
  EXPECT_TRUE(view.AnyRoom(kNow));
  view.StreamOpened(0);
  EXPECT_FALSE(view.AnyRoom(kNow));
  view.StreamClosed(0);
  EXPECT_TRUE(view.AnyRoom(kNow));
}

TEST(ClusterViewTest, GatewaysThatShareTheLimitsAreCounted) {
  ClusterView view = ReadyView(2);
  EXPECT_EQ(view.AttachedGateways(), 1);
  v1::LoadReport load = Load();
  load.set_attached_gateways(3);
  view.Reported(1, load, kNow);
  EXPECT_EQ(view.AttachedGateways(), 3);
}

}  // namespace
}  // namespace berth::routing
