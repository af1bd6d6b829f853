#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/test_worker.h"
#include "tests/worker/service/core_fixture.h"

namespace berth::worker {
namespace {

using berth::testing::ChatSpec;
using berth::testing::CollectingSink;
using berth::testing::CoreFixture;
using berth::testing::FakeClock;
using berth::testing::GatedJournal;
using berth::testing::Outcome;
using berth::testing::TestLink;
using berth::testing::TestWorker;

TEST(WorkerTest, InfoAndModels) {
  TestWorker worker;
  const v1::GetWorkerInfoResponse info = worker.Info();
  EXPECT_EQ(info.worker_id(), "worker-0");
  EXPECT_TRUE(info.test_engine());
  EXPECT_EQ(info.load().slots(), 16);
  grpc::ClientContext context;
  v1::GetModelRequest request;
  request.set_name("nobody");
  v1::GetModelResponse response;
  EXPECT_EQ(worker.models->GetModel(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(WorkerTest, ADrainRefusesNewWorkAndReportsUntilNothingRuns) {
  WorkerOptions options = TestWorker::Options();
  TestWorker worker(options);
  TestLink link(worker, "g1");
  ASSERT_TRUE(link.Next());
  grpc::ClientContext context;
  auto drain = worker.admin->Drain(&context, {});
  v1::DrainResponse report;
  ASSERT_TRUE(drain->Read(&report));
  EXPECT_EQ(report.state(), v1::WORKER_STATE_DRAINING);
  EXPECT_EQ(report.running(), 0);
  EXPECT_FALSE(drain->Read(&report));
  EXPECT_TRUE(drain->Finish().ok());
  ASSERT_TRUE(link.Until([&] { return link.frame.load().state() == v1::WORKER_STATE_DRAINING; }));
  grpc::ClientContext undrain_context;
  v1::UndrainResponse undrained;
  ASSERT_TRUE(worker.admin->Undrain(&undrain_context, {}, &undrained).ok());
  EXPECT_EQ(undrained.state(), v1::WORKER_STATE_READY);
}

v1::GenerationSpec SessionTurn(const std::string& request_id, bool start) {
  v1::GenerationSpec spec = ChatSpec(request_id, "hello", 5);
  spec.set_session_id("s");
  spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  spec.mutable_session()->set_start(start);
  return spec;
}

TEST(WorkerTest, ADrainingWorkerKeepsOnlySessionsThatNobodyElseCanRead) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/berth_drain_", getpid());
  for (const bool shared : {false, true}) {
    WorkerOptions options = TestWorker::Options();
    options.shutdown_grace_seconds = 30;
    if (shared) options.journal = "sqlite:" + path;
    TestWorker worker(options);
    auto link = std::make_unique<TestLink>(worker, "g1");
    ASSERT_TRUE(link->Next());
    ASSERT_TRUE(worker.Stream(SessionTurn("start", true)).error.ok());
    grpc::ClientContext context;
    v1::DrainResponse report;
    ASSERT_TRUE(worker.admin->Drain(&context, {})->Read(&report));
    ASSERT_EQ(report.state(), v1::WORKER_STATE_DRAINING);
    EXPECT_TRUE(worker.Stream(ChatSpec("late", "hello", 5)).error.ok()) << "a gateway may not know yet";
    link.reset();
    absl::Status refused;
    for (int i = 0; refused.ok(); ++i) refused = worker.Stream(ChatSpec(absl::StrCat("new", i), "hello", 5)).error;
    EXPECT_EQ(rpc::Reason(refused), "DRAINING");
    const absl::Status follow_up = worker.Stream(SessionTurn("follow", false)).error;
    EXPECT_EQ(rpc::Reason(follow_up), shared ? "DRAINING" : "") << follow_up;
  }
  std::filesystem::remove(path);
}

// A worker whose fourth step does not end.
class WorkerStatusTest : public ::testing::Test {
 protected:
  ~WorkerStatusTest() override {
    worker_.device->EndStall();
    while (StepInFlight()) std::this_thread::yield();
    worker_.Stop();
  }

  bool StepInFlight() {
    absl::Duration since, budget;
    return worker_.engine.StepInFlight(&since, &budget);
  }
  // Returns when the status has judged the step so often at this time.
  void AwaitWatches(int count) { clock_.AwaitReads(count + 1); }

  // The fake time for the status alone, which reads it once a watch.
  class WatchClock : public base::Clock {
   public:
    absl::Time Now() const override { return time.Now(); }
    absl::Duration Monotonic() const override {
      const absl::Duration now = time.Monotonic();
      base::MutexLock lock(mutex_);
      ++reads_;
      read_.NotifyAll();
      return now;
    }
    void AwaitReads(int more) {
      base::MutexLock lock(mutex_);
      for (const int end = reads_ + more; reads_ < end;) read_.Wait(mutex_);
    }
    FakeClock time;

   private:
    mutable base::Mutex mutex_;
    mutable base::CondVar read_;
    mutable int reads_ ABSL_GUARDED_BY(mutex_) = 0;
  };
  WatchClock clock_;
  FakeClock& time_ = clock_.time;
  CoreFixture worker_{"w", std::make_shared<GatedJournal::State>(), {.stall_after_tokens = 3}, time_};
  rpc::HealthService health_;
  service::WorkerStatus status_{{},
                                {.core = worker_.core,
                                 .engine = worker_.engine,
                                 .sessions = worker_.sessions,
                                 .health = health_,
                                 .shard = worker_.shard,
                                 .clock = clock_}};
};

TEST_F(WorkerStatusTest, AProcessThatStoodStillForgivesItsStepUntilThatHasHadItsTime) {
  worker_.OnShard([&] { status_.Start(); });
  CollectingSink sink;
  worker_.Submit(ChatSpec("r", "hello", 20), sink);
  worker_.AwaitTokens(3);
  while (!StepInFlight()) std::this_thread::yield();
  time_.Advance(absl::Seconds(5));
  AwaitWatches(2);
  EXPECT_EQ(status_.state(), v1::WORKER_STATE_READY);
  EXPECT_FALSE(sink.ended.HasBeenNotified());
  for (int i = 0; i < 5; ++i) {
    time_.Advance(absl::Milliseconds(500));
    AwaitWatches(1);
  }
  EXPECT_EQ(status_.state(), v1::WORKER_STATE_UNHEALTHY);
  sink.ended.Wait();
  EXPECT_EQ(rpc::Reason(sink.error), "WORKER_LOST");
}

TEST_F(WorkerStatusTest, AnotherDrainKeepsTheFirstOnesCallback) {
  int drained = 0;
  worker_.OnShard([&] {
    status_.Start();
    status_.Drain([&] { ++drained; });
    status_.Drain();
    status_.Drain([&] { ++drained; });
    EXPECT_EQ(drained, 0);
    status_.OnUnlinked();
  });
  EXPECT_EQ(drained, 2);
}

TEST(WorkerTest, LogLevelsAreChecked) {
  TestWorker worker;
  grpc::ClientContext context;
  v1::SetLogLevelRequest request;
  request.set_level("loud");
  v1::SetLogLevelResponse response;
  const grpc::Status status = worker.admin->SetLogLevel(&context, request, &response);
  EXPECT_THAT(rpc::FieldViolations(rpc::FromGrpc(status)), ::testing::ElementsAre(::testing::Pair("level", ::testing::_)));
}

TEST(WorkerTest, AStopHandsRunningStreamsBack) {
  TestWorker worker;
  TestLink link(worker, "g1");
  link.Submit(1, ChatSpec("r", "hello", 4000));
  ASSERT_TRUE(link.Until([&] { return link.streams[1].tokens[0].size() > 3; }));
  std::thread stop([&] { worker.worker->Stop(); });
  EXPECT_EQ(rpc::Reason(link.Await(1).error), "DRAINING");
  EXPECT_FALSE(link.End().ok());
  stop.join();
}

TEST(WorkerTest, BadOptionsAreOneClearError) {
  const auto error = [](auto change) {
    WorkerOptions options = TestWorker::Options();
    change(options);
    return std::string(Worker::Start(options, [] {}).status().message());
  };
  EXPECT_THAT(error([](auto& o) { o.sim.enabled = false; }), ::testing::HasSubstr("--model"));
  EXPECT_THAT(error([](auto& o) { o.host = "0.0.0.0"; }), ::testing::HasSubstr("--tls-cert"));
  EXPECT_THAT(error([](auto& o) { o.depth = -1; }), ::testing::HasSubstr("--depth"));
  EXPECT_THAT(error([](auto& o) { o.journal = "redis"; }), ::testing::HasSubstr("--journal"));
  const std::string hides_password = error([](auto& o) { o.journal = "redis://:secret@cache:0"; });
  EXPECT_THAT(hides_password,
              ::testing::AllOf(::testing::HasSubstr("cache:0"), ::testing::Not(::testing::HasSubstr("secret"))));
  EXPECT_THAT(error([](auto& o) {
                o.journal = "rediss://cache";
                o.journal_tls.cert_file = "x.pem";
              }),
              ::testing::HasSubstr("--journal-key"));
  EXPECT_THAT(error([](auto& o) { o.journal = "sqlite:/nonexistent/x.db"; }), ::testing::HasSubstr("/nonexistent/x.db"));
  EXPECT_THAT(error([](auto& o) { o.worker_id = "a/b"; }), ::testing::HasSubstr("--worker-id"));
  EXPECT_THAT(error([](auto& o) {
                o.sim.enabled = false;
                o.model = "/nonexistent/model.gguf";
              }),
              ::testing::HasSubstr("/nonexistent/model.gguf"));
  EXPECT_THAT(error([](auto& o) { o.log_level = "loud"; }), ::testing::HasSubstr("loud"));
}

TEST(WorkerTest, AStartThatCannotWatchItsKeysFileFails) {
  const std::filesystem::path folder = absl::StrCat(::testing::TempDir(), "/berth_keys_", getpid());
  std::filesystem::create_directory(folder);
  WorkerOptions options = TestWorker::Options();
  options.api_keys.file = folder / "keys";
  ASSERT_EQ(mkfifo(options.api_keys.file.c_str(), 0600), 0);
  // The folder goes away while the worker reads the keys.
  std::thread writer([&] {
    std::ofstream keys(options.api_keys.file);
    std::filesystem::remove_all(folder);
    keys << "tenant t\nkey sha256:" << std::string(64, 'a') << " t\n";
  });
  EXPECT_THAT(std::string(Worker::Start(options, [] {}).status().message()), ::testing::HasSubstr("cannot watch /"));
  writer.join();
}

TEST(WorkerTest, AnOccupiedPortIsOneClearError) {
  TestWorker first;
  WorkerOptions options = TestWorker::Options();
  options.port = first.port;
  EXPECT_THAT(std::string(Worker::Start(options, [] {}).status().message()), ::testing::HasSubstr(std::to_string(first.port)));
}

}  // namespace
}  // namespace berth::worker
