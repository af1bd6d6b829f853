#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <random>

#include "base/clock.h"
#include "kernels/cuda/device.h"
#include "tests/worker/runtime/cuda_model.h"
#include "worker/engine/scheduler.h"

// Random requests at full load on a GPU, for a while and for five minutes: nothing is lost, nothing leaks.

namespace berth::runtime {
namespace {

using engine::FinishReason;
using engine::SequenceId;
using engine::SequenceSpec;

constexpr int32_t kPoison = kShape.vocab - 1;  // its embedding is a NaN
constexpr int kLength = 512;

size_t ResidentBytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

class CudaSoakTest : public CudaModelTest {
 protected:
  CudaSoakTest() {
    options_.session_len = kLength;
    options_.kv_bytes = 30 * KvBlockBytes(model_.spec, options_.dtype);  // one for each slot
    TinyModel::Row(model_.weights.embed, kPoison)[0] = std::numeric_limits<float>::quiet_NaN();
  }

  void Soak(absl::Duration time);

  void Start() {
    auto executor = MakeExecutor(options_);
    ASSERT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
    const engine::ExecutorLimits limits = executor_->limits();
    scheduler_ = std::make_unique<engine::Scheduler>(
        engine::SchedulerOptions{.slots = limits.slots, .kv_blocks = limits.kv_blocks, .step_tokens = 96});
  }

  // Short and long, of every kind of sampling, with stop tokens, priorities and, seldom, a NaN.
  SequenceSpec RandomRequest() {
    SequenceSpec spec = kinds_[random_() % kinds_.size()];
    spec.id = next_id_++;
    if (random_() % 8 == 0) {
      spec.tokens.clear();
      spec.prompt_length = static_cast<int>(1 + random_() % (kLength - 256));
      for (int i = 0; i < spec.prompt_length; ++i) spec.tokens.push_back(static_cast<int32_t>(random_() % kPoison));
    }
    for (int32_t& token : spec.tokens) token %= kPoison;
    spec.logit_bias.emplace_back(kPoison, -std::numeric_limits<float>::infinity());
    if (random_() % 64 == 0) spec.tokens[random_() % spec.tokens.size()] = kPoison;
    spec.max_tokens = static_cast<int>(1 + random_() % (random_() % 2 == 0 ? 256 : 32));
    spec.priority = static_cast<int>(random_() % 3);
    if (random_() % 4 == 0) spec.stop_tokens = {static_cast<int32_t>(random_() % 8), 20};
    if (random_() % 4 == 0) spec.min_tokens = spec.max_tokens / 2;
    return spec;
  }

  void Disturb() {
    if (open_.empty()) return;
    const auto victim = std::next(open_.begin(), random_() % open_.size())->first;
    if (random_() % 32 == 0) scheduler_->Cancel(victim);
    if (random_() % 32 == 0) scheduler_->Finish(victim, static_cast<int>(random_() % 20));
  }

  // Plans as far ahead as the executor goes, then ends one step.
  void Step() {
    while (in_flight_ < executor_->limits().max_depth) {
      engine::StepPlan plan = scheduler_->Plan(absl::ZeroDuration());
      if (plan.empty()) break;
      executor_->Submit(std::move(plan));
      ++in_flight_;
    }
    std::vector<engine::SequenceUpdate> updates = scheduler_->TakeUpdates();
    if (in_flight_ > 0) {
      const auto result = executor_->Await();
      ASSERT_TRUE(result.ok()) << result.status();
      --in_flight_;
      for (engine::SequenceUpdate& update : scheduler_->Commit(*result)) updates.push_back(std::move(update));
      ++steps_;
    }
    for (const engine::SequenceUpdate& update : updates) {
      tokens_ += update.tokens.size();
      if (update.finish == FinishReason::kNone) continue;
      ++ended_[update.finish];
      ASSERT_TRUE(open_.contains(update.id)) << "sequence " << update.id << " ended twice";
      const bool poisoned = open_.at(update.id);
      EXPECT_TRUE(update.finish != FinishReason::kError || poisoned) << update.details().error;
      open_.erase(update.id);
    }
    const absl::Status sound = scheduler_->CheckInvariants();
    ASSERT_TRUE(sound.ok()) << "step " << steps_ << ": " << sound;
  }

  std::mt19937 random_{5};
  const std::vector<SequenceSpec> kinds_ = MixedRequests(32);
  std::unique_ptr<engine::Executor> executor_;
  std::unique_ptr<engine::Scheduler> scheduler_;
  std::map<SequenceId, bool> open_;  // whether it has a NaN coming
  std::map<FinishReason, int64_t> ended_;
  SequenceId next_id_ = 1;
  int in_flight_ = 0;
  int64_t steps_ = 0, tokens_ = 0;
};

void CudaSoakTest::Soak(absl::Duration time) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const absl::Duration end = base::SystemClock().Monotonic() + time;
  size_t device_free = 0, resident = 0;
  while (base::SystemClock().Monotonic() < end) {
    while (open_.size() < 48) {
      SequenceSpec spec = RandomRequest();
      open_[spec.id] = std::count(spec.tokens.begin(), spec.tokens.end(), kPoison) > 0;
      scheduler_->Add(std::move(spec));
    }
    Disturb();
    ASSERT_NO_FATAL_FAILURE(Step());
    if (steps_ == 2000) {
      device_free = kernels::GetCudaMemory(options_.device)->free;
      resident = ResidentBytes();
    }
  }
  while (!open_.empty()) ASSERT_NO_FATAL_FAILURE(Step());
  while (in_flight_ > 0) ASSERT_NO_FATAL_FAILURE(Step());
  const engine::EngineStats stats = scheduler_->stats();
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(stats.kv_blocks_used, 0);
  EXPECT_GT(stats.preemptions, 0u);
  for (const FinishReason reason : {FinishReason::kStopToken, FinishReason::kLength, FinishReason::kFinished,
                                    FinishReason::kCancelled, FinishReason::kError}) {
    EXPECT_GT(ended_[reason], 0) << "reason " << static_cast<int>(reason);
  }
  if (steps_ <= 2000) GTEST_SKIP() << "too short to look for leaks: " << steps_ << " steps";
  EXPECT_EQ(kernels::GetCudaMemory(options_.device)->free, device_free);
  EXPECT_LT(ResidentBytes(), resident + (16 << 20));
  std::printf("%lld steps, %lld tokens, %lld requests, %llu preemptions, %lld bytes more of host memory\n",
              static_cast<long long>(steps_), static_cast<long long>(tokens_), static_cast<long long>(next_id_ - 1),
              static_cast<unsigned long long>(stats.preemptions), static_cast<long long>(ResidentBytes() - resident));
}

TEST_F(CudaSoakTest, NothingIsLostAndNothingLeaks) { Soak(absl::Seconds(20)); }
TEST_F(CudaSoakTest, NorInFiveMinutes) { Soak(absl::Minutes(5)); }

}  // namespace
}  // namespace berth::runtime
