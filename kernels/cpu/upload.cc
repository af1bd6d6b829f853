#include "kernels/cpu/upload.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/functional/function_ref.h"
#include "base/check.h"
#include "base/status.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/random_weight.h"
#include "kernels/weight_memory.h"

namespace berth::kernels {
namespace {

constexpr int64_t kTaskRows = 64;

class CpuWeightUploader final : public WeightUploader {
 public:
  explicit CpuWeightUploader(const CpuWeightUploaderOptions& options) : dtype_(options.dtype), pool_(options.threads) {
    BERTH_CHECK(dtype_ == DType::kF32 || dtype_ == DType::kF16 || dtype_ == DType::kBF16) << Info(dtype_).name;
  }

  absl::Status Reserve(const WeightSizes& sizes) override {
    BERTH_ASSIGN_OR_RETURN(Buffer buffer, HostAllocator().Allocate(sizes.Bytes(dtype_)));
    memory_.Hold(std::move(buffer));
    return absl::OkStatus();
  }

  absl::StatusOr<LinearWeight> Matrix(const LinearWeight& host) override {
    const LinearWeight out = memory_.TakeMatrix(dtype_, host.n(), host.k);
    int64_t begin = 0;
    for (const LinearWeight::Segment& segment : host.segments) {
      const size_t row_bytes = RowBytes(segment.dtype, host.k);
      FillRows(out, begin, segment.rows, [&](int64_t row, std::vector<float>& values) {
        DequantizeRow(segment.dtype, segment.data + row * row_bytes, values.data(), host.k);
      });
      begin += segment.rows;
    }
    return out;
  }

  absl::StatusOr<Tensor> Vector(const Tensor& host) override {
    std::byte* const data = memory_.Take(host.elements() * sizeof(float));
    std::memcpy(data, host.raw(), host.elements() * sizeof(float));
    return Tensor(data, DType::kF32, {host.elements()});
  }

  absl::StatusOr<LinearWeight> Random(int64_t rows, int64_t k, uint64_t seed, float scale) override {
    const LinearWeight out = memory_.TakeMatrix(dtype_, rows, k);
    const float unit = RandomWeightUnit(scale);
    FillRows(out, 0, rows, [&](int64_t row, std::vector<float>& values) {
      for (int64_t i = 0; i < k; ++i) values[i] = RandomWeight(seed, row * k + i, unit);
    });
    return out;
  }

  absl::StatusOr<std::vector<Buffer>> Finish() override {
    std::vector<Buffer> buffers;
    buffers.push_back(memory_.Release());
    return buffers;
  }

 private:
  // Rows [begin, begin + rows) of `out`, from values that `fill` writes; it counts rows from 0.
  void FillRows(const LinearWeight& out, int64_t begin, int64_t rows,
                absl::FunctionRef<void(int64_t row, std::vector<float>& values)> fill) {
    const size_t row_bytes = RowBytes(dtype_, out.k);
    std::byte* const data = const_cast<std::byte*>(out.segments.front().data) + begin * row_bytes;
    pool_.Run(static_cast<int>((rows + kTaskRows - 1) / kTaskRows), [&](int task, int thread) {
      std::vector<float> values(out.k);
      for (int64_t row = task * kTaskRows; row < std::min(rows, (task + 1) * kTaskRows); ++row) {
        fill(row, values);
        StoreRow(values.data(), out.k, dtype_, data + row * row_bytes);
      }
    });
  }

  const DType dtype_;
  cpu::ThreadPool pool_;
  WeightMemory memory_;
};

}  // namespace

std::unique_ptr<WeightUploader> MakeCpuWeightUploader(const CpuWeightUploaderOptions& options) {
  return std::make_unique<CpuWeightUploader>(options);
}

}  // namespace berth::kernels
