// Speed of the CPU ops at the shapes of SmolLM2-135M: kernels_bench [--benchmark_filter=...]. Arguments are rows and threads;
// the step benchmarks run a whole model step and report tokens per second.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/half.h"
#include "kernels/ops.h"

namespace berth::kernels {
namespace {

constexpr int kLayers = 30, kHidden = 576, kQHeads = 9, kKvHeads = 3, kHeadDim = 64, kInter = 1536, kVocab = 49152;
constexpr int kQkv = (kQHeads + 2 * kKvHeads) * kHeadDim;

// Memory of a weight with legal bits: every scale is 1/128.
class Weight {
 public:
  Weight(DType dtype, int64_t n, int64_t k) : bytes_(n * RowBytes(dtype, k)) {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<std::byte>(i * 2654435761u >> 13);
    const uint16_t scale = cpu::ToHalf(1.f / 128);
    const DTypeInfo& info = Info(dtype);
    for (size_t at = 0; IsQuantized(dtype) && at < bytes_.size(); at += info.block_bytes) {
      const bool last = dtype == DType::kQ6_K;
      std::memcpy(&bytes_[at + (last ? info.block_bytes - 2 : 0)], &scale, 2);
      if (dtype == DType::kQ4_1 || dtype == DType::kQ4_K) std::memcpy(&bytes_[at + 2], &scale, 2);
    }
    if (dtype == DType::kF32) std::memset(bytes_.data(), 0, bytes_.size());
    view = {.k = k, .segments = {{.dtype = dtype, .rows = n, .data = bytes_.data()}}};
  }

  size_t bytes() const { return bytes_.size(); }
  LinearWeight view;

 private:
  std::vector<std::byte> bytes_;
};

Tensor Matrix(Buffer& memory, int64_t rows, int64_t dim) {
  memory = *HostAllocator().Allocate(rows * dim * sizeof(float));
  std::fill_n(static_cast<float*>(memory.data()), rows * dim, 0.01f);
  return Tensor(memory.data(), DType::kF32, {rows, dim});
}

void ReportProduct(benchmark::State& state, double multiply_adds, double weight_bytes) {
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(2e-9 * multiply_adds, Counter::kIsIterationInvariantRate);
  state.counters["weight GB/s"] = Counter(1e-9 * weight_bytes, Counter::kIsIterationInvariantRate);
}

// residual += in · Wᵀ for W [n, k].
void Product(benchmark::State& state, DType dtype, int64_t n, int64_t k) {
  const int64_t rows = state.range(0);
  const auto ops = MakeCpuOps({.threads = static_cast<int>(state.range(1))});
  const Weight weight(dtype, n, k);
  Buffer in, out;
  const ProjectOutArgs args{.in = Matrix(in, rows, k), .weight = weight.view, .residual = Matrix(out, rows, n)};
  for (auto _ : state) ops->MlpDown(args);
  ReportProduct(state, static_cast<double>(rows) * n * k, static_cast<double>(weight.bytes()));
}

// One step of the model: `sequences` sequences of `rows` new rows each after `context` cached ones.
class Model {
 public:
  Model(int sequences, int rows, int context) : sequences_(sequences), tokens_(sequences * rows) {
    for (int layer = 0; layer < kLayers; ++layer) layers_.push_back(std::make_unique<Layer>());
    const int blocks = (context + rows + kKvBlockTokens - 1) / kKvBlockTokens;
    const int64_t head_stride = 2 * kKvBlockTokens * kHeadDim * 4;
    kv_.resize(sequences * blocks * kKvHeads * head_stride);
    layer_kv_ = {.base = kv_.data(),
                 .kv_heads = kKvHeads,
                 .key_dim = kHeadDim,
                 .value_dim = kHeadDim,
                 .block_stride = kKvHeads * head_stride,
                 .head_stride = head_stride};
    for (int s = 0; s < sequences; ++s) {
      start_.push_back(s * rows);
      context_.push_back(context + rows);
      last_row_.push_back((s + 1) * rows - 1);
      for (int i = 0; i < rows; ++i) {
        position_.push_back(context + i);
        sequence_.push_back(s);
      }
    }
    start_.push_back(tokens_);
    for (int b = 0; b < sequences * blocks; ++b) table_.push_back(b);
    batch_ = {.tokens = tokens_,
              .sequences = sequences,
              .position = Ints(position_),
              .sequence_of = Ints(sequence_),
              .query_start = Ints(start_),
              .context_length = Ints(context_),
              .block_table = Tensor(table_.data(), DType::kI32, {sequences, blocks})};
    for (int i = 0; i < kHeadDim / 2; ++i) frequency_.push_back(std::pow(1e-5f, static_cast<float>(i) / (kHeadDim / 2)));
    Matrix(norm_weight_, 1, kHidden);
    norm_.weight = Tensor(norm_weight_.data(), DType::kF32, {kHidden});
    residual_ = Matrix(residual_memory_, tokens_, kHidden);
    inner_ = Matrix(inner_memory_, tokens_, kInter);
    Matrix(q_memory_, tokens_, kHidden);
    Matrix(attended_memory_, tokens_, kHidden);
    logits_ = Matrix(logits_memory_, sequences, kVocab);
  }

  void AttnIn(Ops& ops, int layer) {
    ops.AttnIn({.residual = residual_,
                .norm = norm_,
                .qkv = layers_[layer]->qkv.view,
                .rope = {.inverse_frequency = Tensor(frequency_.data(), DType::kF32, {1, kHeadDim / 2})},
                .q_heads = kQHeads,
                .kv_heads = kKvHeads,
                .head_dim = kHeadDim,
                .batch = batch_,
                .kv = layer_kv_,
                .q = Heads(q_memory_)});
  }
  void Attend(Ops& ops) {
    ops.Attend({.q = Heads(q_memory_), .batch = batch_, .kv = layer_kv_, .scale = 0.125f, .out = Heads(attended_memory_)});
  }
  void AttnOut(Ops& ops, int layer) {
    ops.AttnOut({.in = Tensor(attended_memory_.data(), DType::kF32, {tokens_, kHidden}),
                 .weight = layers_[layer]->out.view,
                 .residual = residual_});
  }
  void MlpUp(Ops& ops, int layer) {
    ops.MlpUp({.residual = residual_, .norm = norm_, .weight = layers_[layer]->up.view, .out = inner_});
  }
  void MlpDown(Ops& ops, int layer) { ops.MlpDown({.in = inner_, .weight = layers_[layer]->down.view, .residual = residual_}); }
  void Head(Ops& ops) {
    ops.Head({.residual = residual_, .row = Ints(last_row_), .norm = norm_, .weight = head_.view, .logits = logits_});
  }
  void Sample(Ops& ops) {
    ops.Sample({.logits = logits_,
                .slot = Ints(slot_),
                .position = Ints(last_row_),
                .params = Tensor(params_.data(), DType::kU8, {sequences_, sizeof(SlotSampling)}),
                .counts = Tensor(counts_.data(), DType::kU32, {sequences_, kVocab}),
                .tokenizer_size = kVocab,
                .token = Ints(token_),
                .logprob = Tensor(logprob_.data(), DType::kF32, {sequences_})});
  }
  void Step(Ops& ops) {
    for (int layer = 0; layer < kLayers; ++layer) {
      AttnIn(ops, layer);
      Attend(ops);
      AttnOut(ops, layer);
      MlpUp(ops, layer);
      MlpDown(ops, layer);
    }
    Head(ops);
    Sample(ops);
  }

 private:
  struct Layer {
    Weight qkv{DType::kQ4_1, kQkv, kHidden}, out{DType::kQ4_1, kHidden, kHidden}, up{DType::kQ4_1, 2 * kInter, kHidden},
        down{DType::kQ4_1, kHidden, kInter};
  };

  static Tensor Ints(std::vector<int32_t>& values) {
    return Tensor(values.data(), DType::kI32, {static_cast<int64_t>(values.size())});
  }
  Tensor Heads(const Buffer& memory) { return Tensor(memory.data(), DType::kF32, {tokens_, kQHeads, kHeadDim}); }

  const int sequences_, tokens_;
  std::vector<std::unique_ptr<Layer>> layers_;
  Weight head_{DType::kQ8_0, kVocab, kHidden};
  std::vector<std::byte> kv_;
  KvLayer layer_kv_;
  std::vector<int32_t> position_, sequence_, start_, context_, table_, last_row_;
  Batch batch_;
  std::vector<float> frequency_;
  Buffer norm_weight_, residual_memory_, inner_memory_, q_memory_, attended_memory_, logits_memory_;
  Norm norm_;
  Tensor residual_, inner_, logits_;
  std::vector<SlotSampling> params_ = std::vector<SlotSampling>(sequences_, {.temperature = 0});
  std::vector<uint32_t> counts_ = std::vector<uint32_t>(sequences_ * kVocab);
  std::vector<int32_t> token_ = std::vector<int32_t>(sequences_), slot_ = std::vector<int32_t>(sequences_);
  std::vector<float> logprob_ = std::vector<float>(sequences_);
};

void ReportTokens(benchmark::State& state, int64_t tokens) {
  state.counters["tok/s"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsIterationInvariantRate);
}

// Arguments: sequences, context, threads.
void DecodeStep(benchmark::State& state) {
  Model model(static_cast<int>(state.range(0)), 1, static_cast<int>(state.range(1)));
  const auto ops = MakeCpuOps({.threads = static_cast<int>(state.range(2))});
  for (auto _ : state) model.Step(*ops);
  ReportTokens(state, state.range(0));
}

// Arguments: rows of one prompt chunk, context before it, threads.
void PrefillStep(benchmark::State& state) {
  Model model(1, static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  const auto ops = MakeCpuOps({.threads = static_cast<int>(state.range(2))});
  for (auto _ : state) model.Step(*ops);
  ReportTokens(state, state.range(0));
}

// The parts of a step, 30 layers each. Arguments: sequences, rows, context, threads.
template <typename Part>
void StepPart(benchmark::State& state, Part part) {
  Model model(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), static_cast<int>(state.range(2)));
  const auto ops = MakeCpuOps({.threads = static_cast<int>(state.range(3))});
  for (auto _ : state) {
    for (int layer = 0; layer < kLayers; ++layer) part(model, *ops, layer);
  }
}

void PartShapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({1, 1, 256, 1})
      ->Args({1, 1, 256, 2})
      ->Args({8, 1, 256, 1})
      ->Args({8, 1, 256, 2})
      ->Args({1, 512, 0, 1})
      ->Args({1, 512, 0, 2})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

void ProductShapes(benchmark::internal::Benchmark* benchmark) {
  for (int threads : {1, 2}) {
    for (int rows : {1, 2, 4, 6, 8, 128, 512}) benchmark->Args({rows, threads});
  }
  benchmark->Unit(benchmark::kMicrosecond)->UseRealTime();
}

BENCHMARK_CAPTURE(Product, q4_1_up, DType::kQ4_1, 2 * kInter, kHidden)->Apply(ProductShapes);
BENCHMARK_CAPTURE(Product, q4_1_down, DType::kQ4_1, kHidden, kInter)->Apply(ProductShapes);
BENCHMARK_CAPTURE(Product, q4_0_up, DType::kQ4_0, 2 * kInter, kHidden)->Args({1, 2})->UseRealTime();
BENCHMARK_CAPTURE(Product, q8_0_up, DType::kQ8_0, 2 * kInter, kHidden)->Args({1, 2})->UseRealTime();
BENCHMARK_CAPTURE(Product, q4_k_768, DType::kQ4_K, 2 * kInter, 768)->Args({1, 2})->UseRealTime();
BENCHMARK_CAPTURE(Product, q6_k_768, DType::kQ6_K, 2 * kInter, 768)->Args({1, 2})->UseRealTime();
BENCHMARK_CAPTURE(Product, bf16_up, DType::kBF16, 2 * kInter, kHidden)->Args({1, 2})->UseRealTime();
BENCHMARK_CAPTURE(Product, f32_up, DType::kF32, 2 * kInter, kHidden)->Args({1, 2})->Args({512, 2})->UseRealTime();
BENCHMARK_CAPTURE(Product, q8_0_head, DType::kQ8_0, kVocab, kHidden)->Args({1, 1})->Args({1, 2})->Args({8, 2})->UseRealTime();

BENCHMARK_CAPTURE(StepPart, attn_in, [](Model& m, Ops& ops, int layer) { m.AttnIn(ops, layer); })->Apply(PartShapes);
BENCHMARK_CAPTURE(StepPart, attend, [](Model& m, Ops& ops, int) { m.Attend(ops); })->Apply(PartShapes);
BENCHMARK_CAPTURE(StepPart, attn_out, [](Model& m, Ops& ops, int layer) { m.AttnOut(ops, layer); })->Apply(PartShapes);
BENCHMARK_CAPTURE(StepPart, mlp_up, [](Model& m, Ops& ops, int layer) { m.MlpUp(ops, layer); })->Apply(PartShapes);
BENCHMARK_CAPTURE(StepPart, mlp_down, [](Model& m, Ops& ops, int layer) { m.MlpDown(ops, layer); })->Apply(PartShapes);
BENCHMARK_CAPTURE(StepPart, sample, [](Model& m, Ops& ops, int layer) {
  if (layer == 0) m.Sample(ops);
})->Apply(PartShapes);

BENCHMARK(DecodeStep)
    ->Args({1, 256, 1})
    ->Args({8, 256, 1})
    ->Args({1, 256, 2})
    ->Args({8, 256, 2})
    ->Args({1, 2048, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(PrefillStep)->Args({512, 0, 2})->Args({128, 1024, 2})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace berth::kernels

BENCHMARK_MAIN();
