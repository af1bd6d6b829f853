// Attention on one GPU: decode rows against the bandwidth of a plain read in the same run, prompt chunks in TFLOP/s. Calls
// follow one another in a CUDA graph and rotate among KV pools that together exceed the L2 cache; a figure is the median of the
// graph's launches, divided by the calls in it.
//   attend_bench [filter]     runs the cases whose name contains `filter`
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/stages.h"
#include "tests/bench/bulk_read.cuh"

namespace berth::kernels {
namespace {

constexpr int64_t kKvBytes = int64_t{6} << 30;        // all pools together
constexpr int64_t kRotationBytes = int64_t{1} << 30;  // that one graph walks through, if the case is smaller
constexpr int kRepetitions = 30;
constexpr double kTensorCoreTflops = 790;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

Buffer Allocate(Allocator& allocator, size_t bytes) {
  auto made = allocator.Allocate(bytes);
  if (made.ok()) return *std::move(made);
  std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
  std::exit(1);
}

__global__ void FillRandom(uint16_t* out, int64_t count) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x) {
    const uint32_t hash = static_cast<uint32_t>(i) * 2654435761u >> 13;
    out[i] = static_cast<uint16_t>(0x3e00 | (hash & 0x81ff));  // bf16 of size 1/8 to 1/2, both signs
  }
}

struct Time {
  double median = 0, least = 0, most = 0;  // µs
};

struct Entry {
  int context, rows;
};

struct Model {
  const char* name;
  int q_heads, kv_heads, dim;
  int latent = 0;  // so many of a key's first dimensions are the value; 0: values have a place of their own

  int value_dim() const { return latent > 0 ? latent : dim; }
  int row() const { return latent > 0 ? dim : 2 * dim; }  // of a token and kv head in the cache
};

class Bench {
 public:
  Bench() : allocator_(MakeCudaAllocator(0)) {
    Check(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "stream");
    context_.ReadDevice(0, /*generic=*/false);
    if (!cuda::ReserveAttend(context_, *allocator_).ok()) std::exit(1);
    kv_ = Allocate(*allocator_, kKvBytes);
    FillRandom<<<1024, 256, 0, context_.stream>>>(static_cast<uint16_t*>(kv_.data()), kKvBytes / 2);
    Check(cudaStreamSynchronize(context_.stream), "filling the pools");
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, 0), "device");
    multiprocessors_ = properties.multiProcessorCount;
    std::printf("%s, %d multiprocessors\n", properties.name, multiprocessors_);
  }

  void Anchor() {
    constexpr size_t kBytes = size_t{2} << 30;
    const Time time = Measure(3, [&](int i) {
      bench::QueueBulkRead(context_.stream, multiprocessors_, static_cast<const std::byte*>(kv_.data()) + i * kBytes, kBytes);
    });
    read_gbps_ = kBytes / time.median / 1e3;
    std::printf("bulk read of 2 GiB: %.0f GB/s (%.1f us, %.1f-%.1f)\n", read_gbps_, time.median, time.least, time.most);
  }

  // Leaves out the kernels of one architecture.
  void UseGenericSet() { context_.hopper = false; }

  // `decode`: the entries of one row, at the front, are announced as such; `beside`: chunks may go beside them.
  void Attend(const std::string& name, const Model& m, const std::vector<Entry>& entries, bool decode, bool beside) {
    std::vector<int32_t> position, sequence, start = {0}, context, table;
    int64_t width = 1, blocks = 0, kv_rows = 0, chunk_pairs = 0;
    int decodes = 0;
    double flops = 0;
    for (const Entry& entry : entries) width = std::max<int64_t>(width, (entry.context + 63) / 64);
    for (const Entry& entry : entries) {
      for (int i = 0; i < entry.rows; ++i) {
        position.push_back(entry.context - entry.rows + i);
        sequence.push_back(static_cast<int32_t>(context.size()));
        flops += 2.0 * (m.dim + m.value_dim()) * m.q_heads * (position.back() + 1);
        if (beside && entry.rows > 1) chunk_pairs += position.back() + 1;
      }
      decodes += decode && entry.rows == 1;
      start.push_back(static_cast<int32_t>(position.size()));
      context.push_back(entry.context);
      kv_rows += entry.context;
      for (int64_t i = 0; i < width; ++i) table.push_back(i < (entry.context + 63) / 64 ? static_cast<int32_t>(blocks++) : 0);
    }
    std::vector<int32_t> scrambled(blocks);
    std::iota(scrambled.begin(), scrambled.end(), 0);
    std::shuffle(scrambled.begin(), scrambled.end(), std::mt19937(1));
    for (int32_t& block : table) block = scrambled[block];
    const int rows = static_cast<int>(position.size()), sequences = static_cast<int>(context.size());
    std::vector<Buffer> buffers;
    const auto ints = [&](const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
      buffers.push_back(Allocate(*allocator_, values.size() * 4));
      Check(cudaMemcpy(buffers.back().data(), values.data(), values.size() * 4, cudaMemcpyHostToDevice), "upload");
      return Tensor(buffers.back().data(), DType::kI32, shape);
    };
    const auto activations = [&](int dim) {
      buffers.push_back(Allocate(*allocator_, int64_t{rows} * m.q_heads * dim * 2));
      FillRandom<<<256, 256>>>(static_cast<uint16_t*>(buffers.back().data()), int64_t{rows} * m.q_heads * dim);
      Check(cudaDeviceSynchronize(), "filling");
      return Tensor(buffers.back().data(), DType::kBF16, {rows, m.q_heads, dim});
    };
    const int64_t head_stride = int64_t{kKvBlockTokens} * m.row() * 2, pool_bytes = blocks * m.kv_heads * head_stride;
    AttendArgs args{.q = activations(m.dim),
                    .batch = {.number = ++batches_,
                              .tokens = rows,
                              .sequences = sequences,
                              .decode_sequences = decodes,
                              .chunk_pairs = chunk_pairs,
                              .position = ints(position, {rows}),
                              .sequence_of = ints(sequence, {rows}),
                              .query_start = ints(start, {sequences + 1}),
                              .context_length = ints(context, {sequences}),
                              .block_table = ints(table, {sequences, width})},
                    .kv = {.base = static_cast<std::byte*>(kv_.data()),
                           .dtype = DType::kBF16,
                           .kv_heads = m.kv_heads,
                           .key_dim = m.dim,
                           .value_dim = m.value_dim(),
                           .values_in_keys = m.latent > 0,
                           .block_stride = m.kv_heads * head_stride,
                           .head_stride = head_stride},
                    .scale = 1 / std::sqrt(static_cast<float>(m.dim)),
                    .out = activations(m.value_dim())};
    const int pools = static_cast<int>(std::clamp<int64_t>(kRotationBytes / pool_bytes, 1, 64));
    const int calls = decode ? std::max(pools, static_cast<int>(std::min<int64_t>(kKvBytes / pool_bytes, 4))) : 4;
    const int64_t places = std::min<int64_t>(calls, kKvBytes / pool_bytes);
    const Time time = Measure(calls, [&](int i) {
      args.kv.base = static_cast<std::byte*>(kv_.data()) + i % places * pool_bytes;
      cuda::Attend(context_, args);
    });
    Check(context_.fault.ok() ? cudaSuccess : cudaErrorUnknown, context_.fault.ToString().c_str());
    const double bytes = 2.0 * kv_rows * m.kv_heads * m.row() + 2.0 * rows * m.q_heads * (m.dim + m.value_dim());
    std::printf("%-34s %9.1f us (%.1f-%.1f)", name.c_str(), time.median, time.least, time.most);
    if (decode) {
      const double gbps = bytes / time.median / 1e3;
      std::printf("  %8.1f MB  %5.0f GB/s  %4.1f %% of the read, floor %.1f us\n", bytes / 1e6, gbps, 100 * gbps / read_gbps_,
                  bytes / read_gbps_ / 1e3);
    } else {
      const double tflops = flops / time.median / 1e6;
      std::printf("  %8.2f GFLOP  %4.0f TFLOP/s  %4.1f %% of %.0f\n", flops / 1e9, tflops, 100 * tflops / kTensorCoreTflops,
                  kTensorCoreTflops);
    }
    std::fflush(stdout);
  }

 private:
  Time Measure(int calls, const std::function<void(int)>& call) {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    Check(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < calls; ++i) call(i);
    Check(cudaStreamEndCapture(context_.stream, &graph), "capture");
    Check(cudaGraphInstantiate(&executable, graph, 0), "graph");
    cudaEvent_t begin, end;
    Check(cudaEventCreate(&begin), "event");
    Check(cudaEventCreate(&end), "event");
    std::vector<double> times;
    for (int i = -3; i < kRepetitions; ++i) {
      Check(cudaEventRecord(begin, context_.stream), "event");
      Check(cudaGraphLaunch(executable, context_.stream), "graph");
      Check(cudaEventRecord(end, context_.stream), "event");
      Check(cudaEventSynchronize(end), "a launch");
      float ms = 0;
      Check(cudaEventElapsedTime(&ms, begin, end), "event");
      if (i >= 0) times.push_back(ms * 1e3 / calls);
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back()};
  }

  cuda::Context context_;
  std::unique_ptr<Allocator> allocator_;
  Buffer kv_;
  int multiprocessors_ = 0;
  uint64_t batches_ = 0;
  double read_gbps_ = 1;
};

int Main(const std::string& filter) {
  Bench bench;
  bench.Anchor();
  const auto run = [&](const std::string& name, const Model& m, const std::vector<Entry>& entries, bool decode,
                       bool beside = false) {
    if (name.find(filter) != std::string::npos) bench.Attend(name, m, entries, decode, beside);
  };
  std::mt19937 random(7);
  std::vector<Entry> mixed, shorter;
  for (int i = 0; i < 256; ++i) mixed.push_back({1 + static_cast<int>(random() % 2000), 1});
  for (int i = 0; i < 256; ++i) shorter.push_back({60 + static_cast<int>(random() % 740), 1});
  // What the trace of `berth bench engine` decodes while all its streams run, and then as few are left.
  const auto trace = [&random](int count, int mean) {
    std::exponential_distribution<double> half(2.0 / mean);
    std::vector<Entry> entries;
    for (int i = 0; i < count; ++i) entries.push_back({10 + static_cast<int>(half(random) + half(random)), 1});
    return entries;
  };
  const std::vector<Entry> traces[] = {trace(12, 1150), trace(28, 930), trace(56, 770), trace(128, 550), trace(256, 350)};
  const Model models[] = {{"M1 16/8 d128", 16, 8, 128},        {"M2 32/8 d128", 32, 8, 128},
                          {"32/32 d128", 32, 32, 128},         {"9/3 d64", 9, 3, 64},
                          {"16/8 d256", 16, 8, 256},           {"V2-Lite 16 latents", 16, 1, 576, 512},
                          {"V3 128 latents", 128, 1, 576, 512}};
  const auto prefill = [&](const Model& m) {
    const std::string name = m.name;
    run(name + " prefill 1024", m, {{1024, 1024}}, false);
    run(name + " prefill 8192", m, {{8192, 8192}}, false);
    run(name + " prefill 8 x 1024", m, std::vector<Entry>(8, {1024, 1024}), false);
    run(name + " prefill 512 at 8192", m, {{8192, 512}}, false);
    run(name + " prefill 220", m, {{220, 220}}, false);
    run(name + " prefill 4 x 220", m, std::vector<Entry>(4, {220, 220}), false);
  };
  for (const Model& m : models) {
    const std::string name = m.name;
    for (const int batch : {1, 8, 64}) {
      run(name + " decode " + std::to_string(batch) + " x 1000", m, std::vector<Entry>(batch, {1000, 1}), true);
    }
    if (m.kv_heads <= 8) {
      run(name + " decode 256 x 1-2000", m, mixed, true);
      run(name + " decode 256 x 60-800", m, shorter, true);
      for (const std::vector<Entry>& entries : traces) {
        run(name + " decode " + std::to_string(entries.size()) + " of a trace", m, entries, true);
      }
    }
    for (const Entry& chunk : {Entry{60, 60}, {130, 130}, {256, 256}, {512, 512}, {4000, 20}, {2000, 100}}) {
      if (m.kv_heads > 8 || m.latent > 0) continue;
      const std::string size = std::to_string(chunk.rows) + " at " + std::to_string(chunk.context - chunk.rows);
      std::vector<Entry> mixed_step = traces[4];
      mixed_step.push_back(chunk);
      for (const bool beside : {false, true}) {
        const std::string how = beside ? " beside" : " behind";
        run(name + " 256 of a trace, " + size + how, m, mixed_step, true, beside);
        run(name + " chunk " + size + how, m, {chunk}, true, beside);
      }
    }
    run(name + " decode 1 x 32000", m, {{32000, 1}}, true);
    prefill(m);
  }
  std::printf("without the kernels of one architecture:\n");
  bench.UseGenericSet();
  prefill(models[0]);
  prefill(models[1]);
  return 0;
}

}  // namespace
}  // namespace berth::kernels

int main(int argc, char** argv) { return berth::kernels::Main(argc > 1 ? argv[1] : ""); }
