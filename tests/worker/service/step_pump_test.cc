#include "worker/service/step_pump.h"

#include <memory>
#include <utility>
#include <vector>

#include "grpcpp/completion_queue.h"
#include "gtest/gtest.h"

namespace berth::service {
namespace {

class StepPumpTest : public ::testing::Test {
 protected:
  StepPumpTest() : shard_(std::make_unique<grpc::CompletionQueue>()) {
    shard_.Start();
    pump_ = std::make_unique<StepPump>(ring_, shard_, [this](std::vector<engine::StepOutput> steps) { Take(steps); });
  }
  ~StepPumpTest() override { Stop(); }

  void Push(uint64_t step) { ring_.Push({.step = step}); }
  // Hands on what is in the ring first.
  void Stop() {
    ring_.Close();
    pump_.reset();
    shard_.Stop();
  }
  void Take(const std::vector<engine::StepOutput>& steps) {
    std::vector<uint64_t>& batch = batches_.emplace_back();
    for (const engine::StepOutput& step : steps) batch.push_back(step.step);
    if (batches_.size() > 1) return;
    first_.Notify();
    go_on_.Wait();
  }

  engine::StepRing ring_{16};
  rpc::Shard shard_;
  std::unique_ptr<StepPump> pump_;
  base::Notification first_, go_on_;  // of the first batch
  std::vector<std::vector<uint64_t>> batches_;
};

TEST_F(StepPumpTest, StepsThatEndWhileTheIoThreadIsBusyComeAsOneBatch) {
  Push(1);
  first_.Wait();  // a lone step is not held back
  for (uint64_t step = 2; step <= 9; ++step) Push(step);
  go_on_.Notify();
  Stop();
  EXPECT_EQ(batches_, (std::vector<std::vector<uint64_t>>{{1}, {2, 3, 4, 5, 6, 7, 8, 9}}));
}

}  // namespace
}  // namespace berth::service
