// Time of the Sample stage on a GPU by rows, vocabulary and filters, each in a recording of several draws. The floor is one
// read of the logits at the bandwidth given in GB/s.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/cuda_ops.h"

namespace berth::kernels {
namespace {

constexpr int kDraws = 8;  // of one recording, each of other logits
constexpr int kRepeats = 25;
constexpr int kMaxRows = 256;

struct Case {
  const char* name;
  SlotSampling params;
};

class SampleBench {
 public:
  explicit SampleBench(int vocab) : vocab_(vocab) {
    auto ops = MakeCudaOps({.device = 0, .max_tokens = kMaxRows, .max_hidden = 8, .max_product = 8});
    BERTH_CHECK(ops.ok()) << ops.status();
    ops_ = *std::move(ops);
    logits_ = Allocate(DType::kF32, kDraws * kMaxRows, vocab);
    params_ = Allocate(DType::kU8, kMaxRows, sizeof(SlotSampling));
    counts_ = Allocate(DType::kU32, kMaxRows, vocab);
    for (Tensor* tensor : {&slot_, &position_, &token_, &last_, &logprob_}) *tensor = Allocate(DType::kI32, kMaxRows, 1);
    std::vector<int32_t> slots(kMaxRows);
    for (int i = 0; i < kMaxRows; ++i) slots[i] = i;
    ops_->Upload(slot_.raw(), slots.data(), slots.size() * 4);
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 2);
    std::vector<float> row(vocab);
    for (int64_t r = 0; r < logits_.dim(0); ++r) {
      if (r < 32) {
        for (float& logit : row) logit = normal(random);
      } else {
        std::rotate(row.begin(), row.begin() + 4099 % vocab, row.end());
      }
      ops_->Upload(logits_.Rows(r, 1).raw(), row.data(), row.size() * 4);
      BERTH_CHECK(ops_->Sync().ok());
    }
  }

  // Microseconds of one draw of `rows` rows: median, least and most.
  std::vector<double> Measure(int rows, const SlotSampling& params) {
    const std::vector<SlotSampling> all(kMaxRows, params);
    ops_->Upload(params_.raw(), all.data(), all.size() * sizeof(SlotSampling));
    Draw(rows, 0);
    BERTH_CHECK(ops_->Sync().ok());
    ops_->BeginRecording();
    for (int i = 0; i < kDraws; ++i) Draw(rows, i);
    const int recording = *ops_->EndRecording();
    std::vector<double> times;
    for (int i = 0; i < kRepeats; ++i) {
      timespec start{}, end{};
      clock_gettime(CLOCK_MONOTONIC, &start);
      ops_->Replay(recording);
      BERTH_CHECK(ops_->Sync().ok());
      clock_gettime(CLOCK_MONOTONIC, &end);
      times.push_back(((end.tv_sec - start.tv_sec) * 1e6 + (end.tv_nsec - start.tv_nsec) * 1e-3) / kDraws);
    }
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back()};
  }

 private:
  Tensor Allocate(DType dtype, int64_t rows, int64_t columns) {
    buffers_.push_back(*allocator_->Allocate(rows * columns * Info(dtype).block_bytes));
    return columns == 1 ? Tensor(buffers_.back().data(), dtype, {rows})
                        : Tensor(buffers_.back().data(), dtype, {rows, columns});
  }

  void Draw(int rows, int draw) {
    ops_->Sample({.logits = logits_.Rows(int64_t{draw} * kMaxRows, rows),
                  .slot = slot_.Rows(0, rows),
                  .position = position_.Rows(0, rows),
                  .params = params_,
                  .counts = counts_,
                  .last_token = last_,
                  .tokenizer_size = vocab_,
                  .token = token_.Rows(0, rows),
                  .logprob = Tensor(logprob_.raw(), DType::kF32, {rows})});
  }

  const int vocab_;
  std::unique_ptr<Allocator> allocator_ = MakeCudaAllocator(0);
  std::vector<Buffer> buffers_;
  Tensor logits_, params_, counts_, slot_, position_, token_, last_, logprob_;
  std::unique_ptr<Ops> ops_;
};

void Run(double bandwidth) {
  const Case cases[] = {{"greedy", {.temperature = 0}},
                        {"greedy, penalties", {.temperature = 0, .repetition_penalty = 1.1f}},
                        {"greedy, log-probability", {.temperature = 0, .logprobs = 0}},
                        {"temperature", {.temperature = 0.8f}},
                        {"top-k 50", {.temperature = 0.8f, .top_k = 50}},
                        {"top-p 0.95", {.temperature = 0.8f, .top_p = 0.95f}}};
  for (const int vocab : {92544, 128256}) {
    SampleBench bench(vocab);
    for (const Case& one : cases) {
      for (const int rows : {1, 8, 64, 256}) {
        const std::vector<double> times = bench.Measure(rows, one.params);
        const double floor = rows * 4.0 * vocab / bandwidth * 1e-3;
        std::printf("%6d  %-24s %4d rows  %8.1f us [%.1f-%.1f]  floor %6.1f  share %3.0f %%\n", vocab, one.name, rows, times[0],
                    times[1], times[2], floor, 100 * floor / times[0]);
      }
    }
  }
}

}  // namespace
}  // namespace berth::kernels

int main(int argc, char** argv) { berth::kernels::Run(argc > 1 ? std::atof(argv[1]) : 3000); }
