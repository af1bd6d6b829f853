#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernels/cuda/twin_tensors.h"

namespace berth::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Sampling works on f32 logits, whatever the activations are.
class CudaSampleTest : public TwinTensors {
 protected:
  struct Result {
    std::vector<int32_t> token, top_token;
    std::vector<float> logprob, top_logprob;
  };

  // Every row has a slot of its own with `params`; the logits of row r are `logits(r)`.
  template <typename Logits>
  std::pair<Result, Result> Sample(int rows, int vocab, const SlotSampling& params, Logits make, bool edits = false,
                                   const std::vector<int32_t>& targets = {}) {
    Twin& logits = Make(DType::kF32, DType::kF32, {rows, vocab});
    Twin& slots = Make(DType::kU8, DType::kU8, {rows, static_cast<int64_t>(sizeof(SlotSampling))});
    Twin& counts = Make(DType::kU32, DType::kU32, {rows, vocab});
    Twin& mask = Make(DType::kU32, DType::kU32, {rows, (vocab + 31) / 32});
    std::vector<int32_t> slot, position, edit_start = {0}, edit_token;
    std::vector<float> edit_value;
    for (int r = 0; r < rows; ++r) {
      const std::vector<float> row = make(r);
      std::copy(row.begin(), row.end(), logits.host.data<float>() + r * vocab);
      std::memcpy(slots.host_memory.data() + r * sizeof(params), &params, sizeof(params));
      slot.push_back(r);
      position.push_back(100 + r);
      for (int id = 0; id < vocab; id += 3) counts.host.data<uint32_t>()[r * vocab + id] = id % 2 == 0 ? kTokenInPrompt : 2;
      for (int word = 0; word < mask.host.dim(1); ++word) {
        mask.host.data<uint32_t>()[r * mask.host.dim(1) + word] = edits ? 0xfffffff7u : ~0u;
      }
      if (edits) {
        edit_token.insert(edit_token.end(), {r, r + 1, r});
        edit_value.insert(edit_value.end(), {3.5f, -kInfinity, 0.25f});
      }
      edit_start.push_back(static_cast<int32_t>(edit_token.size()));
    }
    if (edit_token.empty()) {
      edit_token = {0};
      edit_value = {0};
    }
    for (Twin* twin : {&logits, &slots, &counts, &mask}) Upload(*twin);
    Twin& values = Make(DType::kF32, DType::kF32, {static_cast<int64_t>(edit_value.size())});
    std::memcpy(values.host_memory.data(), edit_value.data(), edit_value.size() * 4);
    Upload(values);
    Twin &token = Ints(std::vector<int32_t>(rows, -7)), &logprob = Make(DType::kF32, DType::kF32, {rows});
    Twin& top_token = Make(DType::kI32, DType::kI32, {rows, kMaxLogprobs});
    Twin& top_logprob = Make(DType::kF32, DType::kF32, {rows, kMaxLogprobs});
    const Twin &slot_twin = Ints(slot), &position_twin = Ints(position), &start = Ints(edit_start), &tokens = Ints(edit_token);
    const Twin* target = targets.empty() ? nullptr : &Ints(targets);
    const auto run = [&](Ops& ops, auto side) {
      ops.Sample({.logits = side(logits),
                  .slot = side(slot_twin),
                  .position = side(position_twin),
                  .target = target == nullptr ? Tensor() : side(*target),
                  .params = side(slots),
                  .counts = side(counts),
                  .edit_start = side(start),
                  .edit_token = side(tokens),
                  .edit_value = side(values),
                  .bitmask = side(mask),
                  .tokenizer_size = vocab - 5,
                  .token = side(token),
                  .logprob = side(logprob),
                  .top_token = side(top_token),
                  .top_logprob = side(top_logprob)});
    };
    RunBoth(run);
    EXPECT_TRUE(cuda_->Sync().ok());
    const auto ints = [&](const Tensor& tensor) {
      std::vector<int32_t> values(tensor.elements());
      Copy(values.data(), tensor.raw(), values.size() * 4);
      return values;
    };
    const auto floats = [&](const Tensor& tensor) {
      std::vector<float> values(tensor.elements());
      Copy(values.data(), tensor.raw(), values.size() * 4);
      return values;
    };
    const auto result = [&](auto side) {
      return Result{ints(side(token)), ints(side(top_token)), floats(side(logprob)), floats(side(top_logprob))};
    };
    return {result([](const Twin& twin) { return twin.host; }), result([](const Twin& twin) { return twin.device; })};
  }

  std::vector<float> Normals(int count, float scale) {
    std::vector<float> values(count);
    for (float& value : values) value = normal_(random_) * scale;
    return values;
  }
};

TEST_P(CudaSampleTest, GreedyPenaltiesEditsAndLogprobsMatchTheCpu) {
  const SlotSampling params{
      .temperature = 0, .repetition_penalty = 1.3f, .presence_penalty = 0.4f, .frequency_penalty = 0.2f, .logprobs = 7};
  for (const int vocab : {37, 1000, 49152}) {
    const auto [cpu, cuda] = Sample(
        6, vocab, params, [&](int) { return Normals(vocab, 2); }, /*edits=*/true);
    EXPECT_EQ(cpu.token, cuda.token);
    EXPECT_EQ(cpu.top_token, cuda.top_token);
    for (size_t i = 0; i < cpu.logprob.size(); ++i) EXPECT_NEAR(cpu.logprob[i], cuda.logprob[i], 1e-4);
    for (size_t i = 0; i < cpu.top_logprob.size(); ++i) {
      if (cpu.top_token[i] >= 0) {
        EXPECT_NEAR(cpu.top_logprob[i], cuda.top_logprob[i], 1e-4);
      }
    }
  }
}

TEST_P(CudaSampleTest, TargetsAreReportedInsteadOfADraw) {
  constexpr int kVocab = 1000;
  for (const float temperature : {0.f, 1.f}) {
    const SlotSampling params{.temperature = temperature, .repetition_penalty = 2, .logprobs = 3};
    const std::vector<int32_t> targets = {0, 994, 500};
    const auto [cpu, cuda] = Sample(
        3, kVocab, params, [&](int) { return Normals(kVocab, 2); }, /*edits=*/false, targets);
    EXPECT_EQ(cuda.token, targets);
    EXPECT_EQ(cpu.top_token, cuda.top_token);
    for (size_t i = 0; i < targets.size(); ++i) EXPECT_NEAR(cpu.logprob[i], cuda.logprob[i], 1e-4);
  }
}

TEST_P(CudaSampleTest, TiesGoToTheLowestIdAndNanFailsItsRowAlone) {
  const auto [cpu, cuda] = Sample(3, 200, {.temperature = 0}, [&](int r) {
    std::vector<float> logits(200, 1.0f);
    if (r == 1) logits[150] = std::nanf("");
    if (r == 2) logits[20] = logits[90] = 5;
    return logits;
  });
  EXPECT_EQ(cpu.token, cuda.token);
  EXPECT_EQ(cuda.token, (std::vector<int32_t>{0, -1, 20}));
}

// The CPU's exponential differs by a rounding: rarely a number lies so close between two tokens.
TEST_P(CudaSampleTest, DrawsAreTheCpus) {
  const SlotSampling cases[] = {{.seed = 5},
                                {.temperature = 0.7f, .top_k = 8, .seed = 6},
                                {.top_p = 0.8f, .seed = 7},
                                {.temperature = 1.5f, .min_p = 0.2f, .seed = 8},
                                {.top_p = 0.7f, .top_k = 10, .seed = 9},
                                {.top_p = 0.9f, .repetition_penalty = 1.2f, .frequency_penalty = 0.3f, .seed = 10}};
  for (const int vocab : {64, 5001, 49152}) {
    const int rows = vocab > 10000 ? 20 : 300;
    for (const SlotSampling& params : cases) {
      const auto [cpu, cuda] = Sample(rows, vocab, params, [&](int) { return Normals(vocab, 1.5f); });
      int same = 0;
      for (int r = 0; r < rows; ++r) same += cpu.token[r] == cuda.token[r];
      EXPECT_GE(same, rows - 1) << vocab << " tokens, seed " << params.seed;
    }
  }
}

// Thousands of tokens that are equal, or almost.
TEST_P(CudaSampleTest, DrawsFromCrowdsAreTheCpus) {
  const SlotSampling cases[] = {{.top_k = 700, .seed = 5},
                                {.top_p = 0.3f, .seed = 6},
                                {.temperature = 0.5f, .top_p = 0.9f, .top_k = 4000, .seed = 7},
                                {.top_p = 0.5f, .min_p = 0.9f, .seed = 8}};
  const int vocab = 9000, rows = 40;
  for (const float spread : {0.f, 1e-4f}) {
    for (const SlotSampling& params : cases) {
      const auto [cpu, cuda] = Sample(rows, vocab, params, [&](int) { return Normals(vocab, spread); });
      int same = 0;
      for (int r = 0; r < rows; ++r) same += cpu.token[r] == cuda.token[r];
      EXPECT_GE(same, rows - 3) << "spread " << spread << ", seed " << params.seed;
    }
  }
}

// Sums of whole numbers, so that logits are exact, and often equal. A head that leaves the next one bests of its own would
// fail.
TEST_P(CudaSampleTest, BestTokensOfGreedyRowsAreThoseOfTheirLogits) {
  const auto whole = [&](std::initializer_list<int64_t> shape, int most) {
    Twin& twin = Make(DType::kF32, GetParam(), shape);
    std::uniform_int_distribution<int> values(-most, most);
    for (int64_t i = 0; i < twin.host.elements(); ++i) twin.host.data<float>()[i] = static_cast<float>(values(random_));
    Upload(twin);
    return &twin;
  };
  const SlotSampling greedy{.temperature = 0};
  for (const auto& [hidden, vocab] : {std::pair<int64_t, int64_t>{96, 9002}, {264, 514}, {64, 34000}, {72, 777}}) {
    const Twin& weight = *whole({vocab, hidden}, 2);
    for (const int rows : {64, 65, 128, 200, 256, 300, 500}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, " << hidden << " to " << vocab);
      Twin& residual = *whole({rows + 3, hidden}, 1);
      residual.host.data<float>()[hidden * 5] = std::nanf("");
      Upload(residual);
      std::vector<int32_t> picked(rows), slot(rows);
      for (int i = 0; i < rows; ++i) picked[i] = rows + 2 - i, slot[i] = (i + 7) % rows;
      Twin& slots = Make(DType::kU8, DType::kU8, {rows, static_cast<int64_t>(sizeof(greedy))});
      for (int i = 0; i < rows; ++i) std::memcpy(slots.host_memory.data() + i * sizeof(greedy), &greedy, sizeof(greedy));
      Upload(slots);
      const Twin &row = Ints(picked), &slot_twin = Ints(slot), &position = Ints(slot);
      const Twin& counts = Make(DType::kU32, DType::kU32, {rows, vocab});
      const Twin& logits = Make(DType::kF32, DType::kF32, {rows, vocab});
      const Twin &token = Ints(std::vector<int32_t>(rows, -7)), &last = Ints(std::vector<int32_t>(rows, -7)),
                 &logprob = Floats({rows}, 0, 0);
      RunBoth([&, ids = static_cast<int>(vocab) - 5](Ops& ops, auto side) {
        ops.Head({.residual = side(residual),
                  .row = side(row),
                  .weight = WeightOf(side(weight)),
                  .logits = side(logits),
                  .best_of = ids});
        ops.Sample({.logits = side(logits),
                    .slot = side(slot_twin),
                    .position = side(position),
                    .params = side(slots),
                    .counts = side(counts),
                    .last_token = side(last),
                    .tokenizer_size = ids,
                    .greedy = true,
                    .token = side(token),
                    .logprob = side(logprob)});
      });
      ASSERT_TRUE(cuda_->Sync().ok());
      const auto expect_equal = [&](const Twin& twin) {
        std::vector<int32_t> device(twin.host.elements());
        Copy(device.data(), twin.device.raw(), device.size() * 4);
        EXPECT_TRUE(std::equal(device.begin(), device.end(), twin.host.data<int32_t>()));
      };
      expect_equal(token);
      expect_equal(last);
      EXPECT_EQ(token.host.data<int32_t>()[rows - 3], -1) << "the row with a NaN";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaSampleTest, kDeviceTypes, DeviceTypeName);

}  // namespace
}  // namespace berth::kernels
