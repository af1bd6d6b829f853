#include "worker/runtime/cpu_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/runtime/tiny_model.h"

namespace berth::runtime {
namespace {

using testing::HasSubstr;

// Every look at it takes `step`.
class TickingClock : public base::Clock {
 public:
  explicit TickingClock(absl::Duration step) : step_(step) {}
  absl::Time Now() const override { return absl::UnixEpoch(); }
  absl::Duration Monotonic() const override { return now_ += step_; }

 private:
  const absl::Duration step_;
  mutable absl::Duration now_;
};

class CpuExecutorTest : public testing::Test {
 protected:
  absl::StatusOr<engine::ExecutorLimits> Limits(CpuExecutorOptions options, absl::Duration warm_up = absl::Milliseconds(1)) {
    if (options.kv_blocks == 0 && options.kv_bytes == CpuExecutorOptions{}.kv_bytes) options.kv_blocks = 16;
    auto executor = MakeCpuExecutor({model_.spec, model_.weights, model_.spec.vocab}, options, TickingClock(warm_up));
    if (!executor.ok()) return executor.status();
    return (*executor)->limits();
  }

  std::string Error(const CpuExecutorOptions& options) {
    const absl::Status status = Limits(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }

  TinyModel model_;  // a KV block in f32 takes 2 layers * 2 heads * 64 tokens * 2 * 16 dims * 4 bytes = 32 KiB
};

TEST_F(CpuExecutorTest, KvBlocksFollowFromTheBytes) {
  EXPECT_EQ(Limits({.kv_bytes = 10 * 32768 + 5})->kv_blocks, 10);
  EXPECT_EQ(Limits({.kv_bytes = 10 * 32768, .kv_dtype = kernels::DType::kBF16})->kv_blocks, 20);
  EXPECT_EQ(Limits({.kv_bytes = 1, .kv_blocks = 3})->kv_blocks, 3);
  EXPECT_THAT(Error({.kv_bytes = 32767}), HasSubstr("kv_bytes 32767 is less than one KV block of this model, 32768 bytes"));
}

TEST_F(CpuExecutorTest, LengthIsBoundedByModelPoolAndOption) {
  EXPECT_EQ(Limits({})->max_length, 512);
  EXPECT_EQ(Limits({.session_len = 100})->max_length, 100);
  EXPECT_EQ(Limits({.kv_blocks = 3})->max_length, 192);
  EXPECT_THAT(Error({.session_len = 513}), HasSubstr("session_len 513 exceeds the model's context length 512"));
}

TEST_F(CpuExecutorTest, ASlowMachineGetsASmallerStep) {
  EXPECT_EQ(Limits({}, absl::Milliseconds(1))->max_step_tokens, 128);
  EXPECT_EQ(Limits({.max_step_tokens = 512}, absl::Milliseconds(50))->max_step_tokens, 256);  // 64 tokens in 50 ms
  EXPECT_EQ(Limits({}, absl::Milliseconds(150))->max_step_tokens, 80);
  EXPECT_EQ(Limits({.slots = 4}, absl::Seconds(10))->max_step_tokens, 16);
  EXPECT_EQ(Limits({.slots = 24}, absl::Seconds(10))->max_step_tokens, 24) << "every slot decodes in every step";
}

TEST_F(CpuExecutorTest, BadOptionsAreNamed) {
  EXPECT_THAT(Error({.threads = 0}), HasSubstr("threads 0"));
  EXPECT_THAT(Error({.slots = -1}), HasSubstr("slots -1"));
  EXPECT_THAT(Error({.kv_blocks = -2}), HasSubstr("kv_blocks -2"));
  EXPECT_THAT(Error({.kv_dtype = kernels::DType::kU8}), HasSubstr("kv_dtype u8"));
  EXPECT_THAT(Error({.max_step_tokens = 0}), HasSubstr("max_step_tokens 0"));
  EXPECT_THAT(Error({.session_len = -1}), HasSubstr("session_len -1"));
}

TEST_F(CpuExecutorTest, TheWarmUpLeavesNoTrace) {
  auto executor = MakeCpuExecutor({model_.spec, model_.weights, 160}, {.slots = 1, .kv_blocks = 2}, base::SystemClock());
  auto run = [&](uint64_t step) {
    engine::StepPlanBuilder plan(step);
    plan.Admit({.slot = 0, .generation = 1}, {.prompt_length = 2, .sampling = {.temperature = 0}}, {5, 6});
    plan.Block({.slot = 0, .block = 1});
    plan.Row({.slot = 0, .generation = 1, .sample = 1}, {5, 6});
    (*executor)->Submit(plan.Build());
    return (*executor)->Await()->rows.at(0).token;
  };
  const int32_t first = run(1);
  EXPECT_EQ(run(2), first);
}

}  // namespace
}  // namespace berth::runtime
