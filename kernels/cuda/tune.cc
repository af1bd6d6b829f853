#include "kernels/cuda/tune.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/blas_choice.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/recordings.h"
#include "kernels/cuda/stages.h"

namespace berth::kernels {
namespace {

constexpr int64_t kLeastTokens = 64;
constexpr double kLeastGain = 0.015, kLeastGainOfMany = 0.025;
constexpr int64_t kMany = 512;
constexpr int kGroups = 5, kConfirmations = 2;
constexpr int kWeights = 4;                // in turn, so that none is in the cache
constexpr size_t kRandomBytes = 64 << 20;  // repeated as often as there is room

// Times products on a device. Errors of its calls are the context's fault.
class Stopwatch {
 public:
  static absl::StatusOr<std::unique_ptr<Stopwatch>> Create(int device, size_t weight_bytes, size_t in_bytes, size_t out_bytes) {
    BERTH_RETURN_IF_ERROR(CheckCudaDevice(device));
    auto watch = std::make_unique<Stopwatch>();
    const std::unique_ptr<Allocator> allocator = MakeCudaAllocator(device);
    BERTH_ASSIGN_OR_RETURN(watch->weights_, allocator->Allocate(weight_bytes));
    BERTH_ASSIGN_OR_RETURN(watch->in_, allocator->Allocate(in_bytes));
    BERTH_ASSIGN_OR_RETURN(watch->out_, allocator->Allocate(out_bytes));
    cuda::Context& context = watch->context_;
    BERTH_ASSIGN_OR_RETURN(context.blas_workspace, allocator->Allocate(cuda::kBlasWorkspaceBytes));
    context.ReadDevice(device, /*generic=*/true);  // no streaming kernels
    context.Note(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking), "making a stream");
    context.Note(cublasLtCreate(&context.blas), "starting cuBLASLt");
    for (cudaEvent_t* event : {&watch->start_, &watch->end_}) context.Note(cudaEventCreate(event), "making an event");
    watch->FillWeights();
    return watch;
  }
  ~Stopwatch() {
    context_.blas_plans.clear();
    for (const cudaEvent_t event : {start_, end_}) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (context_.blas != nullptr) cublasLtDestroy(context_.blas);
    if (context_.stream != nullptr) cudaStreamDestroy(context_.stream);
  }

  cuda::Context& context() { return context_; }

  // Median time of a product by `plan`, µs.
  absl::StatusOr<double> Time(const ProductShape& shape, int64_t tokens, const cuda::BlasPlans::key_type& key,
                              cuda::BlasPlan plan) {
    context_.blas_plans.insert_or_assign(key, std::move(plan));
    const size_t bytes = shape.n * shape.k * 2;
    const int count = static_cast<int>(std::min<size_t>(weights_.bytes() / bytes, kWeights));
    const auto multiply = [&] {
      for (int i = 0; i < count; ++i) {
        const std::byte* weight = static_cast<std::byte*>(weights_.data()) + i * bytes;
        cuda::Linear(context_, Tensor(in_.data(), DType::kBF16, {tokens, shape.k}),
                     {.k = shape.k, .segments = {{DType::kBF16, shape.n, weight}}}, shape.accumulate ? 1 : 0,
                     Tensor(out_.data(), shape.out, {tokens, shape.n}));
      }
    };
    multiply();
    cuda::Recordings recordings;
    recordings.Begin(context_);
    multiply();
    BERTH_ASSIGN_OR_RETURN(const int recording, recordings.End(context_));
    const int repeats = std::max<int>(1, 1024 / static_cast<int>(tokens));
    std::vector<double> times;
    for (int group = 0; group <= kGroups; ++group) {
      context_.Note(cudaEventRecord(start_, context_.stream), "timing");
      for (int i = 0; i < repeats; ++i) recordings.Replay(context_, recording);
      context_.Note(cudaEventRecord(end_, context_.stream), "timing");
      context_.Note(cudaEventSynchronize(end_), "timing");
      float milliseconds = 0;
      context_.Note(cudaEventElapsedTime(&milliseconds, start_, end_), "timing");
      BERTH_RETURN_IF_ERROR(context_.fault);
      if (group > 0) times.push_back(milliseconds * 1e3 / repeats / count);
    }
    std::nth_element(times.begin(), times.begin() + kGroups / 2, times.end());
    return times[kGroups / 2];
  }

 private:
  // Numbers of which products have the power that real ones have.
  void FillWeights() {
    std::vector<uint16_t> values(kRandomBytes / 2);
    std::minstd_rand random(1);
    for (uint16_t& value : values)
      value = static_cast<uint16_t>((random() >> 8 & 0x80ff) | 0x3c00);  // 0.008 to 0.03, both signs
    for (const Buffer* buffer : {&weights_, &in_}) {
      for (size_t at = 0; at < buffer->bytes(); at += kRandomBytes) {
        context_.Note(cudaMemcpy(static_cast<std::byte*>(buffer->data()) + at, values.data(),
                                 std::min(kRandomBytes, buffer->bytes() - at), cudaMemcpyHostToDevice),
                      "filling weights");
      }
    }
  }

  cuda::Context context_;
  Buffer weights_, in_, out_;
  cudaEvent_t start_ = nullptr, end_ = nullptr;
};

using Algorithm = std::array<uint64_t, 8>;
Algorithm AlgorithmOf(const cuda::BlasPlan& plan) {
  Algorithm words;
  static_assert(sizeof(words) == sizeof(plan.algorithm));
  std::memcpy(words.data(), &plan.algorithm, sizeof(words));
  return words;
}

// One shape with one number of tokens.
class ProductTuner {
 public:
  ProductTuner(Stopwatch& watch, const ProductShape& shape, int64_t tokens)
      : watch_(watch), shape_(shape), tokens_(tokens), key_{DType::kBF16, shape.out, shape.n, shape.k, tokens, 16} {}

  // The product's line in the table; none: cuBLASLt's first proposal.
  absl::StatusOr<std::optional<TunedProduct>> Tune(int proposals, ProductTiming& timing) {
    std::optional<cuda::BlasPlan> present = Plan(std::nullopt), first = Plan(0);
    if (!present || !first) return watch_.context().fault;
    const Algorithm untuned = AlgorithmOf(*first), now = AlgorithmOf(*present);
    BERTH_ASSIGN_OR_RETURN(timing.now, watch_.Time(shape_, tokens_, key_, *std::move(present)));
    timing.best = timing.now;
    Algorithm winner = now;
    std::optional<int> best;
    for (int choice = 0; choice < proposals; ++choice) {
      std::optional<cuda::BlasPlan> plan = Plan(choice);
      if (!plan) break;
      const Algorithm algorithm = AlgorithmOf(*plan);
      if (algorithm == now || (choice > 0 && Line(algorithm).Algorithm() != algorithm)) continue;
      BERTH_ASSIGN_OR_RETURN(const double time, watch_.Time(shape_, tokens_, key_, *std::move(plan)));
      if (time >= timing.best) continue;
      timing.best = time;
      winner = algorithm;
      best = choice;
    }
    timing.changed = best.has_value() && IsFaster(timing.best, timing.now);
    for (int i = 0; timing.changed && i < kConfirmations; ++i) {
      BERTH_ASSIGN_OR_RETURN(const double again, watch_.Time(shape_, tokens_, key_, *Plan(std::nullopt)));
      BERTH_ASSIGN_OR_RETURN(const double best_again, watch_.Time(shape_, tokens_, key_, *Plan(best)));
      timing.changed = IsFaster(best_again, again);
    }
    const Algorithm& chosen = timing.changed ? winner : now;
    if (chosen == untuned) return std::nullopt;
    return Line(chosen);
  }

 private:
  std::optional<cuda::BlasPlan> Plan(std::optional<int> choice) { return cuda::MakeBlasPlan(watch_.context(), key_, choice); }
  TunedProduct Line(const Algorithm& algorithm) const {
    return {shape_.out, shape_.n, shape_.k, tokens_, algorithm[0], algorithm[3]};
  }
  bool IsFaster(double time, double than) const {
    return time < (1 - (tokens_ > kMany ? kLeastGainOfMany : kLeastGain)) * than;
  }

  Stopwatch& watch_;
  const ProductShape shape_;
  const int64_t tokens_;
  const cuda::BlasPlans::key_type key_;
};

}  // namespace

absl::StatusOr<std::vector<TunedProduct>> TuneProducts(absl::Span<const ProductShape> shapes, const TuneOptions& options,
                                                       const std::function<void(const ProductTiming&)>& on_timing) {
  if (cublasLtGetVersion() != kTunedLibraryVersion) {
    return absl::FailedPreconditionError(absl::StrCat("cuBLASLt is version ", cublasLtGetVersion(), ", and the table is for ",
                                                      kTunedLibraryVersion, " (kTunedLibraryVersion)"));
  }
  size_t weight_bytes = 0, in_bytes = 0, out_bytes = 0;
  for (const ProductShape& shape : shapes) {
    weight_bytes = std::max<size_t>(weight_bytes, kWeights * shape.n * shape.k * 2);
    in_bytes = std::max<size_t>(in_bytes, shape.most_tokens * shape.k * 2);
    out_bytes = std::max<size_t>(out_bytes, shape.most_tokens * shape.n * Info(shape.out).block_bytes);
  }
  BERTH_ASSIGN_OR_RETURN(const auto watch, Stopwatch::Create(options.device, weight_bytes, in_bytes, out_bytes));
  std::vector<TunedProduct> table;
  for (const TunedProduct& product : TunedProducts()) {
    const auto is_of = [&](const ProductShape& shape) {
      return product.out == shape.out && product.n == shape.n && product.k == shape.k;
    };
    if (std::none_of(shapes.begin(), shapes.end(), is_of)) table.push_back(product);
  }
  for (const ProductShape& shape : shapes) {
    for (int64_t tokens = kLeastTokens; tokens <= shape.most_tokens; tokens = cuda::PlanTokens(tokens + 1)) {
      ProductTiming timing{.shape = shape, .tokens = tokens};
      ProductTuner tuner(*watch, shape, tokens);
      BERTH_ASSIGN_OR_RETURN(const std::optional<TunedProduct> line, tuner.Tune(options.proposals, timing));
      if (line) table.push_back(*line);
      on_timing(timing);
    }
  }
  std::sort(table.begin(), table.end(), [](const TunedProduct& a, const TunedProduct& b) {
    return std::tie(a.n, a.k, a.out, a.tokens) < std::tie(b.n, b.k, b.out, b.tokens);
  });
  return table;
}

}  // namespace berth::kernels
