#include "gateway/relay/worker_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "gateway/routing/cluster_view.h"
#include "tests/gateway/relay/fake_time.h"
#include "tests/gateway/relay/fake_worker.h"

namespace berth::relay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WorkerLinkTest : public ::testing::Test, public WorkerLink::Owner {
 protected:
  absl::Status OnHello(int, const v1::WorkerHello&, bool same) override {
    log_.push_back(same ? "hello same" : "hello");
    return answer_;
  }
  void OnFrame(int, v1::AttachResponse& frame) override { log_.push_back("frame " + std::to_string(frame.frame())); }
  void OnBroken(int) override { log_.push_back("broken"); }
  void OnLost(int, WorkerLink::Loss, const absl::Status& status) override {
    log_.push_back("lost");
    why_ = status;
  }
  std::vector<std::string> TakeLog() { return std::exchange(log_, {}); }

  FakeTime time_;
  FakeWorkers workers_;
  const LinkFactory factory_ = workers_.Factory();
  absl::Status answer_, why_;
  std::vector<std::string> log_;
  WorkerLink link_{
      {.gateway_id = "g", .clock = time_, .timers = time_, .factory = factory_, .owner = *this}, 0, {"w", "host:1"}};
};

TEST_F(WorkerLinkTest, SaysHelloAndAttaches) {
  link_.Open();
  workers_.Writable("w");
  EXPECT_EQ(workers_.hello("w").gateway_id(), "g");
  EXPECT_GT(workers_.hello("w").epoch(), absl::ToUnixMicros(time_.Now() - absl::Seconds(1)));
  EXPECT_FALSE(workers_.hello("w").has_expected_incarnation());
  EXPECT_FALSE(link_.attached());
  workers_.Attach("w");
  EXPECT_TRUE(link_.attached());
  EXPECT_THAT(TakeLog(), ElementsAre("hello", "frame 1"));
}

TEST_F(WorkerLinkTest, FramesThatDoNotFollowBreakTheLink) {
  link_.Open();
  workers_.Attach("w");
  v1::AttachResponse frame = workers_.Frame("w");
  frame.set_frame(5);
  workers_.Send("w", frame);
  EXPECT_FALSE(link_.attached());
}

TEST_F(WorkerLinkTest, FramesOfAnotherEpochAreDropped) {
  link_.Open();
  workers_.Attach("w");
  TakeLog();
  v1::AttachResponse frame = workers_.Frame("w");
  frame.set_epoch(17);
  workers_.Send("w", frame);
  EXPECT_THAT(TakeLog(), IsEmpty());
  EXPECT_TRUE(link_.attached());
}

TEST_F(WorkerLinkTest, AWorkerThatDoesNotBeginWithItsHelloIsRefused) {
  link_.Open();
  workers_.Writable("w");
  workers_.Send("w", workers_.Frame("w"));
  EXPECT_FALSE(link_.attached());
  EXPECT_THAT(TakeLog(), ElementsAre("lost"));
  EXPECT_THAT(std::string(why_.message()), HasSubstr("hello"));
}

TEST_F(WorkerLinkTest, ARefusedHelloIsTriedAgainLater) {
  answer_ = absl::FailedPreconditionError("stranger");
  link_.Open();
  workers_.Attach("w");
  EXPECT_FALSE(link_.attached());
  EXPECT_FALSE(workers_.IsOpen("w"));
  answer_ = absl::OkStatus();
  time_.Advance(kMaxBackoff);
  ASSERT_TRUE(workers_.IsOpen("w"));
  workers_.Attach("w");
  EXPECT_TRUE(link_.attached());
}

TEST_F(WorkerLinkTest, ABreakIsMendedAtOnceWithTheSameIncarnation) {
  link_.Open();
  workers_.Attach("w", /*start=*/5);
  const uint64_t epoch = workers_.hello("w").epoch();
  TakeLog();
  workers_.Break("w");
  EXPECT_THAT(TakeLog(), ElementsAre("broken"));
  ASSERT_TRUE(workers_.IsOpen("w"));
  workers_.Writable("w");
  EXPECT_EQ(workers_.hello("w").epoch(), epoch + 1);
  EXPECT_EQ(workers_.hello("w").expected_incarnation().start_time_micros(), 5);
  workers_.Attach("w", 5);
  EXPECT_THAT(TakeLog(), ElementsAre("hello same", "frame 1"));
}

TEST_F(WorkerLinkTest, AnotherIncarnationLosesTheOldOne) {
  link_.Open();
  workers_.Attach("w", 5);
  workers_.Break("w");
  TakeLog();
  workers_.Attach("w", 6);
  EXPECT_THAT(TakeLog(), ElementsAre("lost", "hello", "frame 1"));
  EXPECT_TRUE(link_.attached());
}

TEST_F(WorkerLinkTest, AWorkerThatDoesNotComeBackInTimeIsLost) {
  link_.Open();
  workers_.Attach("w");
  workers_.Break("w");
  TakeLog();
  time_.Advance(kReattachWindow - absl::Milliseconds(1));
  EXPECT_THAT(TakeLog(), IsEmpty());
  time_.Advance(absl::Milliseconds(1));
  EXPECT_THAT(TakeLog(), ElementsAre("lost"));
}

TEST_F(WorkerLinkTest, ARefusedConnectionLosesAtOnce) {
  link_.Open();
  workers_.Attach("w");
  workers_.Break("w");
  workers_.Break("w");
  EXPECT_THAT(TakeLog(), ElementsAre("hello", "frame 1", "broken", "lost"));
}

TEST_F(WorkerLinkTest, BacksOffWhileNobodyAnswers) {
  link_.Open();
  for (int i = 0; i < 20; ++i) {
    if (workers_.IsOpen("w")) workers_.Break("w");
    time_.Advance(absl::Milliseconds(500));
  }
  EXPECT_GT(workers_.attempts("w"), 5);
  EXPECT_LT(workers_.attempts("w"), 15);
}

TEST_F(WorkerLinkTest, AHelloThatNeverComesTimesOut) {
  link_.Open();
  workers_.Writable("w");
  time_.Advance(kHelloTimeout);
  EXPECT_THAT(TakeLog(), ElementsAre("lost"));
  EXPECT_FALSE(workers_.IsOpen("w"));
}

TEST_F(WorkerLinkTest, SilenceLosesTheWorker) {
  link_.Open();
  workers_.Attach("w");
  for (int i = 0; i < 50; ++i) {
    time_.Advance(absl::Milliseconds(100));
    workers_.SendLoad("w", FakeWorkers::Load());
  }
  TakeLog();
  time_.Advance(routing::kFailureAge);
  EXPECT_THAT(TakeLog(), ElementsAre("lost"));
  EXPECT_THAT(std::string(why_.message()), HasSubstr("silent"));
}

TEST_F(WorkerLinkTest, AGatewayThatStoodStillDoesNotBlameTheWorker) {
  link_.Open();
  workers_.Attach("w");
  TakeLog();
  time_.Stall(absl::Seconds(30));
  time_.Advance(absl::ZeroDuration());
  EXPECT_THAT(TakeLog(), IsEmpty());
  time_.Advance(routing::kFailureAge);
  EXPECT_THAT(TakeLog(), ElementsAre("lost"));
}

TEST_F(WorkerLinkTest, AGatewayThatIsAlwaysLateLosesADeadWorkerAllTheSame) {
  link_.Open();
  workers_.Attach("w");
  TakeLog();
  const auto late = [&] {
    time_.Stall(absl::Seconds(4));
    time_.Advance(absl::ZeroDuration());
    return TakeLog();
  };
  EXPECT_THAT(late(), IsEmpty());
  workers_.SendLoad("w", FakeWorkers::Load());
  EXPECT_THAT(TakeLog(), ElementsAre("frame 2"));
  EXPECT_THAT(late(), IsEmpty()) << "it was heard in between";
  EXPECT_THAT(late(), ElementsAre("lost"));
}

TEST_F(WorkerLinkTest, AcknowledgesSoonThoughNothingMoreComes) {
  link_.Open();
  workers_.Attach("w");
  workers_.TakeWritten("w");
  time_.Advance(absl::Milliseconds(10));
  workers_.SendLoad("w", FakeWorkers::Load());
  EXPECT_THAT(workers_.TakeWritten("w"), IsEmpty());
  time_.Advance(absl::Milliseconds(50));
  const auto written = workers_.TakeWritten("w");
  ASSERT_EQ(written.size(), 1);
  EXPECT_EQ(written[0].acknowledged_frame(), 2);
}

TEST_F(WorkerLinkTest, AcknowledgesEvery50MillisecondsNotEveryStep) {
  link_.Open();
  workers_.Attach("w");
  workers_.TakeWritten("w");
  uint64_t acknowledged = 0;
  int frames = 0;
  for (int i = 0; i < 100; ++i) {
    time_.Advance(absl::Milliseconds(10));
    workers_.SendLoad("w", FakeWorkers::Load());
    for (const v1::AttachRequest& frame : workers_.TakeWritten("w")) {
      EXPECT_GT(frame.acknowledged_frame(), acknowledged);
      acknowledged = frame.acknowledged_frame();
      ++frames;
    }
  }
  EXPECT_NEAR(frames, 20, 2);
  EXPECT_GE(acknowledged, 96u);
}

TEST_F(WorkerLinkTest, AcknowledgesEarlyWhenMuchCame) {
  link_.Open();
  workers_.Attach("w");
  workers_.TakeWritten("w");
  v1::AttachResponse frame = workers_.Frame("w");
  frame.add_events()->mutable_delta()->set_text(std::string(200 << 10, 'x'));
  workers_.Send("w", frame);
  EXPECT_EQ(workers_.TakeWritten("w").size(), 1u);
}

TEST_F(WorkerLinkTest, ClosingStopsEverything) {
  link_.Open();
  workers_.Attach("w");
  link_.Close();
  EXPECT_FALSE(workers_.IsOpen("w"));
  EXPECT_EQ(time_.timers(), 0u);
}

}  // namespace
}  // namespace berth::relay
