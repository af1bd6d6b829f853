// The engine thread over the simulated device.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_executor.h"
#include "worker/engine/engine.h"
#include "worker/runtime/sim_executor.h"

namespace berth::engine {
namespace {

using ::testing::HasSubstr;

constexpr runtime::SimVocabulary kVocabulary = {.begin = 100, .end = 1000};

runtime::SimDeviceOptions DeviceOptions() {
  return {
      .limits = {.slots = 8, .kv_blocks = 64, .max_step_tokens = 64, .max_length = 1024, .max_depth = 2, .vocab_size = 1000},
      .vocabulary = kVocabulary,
      .strict = true};
}

SequenceSpec Spec(SequenceId id, int prompt, int max_tokens) {
  SequenceSpec spec{.id = id, .prompt_length = prompt, .max_tokens = max_tokens};
  for (int i = 0; i < prompt; ++i) spec.tokens.push_back(static_cast<int32_t>((id * 31 + i) % 100));
  return spec;
}

// What the I/O thread does: reads everything and keeps it per sequence.
class Reader {
 public:
  struct Output {
    std::vector<int32_t> tokens;
    FinishReason finish = FinishReason::kNone;
    std::string error;
    int finishes = 0;
  };

  explicit Reader(StepRing& ring) : ring_(ring), thread_([this] { Read(); }) {}
  ~Reader() {
    if (thread_.joinable()) thread_.join();
  }

  Output AwaitEnd(SequenceId id) {
    base::MutexLock lock(mutex_);
    while (outputs_[id].finishes == 0 && !closed_) changed_.Wait(mutex_);
    return outputs_[id];
  }
  void AwaitTokens(SequenceId id, size_t count) {
    base::MutexLock lock(mutex_);
    while (outputs_[id].tokens.size() < count && !closed_) changed_.Wait(mutex_);
  }
  // After the ring was closed.
  std::map<SequenceId, Output> All() {
    thread_.join();
    base::MutexLock lock(mutex_);
    return outputs_;
  }

 private:
  void Read() {
    std::vector<StepOutput> steps;
    while (ring_.Pop(&steps)) {
      base::MutexLock lock(mutex_);
      for (const StepOutput& step : steps) {
        for (const SequenceUpdate& update : step.updates) Apply(update);
      }
      changed_.NotifyAll();
    }
    base::MutexLock lock(mutex_);
    closed_ = true;
    changed_.NotifyAll();
  }

  void Apply(const SequenceUpdate& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Output& output = outputs_[update.id];
    output.tokens.insert(output.tokens.end(), update.tokens.begin(), update.tokens.end());
    if (update.finish == FinishReason::kNone) return;
    ++output.finishes;
    output.finish = update.finish;
    output.error = update.details().error;
    output.tokens.resize(update.output_tokens);
  }

  StepRing& ring_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::map<SequenceId, Output> outputs_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class EngineTest : public ::testing::TestWithParam<int> {
 protected:
  Engine& Start(runtime::SimFaults faults = {}, size_t ring_capacity = 1024) {
    auto executor =
        std::make_unique<runtime::SimExecutor>(runtime::SimExecutorOptions{.device = DeviceOptions(), .faults = faults});
    executor_ = executor.get();
    return StartWith(std::move(executor), ring_capacity);
  }
  Engine& StartWith(std::unique_ptr<Executor> executor, size_t ring_capacity = 1024) {
    engine_ = std::make_unique<Engine>(EngineOptions{.depth = GetParam(), .ring_capacity = ring_capacity}, std::move(executor),
                                       base::SystemClock());
    engine_->Start();
    return *engine_;
  }

  std::unique_ptr<Engine> engine_;
  runtime::SimExecutor* executor_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Depths, EngineTest, ::testing::Values(1, 2));

TEST_P(EngineTest, ManySequencesGetTheTokensTheyGetAlone) {
  Engine& engine = Start();
  Reader reader(engine.output());
  for (SequenceId id = 1; id <= 20; ++id) {
    ASSERT_EQ(engine.Add(Spec(id, 10 * static_cast<int>(id), 30)), absl::OkStatus());
  }
  for (SequenceId id = 1; id <= 20; ++id) {
    const Reader::Output output = reader.AwaitEnd(id);
    EXPECT_EQ(output.finish, FinishReason::kLength);
    EXPECT_EQ(output.tokens, runtime::SimOutput(kVocabulary, Spec(id, 10 * static_cast<int>(id), 30)));
  }
  const EngineStats stats = engine.Stats();
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(stats.generated_tokens, 600);
  EXPECT_EQ(stats.kv_blocks_used, 0);
  absl::Duration since, budget;
  EXPECT_FALSE(engine.StepInFlight(&since, &budget));
  EXPECT_EQ(budget, absl::Seconds(2));
  engine.Stop();
}

TEST_P(EngineTest, CancelAndFinishEndARunningSequence) {
  Engine& engine = Start();
  Reader reader(engine.output());
  ASSERT_EQ(engine.Add(Spec(1, 10, 1000)), absl::OkStatus());
  ASSERT_EQ(engine.Add(Spec(2, 10, 1000)), absl::OkStatus());
  reader.AwaitTokens(1, 3);
  reader.AwaitTokens(2, 5);
  engine.Cancel(1);
  engine.Finish(2, 5);
  EXPECT_EQ(reader.AwaitEnd(1).finish, FinishReason::kCancelled);
  const Reader::Output finished = reader.AwaitEnd(2);
  EXPECT_EQ(finished.finish, FinishReason::kFinished);
  EXPECT_EQ(finished.tokens.size(), 5);
  engine.Cancel(77);  // unknown
  engine.Stop();
}

TEST_P(EngineTest, StopGivesEverySequenceItsLastUpdate) {
  Engine& engine = Start();
  Reader reader(engine.output());
  for (SequenceId id = 1; id <= 30; ++id) ASSERT_EQ(engine.Add(Spec(id, 100, 900)), absl::OkStatus());
  reader.AwaitTokens(1, 1);
  engine.Stop();
  const auto outputs = reader.All();
  ASSERT_EQ(outputs.size(), 30);
  for (const auto& [id, output] : outputs) {
    EXPECT_EQ(output.finishes, 1) << id;
    EXPECT_TRUE(output.finish == FinishReason::kCancelled || output.finish == FinishReason::kLength) << id;
  }
  EXPECT_EQ(engine.Add(Spec(99, 10, 10)).code(), absl::StatusCode::kUnavailable);
}

TEST_P(EngineTest, ADeviceFaultFailsEverySequenceAndIsReportedOnce) {
  auto executor = std::make_unique<testing::FakeExecutor>(DeviceOptions());
  executor->FailAfter(10);
  engine_ = std::make_unique<Engine>(EngineOptions{.depth = GetParam()}, std::move(executor), base::SystemClock());
  int faults = 0;
  absl::Status fault;
  engine_->OnDeviceFault([&](const absl::Status& status) {
    ++faults;
    fault = status;
  });
  // More than there are slots, so that some wait when the device dies.
  for (SequenceId id = 1; id <= 12; ++id) ASSERT_EQ(engine_->Add(Spec(id, 20, 500)), absl::OkStatus());
  Reader reader(engine_->output());
  engine_->Start();
  const auto outputs = reader.All();
  ASSERT_EQ(outputs.size(), 12);
  for (const auto& [id, output] : outputs) {
    EXPECT_EQ(output.finish, FinishReason::kError);
    EXPECT_EQ(output.finishes, 1);
    EXPECT_THAT(output.error, HasSubstr("UNAVAILABLE: device fault: the device fell off the bus"));
  }
  engine_->Stop();
  EXPECT_EQ(faults, 1);
  EXPECT_EQ(fault.code(), absl::StatusCode::kUnavailable);
  const absl::Status refused = engine_->Add(Spec(50, 10, 10));
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("fell off the bus"));
}

// A device that dies while a command comes in.
class DyingExecutor : public testing::FakeExecutor {
 public:
  DyingExecutor() : FakeExecutor(DeviceOptions()) {}
  absl::StatusOr<StepResult> Await() override {
    meanwhile();
    return absl::InternalError("illegal address");
  }
  std::function<void()> meanwhile;
};

TEST_P(EngineTest, ASequenceAcceptedWhileTheDeviceDiesFailsToo) {
  auto executor = std::make_unique<DyingExecutor>();
  DyingExecutor& device = *executor;
  engine_ = std::make_unique<Engine>(EngineOptions{.depth = GetParam()}, std::move(executor), base::SystemClock());
  device.meanwhile = [this] { EXPECT_EQ(engine_->Add(Spec(2, 10, 10)), absl::OkStatus()); };
  ASSERT_EQ(engine_->Add(Spec(1, 10, 10)), absl::OkStatus());
  Reader reader(engine_->output());
  engine_->Start();
  const auto outputs = reader.All();
  ASSERT_EQ(outputs.size(), 2);
  for (const auto& [id, output] : outputs) EXPECT_THAT(output.error, HasSubstr("UNAVAILABLE: device fault: illegal address"));
}

TEST_P(EngineTest, AFullRingMakesTheEngineWaitAndLosesNothing) {
  Engine& engine = Start({}, /*ring_capacity=*/2);
  ASSERT_EQ(engine.Add(Spec(1, 10, 200)), absl::OkStatus());
  // Nobody reads: with both places taken the engine's steps stop.
  while (engine.Stats().ring_full_waits == 0) std::this_thread::yield();
  EXPECT_LE(engine.Stats().steps, 3);
  Reader reader(engine.output());
  EXPECT_EQ(reader.AwaitEnd(1).tokens, runtime::SimOutput(kVocabulary, Spec(1, 10, 200)));
  engine.Stop();
}

TEST_P(EngineTest, AStalledStepIsSeenFromOutside) {
  Engine& engine = Start({.stall_after_tokens = 5});
  Reader reader(engine.output());
  ASSERT_EQ(engine.Add(Spec(1, 10, 20)), absl::OkStatus());
  reader.AwaitTokens(1, 5);
  absl::Duration since, budget;
  while (!engine.StepInFlight(&since, &budget)) std::this_thread::yield();
  EXPECT_LE(since, base::SystemClock().Monotonic());
  EXPECT_GE(budget, absl::Seconds(2));
  executor_->EndStall();
  EXPECT_EQ(reader.AwaitEnd(1).tokens.size(), 20);
  engine.Stop();
  EXPECT_GT(engine.Stats().host_time, absl::ZeroDuration());
}

TEST(EngineTimeTest, StopGivesUpOnAStepPastItsBudget) {
  testing::FakeClock clock;
  auto executor = std::make_unique<runtime::SimExecutor>(
      runtime::SimExecutorOptions{.device = DeviceOptions(), .faults = {.stall_after_tokens = 5}});
  runtime::SimExecutor& device = *executor;
  Engine engine({}, std::move(executor), clock);
  Reader reader(engine.output());
  engine.Start();
  ASSERT_EQ(engine.Add(Spec(1, 10, 20)), absl::OkStatus());
  reader.AwaitTokens(1, 5);
  absl::Duration since, budget;
  while (!engine.StepInFlight(&since, &budget)) std::this_thread::yield();
  clock.Advance(absl::Seconds(3));
  EXPECT_FALSE(engine.Stop());
  device.EndStall();
  EXPECT_EQ(reader.AwaitEnd(1).finish, FinishReason::kCancelled);
}

TEST_P(EngineTest, ADeadlineEndsASequence) {
  Engine& engine = Start();
  Reader reader(engine.output());
  SequenceSpec spec = Spec(1, 10, 1000);
  spec.deadline = base::SystemClock().Monotonic() - absl::Seconds(1);
  ASSERT_EQ(engine.Add(std::move(spec)), absl::OkStatus());
  EXPECT_EQ(reader.AwaitEnd(1).finish, FinishReason::kDeadline);
  engine.Stop();
}

TEST_P(EngineTest, RefusesWhatCanNeverRun) {
  Engine& engine = Start();
  EXPECT_EQ(engine.limits().max_length, 1024);
  EXPECT_EQ(engine.limits().max_depth, GetParam());
  const absl::Status status = engine.Add(Spec(1, 1024, 10));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1024"));
  Reader reader(engine.output());
  ASSERT_EQ(engine.Add(Spec(2, 1023, 10)), absl::OkStatus());
  EXPECT_EQ(reader.AwaitEnd(2).tokens.size(), 1) << "max_tokens is cut to the room left";
  engine.Stop();
}

// A device of which each step takes ten seconds of the clock, and whose plans are kept.
class TimedExecutor : public testing::FakeExecutor {
 public:
  TimedExecutor(const runtime::SimDeviceOptions& options, testing::FakeClock& clock) : FakeExecutor(options), clock_(clock) {}
  void Submit(StepPlan plan) override {
    {
      base::MutexLock lock(mutex_);
      rows_.push_back(static_cast<int>(plan.rows().size()));
      changed_.NotifyAll();
    }
    FakeExecutor::Submit(std::move(plan));
  }
  absl::StatusOr<StepResult> Await() override {
    clock_.Advance(absl::Seconds(10));
    return FakeExecutor::Await();
  }
  int AwaitRows(size_t step) {
    base::MutexLock lock(mutex_);
    while (rows_.size() < step) changed_.Wait(mutex_);
    return rows_[step - 1];
  }

 private:
  testing::FakeClock& clock_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<int> rows_ ABSL_GUARDED_BY(mutex_);  // of each plan
};

runtime::SimDeviceOptions TimedOptions() {
  runtime::SimDeviceOptions options = DeviceOptions();
  options.limits.cost = {.token = 1};
  return options;
}

TEST(EngineTimeTest, TheLastTokenComesWhenItsStepEnds) {
  testing::FakeClock clock;
  Engine engine({.depth = 2}, std::make_unique<TimedExecutor>(TimedOptions(), clock), clock);
  Reader reader(engine.output());
  engine.Start();
  // The last step's end is expected ten seconds later, which nobody lets pass.
  ASSERT_EQ(engine.Add(Spec(1, 10, 3)), absl::OkStatus());
  EXPECT_EQ(reader.AwaitEnd(1).finish, FinishReason::kLength);
  engine.Stop();
}

TEST(EngineTimeTest, WhatComesWhileAStepRunsIsInTheNextOne) {
  testing::FakeClock clock;
  auto executor = std::make_unique<TimedExecutor>(TimedOptions(), clock);
  TimedExecutor& device = *executor;
  Engine engine({.depth = 2}, std::move(executor), clock);
  Reader reader(engine.output());
  engine.Start();
  ASSERT_EQ(engine.Add(Spec(1, 10, 100)), absl::OkStatus());
  // By then a step of each kind was measured, and the third runs.
  reader.AwaitTokens(1, 2);
  ASSERT_EQ(engine.Add(Spec(2, 10, 100)), absl::OkStatus());
  clock.Advance(absl::Seconds(9));
  engine.Cancel(77);  // makes the engine look at the clock
  EXPECT_EQ(device.AwaitRows(4), 2);
  EXPECT_EQ(device.AwaitRows(3), 1);
  engine.Stop();
}

TEST(EngineOptionsTest, EachOptionIsChecked) {
  EXPECT_EQ(EngineOptions{}.Validate(), absl::OkStatus());
  EXPECT_FALSE((EngineOptions{.max_length = -1}.Validate().ok()));
  EXPECT_FALSE((EngineOptions{.max_batch = -1}.Validate().ok()));
  EXPECT_FALSE((EngineOptions{.step_tokens = 1}.Validate().ok()));
  EXPECT_FALSE((EngineOptions{.depth = 0}.Validate().ok()));
  EXPECT_FALSE((EngineOptions{.ring_capacity = 0}.Validate().ok()));
}

}  // namespace
}  // namespace berth::engine
