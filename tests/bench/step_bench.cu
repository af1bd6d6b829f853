// The products of a whole decode step as one CUDA graph, without an engine: how close the stage ops come to the time in which
// the weights can be read. Needs a GPU. `step_bench [shape ...] [tokens ...] [name=value ...]`; see Options.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/chain.h"
#include "tests/bench/bulk_read.cuh"

namespace berth::kernels {
namespace {

struct Shape {
  const char* name;
  int hidden, layers, q_heads, kv_heads, head_dim, inter, vocab;
};
constexpr Shape kShapes[] = {{"m1", 2048, 24, 16, 8, 128, 8192, 92544}, {"m2", 4096, 32, 32, 8, 128, 14336, 128256}};
constexpr DType kType = DType::kBF16;
constexpr int kRepeats = 20, kGroups = 5;

struct Options {
  std::vector<std::string> shapes;
  std::vector<int> tokens;
  bool attend = false;           // attend=1: steps with attention and greedy sampling too
  bool blas = true;              // blas=0: without the baseline
  bool ops = true;               // ops=0: whole steps only
  bool batch_invariant = false;  // invariant=1: all products by one plan
  int context = 1024;            // tokens of every sequence
  cuda::StreamTuning tuning;
};

void Check(cudaError_t error) { BERTH_CHECK(error == cudaSuccess) << cudaGetErrorString(error); }

__global__ void FillRandom(uint16_t* to, size_t count, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count; i += size_t{gridDim.x} * blockDim.x) {
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull + seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    const float value = (static_cast<float>(x >> 40) / (1 << 24) - 0.5f) * 0.07f;
    to[i] = static_cast<uint16_t>(__float_as_uint(value) >> 16);
  }
}

__global__ void FillOnes(float* to, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = 1;
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), allocator_(MakeCudaAllocator(0)) {
    context_.stream_tuning = options.tuning;
    context_.batch_invariant = options.batch_invariant;
    context_.ReadDevice(0, /*generic=*/false);
    Check(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking));
    BERTH_CHECK(cublasLtCreate(&context_.blas) == CUBLAS_STATUS_SUCCESS);
    context_.blas_workspace = Allocate(cuda::kBlasWorkspaceBytes);
    context_.normed = Allocate(size_t{8192} * 8192 * 2);
    context_.product = Allocate(size_t{256} << 20);
    context_.sample_parts = Allocate(512 * cuda::kSamplePartBytes);
    BERTH_CHECK(cuda::ReserveAttend(context_, *allocator_).ok());
    int widest = 0;
    for (const Shape& shape : kShapes) widest = std::max({widest, shape.hidden, shape.inter});
    BERTH_CHECK(cuda::ReserveChains(context_, widest, *allocator_).ok());
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, 0));
    std::printf("%s, %d SMs; %d stages, %d links\n", properties.name, properties.multiProcessorCount, options.tuning.stages,
                options.tuning.links);
  }

  void Anchors() {
    const size_t bytes = size_t{2} << 30, side = 8192;
    const Buffer memory = Allocate(bytes), product = Allocate(side * side * 2);
    FillRandom<<<4096, 256>>>(static_cast<uint16_t*>(memory.data()), bytes / 2, 1);
    const double read = Time([&] { bench::QueueBulkRead(context_.stream, context_.multiprocessors, memory.data(), bytes); });
    bandwidth_ = bytes / read * 1e-3;
    const Tensor in(memory.data(), kType, {int64_t{side}, int64_t{side}});
    const LinearWeight weight = Weight(static_cast<std::byte*>(memory.data()) + side * side * 2, side, side);
    const double multiply = Time([&] {
      cuda::Linear(context_, in, weight, 0, Tensor(product.data(), kType, {int64_t{side}, int64_t{side}}));
    });
    std::printf("anchors: bulk read %.0f GB/s, 8192^3 product %.0f TFLOP/s\n", bandwidth_,
                2e-6 * side * side * side / multiply);
  }

  void Run(const Shape& shape, int tokens) {
    Prepare(shape, tokens);
    std::printf("\n%s, %d tokens%28s %9s %9s %7s %8s\n", shape.name, tokens, "", "MB", "us", "GB/s", "of floor");
    for (const bool stream : {true, false}) {
      if (!stream && !options_.blas) continue;
      const bool hopper = context_.hopper;
      context_.hopper = hopper && stream;
      const char* kind = context_.hopper ? "stream" : "cuBLASLt";
      const int64_t layers = shape.layers;
      if (options_.ops) {
        Report(kind, "AttnIn", layers, QkvBytes(), [&] { ForLayers([&](int i) { AttnIn(i); }); });
        Report(kind, "AttnOut", layers, OutBytes(), [&] { ForLayers([&](int i) { AttnOut(i); }); });
        Report(kind, "MlpUp", layers, UpBytes(), [&] { ForLayers([&](int i) { MlpUp(i); }); });
        Report(kind, "MlpDown", layers, DownBytes(), [&] { ForLayers([&](int i) { MlpDown(i); }); });
        Report(kind, "Head", 1, HeadBytes(), [&] { Head(); });
      }
      const auto step = [&](bool attend) {
        ++batch_.number;
        ForLayers([&](int i) {
          AttnIn(i);
          if (attend) Attend(i);
          AttnOut(i);
          MlpUp(i);
          MlpDown(i);
        });
        Head();
      };
      const int64_t bytes = layers * (QkvBytes() + OutBytes() + UpBytes() + DownBytes()) + HeadBytes();
      Report(kind, "all products of a step", 1, bytes, [&] { step(false); });
      if (options_.attend) {
        const int64_t kv = int64_t{tokens} * options_.context * shape.kv_heads * shape.head_dim * 4 * layers;
        Report(kind, "step with attention", 1, bytes + kv, [&] { step(true); });
        Report(kind, "step with attention and greedy", 1, bytes + kv, [&] {
          step(true);
          Sample();
        });
        Report(kind, "head and greedy", 1, HeadBytes(), [&] {
          Head();
          Sample();
        });
      }
      context_.hopper = hopper;
    }
  }

 private:
  Buffer Allocate(size_t bytes) {
    auto buffer = allocator_->Allocate(bytes);
    BERTH_CHECK(buffer.ok()) << buffer.status();
    return *std::move(buffer);
  }

  // Median time in µs of what `queue` queues, replayed as a graph.
  double Time(const std::function<void()>& work, int repeats = kRepeats) {
    const auto queue = [&] {
      work();
      context_.Flush();
    };
    queue();
    Check(cudaStreamSynchronize(context_.stream));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    Check(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
    queue();
    Check(cudaStreamEndCapture(context_.stream, &graph));
    Check(cudaGraphInstantiate(&executable, graph, 0));
    BERTH_CHECK(context_.fault.ok()) << context_.fault;
    cudaEvent_t start, end;
    Check(cudaEventCreate(&start));
    Check(cudaEventCreate(&end));
    std::vector<double> times;
    for (int group = 0; group <= kGroups; ++group) {
      Check(cudaEventRecord(start, context_.stream));
      for (int i = 0; i < repeats; ++i) Check(cudaGraphLaunch(executable, context_.stream));
      Check(cudaEventRecord(end, context_.stream));
      Check(cudaEventSynchronize(end));
      float milliseconds;
      Check(cudaEventElapsedTime(&milliseconds, start, end));
      if (group > 0) times.push_back(milliseconds * 1e3 / repeats);
    }
    std::sort(times.begin(), times.end());
    spread_ = (times.back() - times.front()) / times[kGroups / 2];
    cudaEventDestroy(start);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    return times[kGroups / 2];
  }

  void Report(const char* kind, const char* name, int64_t count, int64_t bytes, const std::function<void()>& queue) {
    const double time = Time(queue) / count, rate = bytes / time * 1e-3;
    std::printf("%-10s%-34s%9.1f %9.2f %7.0f %7.1f%%  spread %.1f%%\n", kind, name, bytes * 1e-6, time, rate,
                100 * rate / bandwidth_, 100 * spread_);
    std::fflush(stdout);
  }

  void MakeWeights(const Shape& shape) {
    if (shape_ == &shape) return;
    weights_ = Buffer();
    shape_ = &shape;
    const size_t bytes = shape.layers * (QkvBytes() + OutBytes() + UpBytes() + DownBytes()) + HeadBytes();
    weights_ = Allocate(bytes);
    FillRandom<<<4096, 256>>>(static_cast<uint16_t*>(weights_.data()), bytes / 2, 7);
  }

  void Prepare(const Shape& shape, int tokens) {
    MakeWeights(shape);
    tokens_ = tokens;
    const int blocks = (options_.context + kKvBlockTokens - 1) / kKvBlockTokens;
    const int64_t head = 2 * kKvBlockTokens * shape.head_dim * 2;
    pool_bytes_ = int64_t{tokens} * blocks * shape.kv_heads * head;
    pool_ = Allocate(pool_bytes_ * shape.layers);
    FillRandom<<<4096, 256>>>(static_cast<uint16_t*>(pool_.data()), pool_bytes_ * shape.layers / 2, 9);
    kv_ = {.base = static_cast<std::byte*>(pool_.data()),
           .dtype = kType,
           .kv_heads = shape.kv_heads,
           .key_dim = shape.head_dim,
           .value_dim = shape.head_dim,
           .block_stride = shape.kv_heads * head,
           .head_stride = head};
    const int64_t width = std::max(shape.hidden, shape.q_heads * shape.head_dim);
    residual_ = Allocate(tokens * width * 2);
    q_ = Allocate(tokens * width * 2);
    inter_ = Allocate(int64_t{tokens} * shape.inter * 2);
    logits_ = Allocate(int64_t{tokens} * shape.vocab * 4);
    norm_ = Allocate(shape.hidden * 4);
    const std::vector<SlotSampling> greedy(tokens, SlotSampling{.temperature = 0});
    params_ = Allocate(greedy.size() * sizeof(SlotSampling));
    Check(cudaMemcpy(params_.data(), greedy.data(), greedy.size() * sizeof(SlotSampling), cudaMemcpyDefault));
    counts_ = Allocate(int64_t{tokens} * shape.vocab * 4);
    token_ = Allocate(tokens * 4);
    logprob_ = Allocate(tokens * 4);
    frequency_ = Allocate(shape.head_dim * 2);
    FillOnes<<<1, 256>>>(static_cast<float*>(norm_.data()), shape.hidden);
    FillOnes<<<1, 256>>>(static_cast<float*>(frequency_.data()), shape.head_dim / 2);
    FillRandom<<<64, 256>>>(static_cast<uint16_t*>(residual_.data()), tokens * width, 3);
    FillRandom<<<64, 256>>>(static_cast<uint16_t*>(q_.data()), tokens * width, 4);
    FillRandom<<<64, 256>>>(static_cast<uint16_t*>(inter_.data()), int64_t{tokens} * shape.inter, 5);
    std::vector<int32_t> ints;
    for (int i = 0; i < tokens; ++i) ints.push_back(options_.context - 1);
    for (int i = 0; i < tokens; ++i) ints.push_back(i);
    for (int i = 0; i <= tokens; ++i) ints.push_back(i);
    for (int i = 0; i < tokens; ++i) ints.push_back(options_.context);
    for (int i = 0; i < tokens * blocks; ++i) ints.push_back(i);
    ints_ = Allocate(ints.size() * 4);
    Check(cudaMemcpy(ints_.data(), ints.data(), ints.size() * 4, cudaMemcpyDefault));
    auto* at = static_cast<int32_t*>(ints_.data());
    const int64_t rows = tokens;
    batch_ = {.tokens = tokens, .sequences = tokens, .decode_sequences = tokens, .max_context = options_.context};
    batch_.position = Tensor(at, DType::kI32, {rows});
    batch_.sequence_of = Tensor(at + rows, DType::kI32, {rows});
    batch_.query_start = Tensor(at + 2 * rows, DType::kI32, {rows + 1});
    batch_.context_length = Tensor(at + 3 * rows + 1, DType::kI32, {rows});
    batch_.block_table = Tensor(at + 4 * rows + 1, DType::kI32, {rows, blocks});
    Check(cudaDeviceSynchronize());
  }

  int64_t QkvRows() const { return (shape_->q_heads + 2 * shape_->kv_heads) * shape_->head_dim; }
  int64_t QDim() const { return shape_->q_heads * shape_->head_dim; }
  int64_t QkvBytes() const { return QkvRows() * shape_->hidden * 2; }
  int64_t OutBytes() const { return QDim() * shape_->hidden * 2; }
  int64_t UpBytes() const { return int64_t{2} * shape_->inter * shape_->hidden * 2; }
  int64_t DownBytes() const { return int64_t{shape_->inter} * shape_->hidden * 2; }
  int64_t HeadBytes() const { return int64_t{shape_->vocab} * shape_->hidden * 2; }
  std::byte* LayerWeights(int layer) const {
    return static_cast<std::byte*>(weights_.data()) + layer * (QkvBytes() + OutBytes() + UpBytes() + DownBytes());
  }
  static LinearWeight Weight(const std::byte* data, int64_t n, int64_t k) { return {.k = k, .segments = {{kType, n, data}}}; }
  Tensor Rows(const Buffer& buffer, int64_t width) const { return Tensor(buffer.data(), kType, {tokens_, width}); }
  Norm NormOf() const { return {.weight = Tensor(norm_.data(), DType::kF32, {shape_->hidden})}; }
  void ForLayers(const std::function<void(int)>& body) {
    for (int i = 0; i < shape_->layers; ++i) body(i);
  }

  void AttnIn(int layer) {
    cuda::AttnIn(context_, {.residual = Rows(residual_, shape_->hidden),
                            .norm = NormOf(),
                            .qkv = Weight(LayerWeights(layer), QkvRows(), shape_->hidden),
                            .rope = {.inverse_frequency = Tensor(frequency_.data(), DType::kF32, {1, shape_->head_dim / 2})},
                            .q_heads = shape_->q_heads,
                            .kv_heads = shape_->kv_heads,
                            .head_dim = shape_->head_dim,
                            .batch = batch_,
                            .kv = LayerKv(layer),
                            .q = Q()});
  }
  Tensor Q() const { return Tensor(q_.data(), kType, {tokens_, shape_->q_heads, shape_->head_dim}); }
  KvLayer LayerKv(int layer) const {
    KvLayer kv = kv_;
    kv.base += layer * pool_bytes_;
    return kv;
  }
  void Attend(int layer) {
    cuda::Attend(context_, {.q = Q(), .batch = batch_, .kv = LayerKv(layer), .scale = 0.09f, .out = Q()});
  }
  void Sample() {
    cuda::Sample(context_, {.logits = Tensor(logits_.data(), DType::kF32, {tokens_, shape_->vocab}),
                            .slot = batch_.sequence_of,
                            .position = batch_.position,
                            .params = Tensor(params_.data(), DType::kU8, {tokens_, int64_t{sizeof(SlotSampling)}}),
                            .counts = Tensor(counts_.data(), DType::kU32, {tokens_, shape_->vocab}),
                            .tokenizer_size = shape_->vocab,
                            .token = Tensor(token_.data(), DType::kI32, {tokens_}),
                            .logprob = Tensor(logprob_.data(), DType::kF32, {tokens_})});
  }
  void AttnOut(int layer) {
    cuda::ProjectOut(context_, {.in = Rows(q_, QDim()),
                                .weight = Weight(LayerWeights(layer) + QkvBytes(), shape_->hidden, QDim()),
                                .residual = Rows(residual_, shape_->hidden)});
  }
  void MlpUp(int layer) {
    cuda::MlpUp(context_, {.residual = Rows(residual_, shape_->hidden),
                           .norm = NormOf(),
                           .weight = Weight(LayerWeights(layer) + QkvBytes() + OutBytes(), 2 * shape_->inter, shape_->hidden),
                           .out = Rows(inter_, shape_->inter)});
  }
  void MlpDown(int layer) {
    cuda::ProjectOut(
        context_, {.in = Rows(inter_, shape_->inter),
                   .weight = Weight(LayerWeights(layer) + QkvBytes() + OutBytes() + UpBytes(), shape_->hidden, shape_->inter),
                   .residual = Rows(residual_, shape_->hidden)});
  }
  void Head() {
    cuda::Head(context_, {.residual = Rows(residual_, shape_->hidden),
                          .row = batch_.sequence_of,
                          .norm = NormOf(),
                          .weight = Weight(LayerWeights(shape_->layers), shape_->vocab, shape_->hidden),
                          .logits = Tensor(logits_.data(), DType::kF32, {tokens_, shape_->vocab})});
  }

  const Options options_;
  const std::unique_ptr<Allocator> allocator_;
  cuda::Context context_;
  const Shape* shape_ = nullptr;
  int64_t tokens_ = 0, pool_bytes_ = 0;
  double bandwidth_ = 1, spread_ = 0;
  Buffer weights_, pool_, residual_, q_, inter_, logits_, norm_, frequency_, ints_, params_, counts_, token_, logprob_;
  Batch batch_;
  KvLayer kv_;
};

Options Parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const size_t equals = argument.find('=');
    if (equals != std::string::npos) {
      const std::string name = argument.substr(0, equals);
      const int value = std::atoi(argument.c_str() + equals + 1);
      if (name == "attend") options.attend = value != 0;
      if (name == "blas") options.blas = value != 0;
      if (name == "ops") options.ops = value != 0;
      if (name == "stages") options.tuning.stages = value;
      if (name == "together") options.tuning.together = value != 0;
      if (name == "flying") options.tuning.flying = value;
      if (name == "chain") options.tuning.chain_tokens = value;
      if (name == "links") options.tuning.links = value;
      if (name == "invariant") options.batch_invariant = value != 0;
      if (name == "context") options.context = value;
      if (name == "width") options.tuning.gated_width = value;
      if (name == "ctas") options.tuning.ctas_per_sm = value;
    } else if (std::atoi(argument.c_str()) > 0) {
      options.tokens.push_back(std::atoi(argument.c_str()));
    } else {
      options.shapes.push_back(argument);
    }
  }
  if (options.tokens.empty()) options.tokens = {1, 8};
  if (options.shapes.empty()) options.shapes = {"m1", "m2"};
  return options;
}

}  // namespace
}  // namespace berth::kernels

int main(int count, char** arguments) {
  const berth::kernels::Options options = berth::kernels::Parse(count, arguments);
  berth::kernels::Bench bench(options);
  bench.Anchors();
  for (const std::string& name : options.shapes) {
    for (const berth::kernels::Shape& shape : berth::kernels::kShapes) {
      if (name != shape.name) continue;
      for (const int tokens : options.tokens) {
        bench.Run(shape, tokens);
      }
    }
  }
  return 0;
}
