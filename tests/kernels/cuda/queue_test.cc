#include <gmock/gmock.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/device.h"
#include "tests/kernels/cuda/twin_tensors.h"

// What a runner needs of the CUDA backend beside the stage ops: copies, marks, recordings, and tokens that stay on the device.

namespace berth::kernels {
namespace {

class CudaQueueTest : public TwinTensors {
 protected:
  std::vector<int32_t> IntsOf(const Tensor& device) {
    std::vector<int32_t> values(device.elements());
    Copy(values.data(), device.raw(), values.size() * 4);
    return values;
  }
};

TEST_P(CudaQueueTest, CopiesTakeTheirTurnAndMarksWaitForThem) {
  const auto pinned = MakePinnedAllocator(0);
  Buffer from = *pinned->Allocate(4096), to = *pinned->Allocate(4096), device = *allocator_->Allocate(4096);
  std::memset(from.data(), 7, 4096);
  cuda_->Upload(device.data(), from.data(), 4096);
  cuda_->Download(to.data(), device.data(), 4096);
  cuda_->Mark(1);
  ASSERT_TRUE(cuda_->Wait(1).ok());
  EXPECT_EQ(std::memcmp(from.data(), to.data(), 4096), 0);
}

TEST_P(CudaQueueTest, AdmitMatchesTheCpu) {
  const int vocab = 1000;
  std::vector<SlotSampling> params(3);
  params[0] = {.temperature = 0.5f, .seed = uint64_t{1} << 40};
  params[1] = {.top_k = 3, .choice = 2};
  params[2] = {.presence_penalty = 1};
  std::vector<int32_t> history(5000);
  for (int32_t& token : history) token = static_cast<int32_t>(random_() % vocab);
  const Twin &slot = Ints({4, 0, 2}), &start = Ints({0, 3000, 3000, 5000}), &prompt = Ints({1000, 7, 2000}),
             &tokens = Ints(history);
  Twin& incoming = Make(DType::kU8, DType::kU8, {3, static_cast<int64_t>(sizeof(SlotSampling))});
  std::memcpy(incoming.host_memory.data(), params.data(), sizeof(SlotSampling) * 3);
  Twin& slots = Make(DType::kU8, DType::kU8, {5, static_cast<int64_t>(sizeof(SlotSampling))});
  Twin& counts = Make(DType::kU32, DType::kU32, {5, vocab});
  for (int i = 0; i < 5 * vocab; ++i) counts.host.data<uint32_t>()[i] = 9;
  for (Twin* twin : {&incoming, &slots, &counts}) Upload(*twin);
  const auto run = [&](Ops& ops, auto side) {
    ops.Admit({.slot = side(slot),
               .params = side(incoming),
               .history_start = side(start),
               .prompt_length = side(prompt),
               .history = side(tokens),
               .slot_params = side(slots),
               .slot_counts = side(counts)});
  };
  RunBoth(run);
  ASSERT_TRUE(cuda_->Sync().ok());
  for (const Twin* twin : {&slots, &counts}) {
    std::vector<std::byte> actual(twin->host_memory.size());
    Copy(actual.data(), twin->device.raw(), actual.size());
    EXPECT_EQ(actual, twin->host_memory);
  }
}

// A recording takes what the tensors hold when it is replayed: the token that the replay before has drawn.
TEST_P(CudaQueueTest, ARecordingFeedsItsOwnTokens) {
  const int64_t hidden = 64, vocab = 128;
  Twin &table = Values({vocab, hidden}), &head = Values({vocab, hidden}), &residual = Values({2, hidden});
  Twin& logits = Make(DType::kF32, DType::kF32, {2, vocab});
  const Twin &norm = Floats({hidden}, 1, 0.1f), &token = Ints({~2, ~0}), &row = Ints({0, 1}), &slot = Ints({2, 0});
  const Twin &position = Ints({1, 1}), &last = Ints({5, 6, 7});
  Twin& params = Make(DType::kU8, DType::kU8, {3, static_cast<int64_t>(sizeof(SlotSampling))});
  const SlotSampling greedy{.temperature = 0};
  for (int i = 0; i < 3; ++i) std::memcpy(params.host_memory.data() + i * sizeof(greedy), &greedy, sizeof(greedy));
  Twin& counts = Make(DType::kU32, DType::kU32, {3, vocab});
  for (Twin* twin : {&params, &counts}) Upload(*twin);
  const Twin& drawn = Ints({-7, -7});
  Twin& logprob = Make(DType::kF32, DType::kF32, {2});
  const auto step = [&](Ops& ops, auto side) {
    ops.Embed({.token = side(token), .last_token = side(last), .table = WeightOf(side(table)), .out = side(residual)});
    ops.Head({.residual = side(residual),
              .row = side(row),
              .norm = {.weight = side(norm)},
              .weight = WeightOf(side(head)),
              .logits = side(logits)});
    ops.Sample({.logits = side(logits),
                .slot = side(slot),
                .position = side(position),
                .params = side(params),
                .counts = side(counts),
                .last_token = side(last),
                .tokenizer_size = vocab,
                .token = side(drawn),
                .logprob = side(logprob)});
  };
  const auto on_device = [](const Twin& twin) { return twin.device; };
  std::vector<std::vector<int32_t>> eager, replayed;
  for (int i = 0; i < 6; ++i) {
    step(*cuda_, on_device);
    ASSERT_TRUE(cuda_->Sync().ok());
    eager.push_back(IntsOf(drawn.device));
  }
  Upload(last);
  cuda_->BeginRecording();
  step(*cuda_, on_device);
  const auto recording = cuda_->EndRecording();
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ(IntsOf(last.device), (std::vector<int32_t>{5, 6, 7})) << "a recording runs nothing";
  for (int i = 0; i < 6; ++i) {
    cuda_->Replay(*recording);
    cuda_->Mark(0);
    ASSERT_TRUE(cuda_->Wait(0).ok());
    replayed.push_back(IntsOf(drawn.device));
  }
  EXPECT_EQ(replayed, eager);
  EXPECT_EQ(IntsOf(last.device), (std::vector<int32_t>{eager[5][1], 6, eager[5][0]}));
  step(*cpu_, [](const Twin& twin) { return twin.host; });
  EXPECT_THAT(eager[0], ::testing::ElementsAre(drawn.host.data<int32_t>()[0], drawn.host.data<int32_t>()[1]));
}

// Layers that attend and add to the residual that they attend with, of which the later ones are queued together.
TEST_P(CudaQueueTest, AStepThatIsQueuedOnceRunsAllItsLayersInOrder) {
  const int64_t heads = 2, dim = 64, hidden = heads * dim;
  const Twin &start = Values({1, hidden}), &attended = Values({1, hidden}),
             &weight = Values({hidden, hidden}, 1 / std::sqrt(float(hidden)));
  const Twin& pool = Values({1, 2 * kKvBlockTokens, dim});
  const Twin &position = Ints({9}), &sequence = Ints({0}), &first = Ints({0, 1}), &context = Ints({10}), &table = Ints({0});
  const Twin& residual = Values({1, hidden});
  const Tensor blocks(table.device.raw(), DType::kI32, {1, 1});
  const auto layers = [&](int count) {
    Copy(residual.device.raw(), start.device.raw(), hidden * 2);
    for (int i = 0; i < count; ++i) {
      cuda_->Attend({.q = Tensor(residual.device.raw(), GetParam(), {1, heads, dim}),
                     .batch = {.tokens = 1,
                               .sequences = 1,
                               .decode_sequences = 1,
                               .position = position.device,
                               .sequence_of = sequence.device,
                               .query_start = first.device,
                               .context_length = context.device,
                               .block_table = blocks},
                     .kv = {.base = static_cast<std::byte*>(pool.device.raw()),
                            .dtype = GetParam(),
                            .kv_heads = 1,
                            .key_dim = dim,
                            .value_dim = dim,
                            .block_stride = 2 * kKvBlockTokens * dim * 2,
                            .head_stride = 2 * kKvBlockTokens * dim * 2},
                     .scale = 0.1f,
                     .out = Tensor(attended.device.raw(), GetParam(), {1, heads, dim})});
      cuda_->AttnOut({.in = attended.device, .weight = WeightOf(weight.device), .residual = residual.device});
    }
  };
  for (int step = 0; step < 2 * Ops::kMarks; ++step) {
    const int count = 3 + step * 2;
    layers(count);
    ASSERT_TRUE(cuda_->Sync().ok());
    const std::vector<float> expected = Download(residual.device);
    cuda_->BeginOnce();
    layers(count);
    cuda_->EndOnce();
    cuda_->Mark(0);
    ASSERT_TRUE(cuda_->Wait(0).ok());
    EXPECT_EQ(Download(residual.device), expected) << count << " layers";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaQueueTest, kDeviceTypes, DeviceTypeName);

TEST(CudaDevice, MemoryIsKnown) {
  if (const absl::Status usable = CheckCudaDevice(0); !usable.ok()) GTEST_SKIP() << usable;
  const auto memory = GetCudaMemory(0);
  ASSERT_TRUE(memory.ok());
  EXPECT_GT(memory->free, 0u);
  EXPECT_LE(memory->free, memory->total);
}

}  // namespace
}  // namespace berth::kernels
