#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/half.h"
#include "kernels/cuda/cuda_ops.h"

namespace berth::kernels {

// One problem on both backends: the CPU computes in f32 on values that the device's dtype can hold, so that only the rounding
// of results and the order of sums differ. The parameter is the device's dtype. Tests are skipped where there is no device.
class TwinTensors : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    auto made = MakeCudaOps({.device = 0,
                             .max_tokens = 2048,
                             .max_hidden = 4096,
                             .max_product = 32768,
                             .max_adapter_rank = 64,
                             .moe = {.experts = 16, .top_k = 4, .intermediate = 128}});
    if (!made.ok()) GTEST_SKIP() << made.status();
    cuda_ = *std::move(made);
    allocator_ = MakeCudaAllocator(0);
    cpu_ = MakeCpuOps({.threads = 4});
  }

  float Round(float x) const {
    return GetParam() == DType::kBF16 ? cpu::FromBf16(cpu::ToBf16(x)) : cpu::FromHalf(cpu::ToHalf(x));
  }

  // A tensor in both memories. Activations and weights are f32 on the host and GetParam() on the device.
  struct Twin {
    std::vector<std::byte> host_memory;
    Tensor host, device;
    DType device_dtype;
  };

  Twin& Make(DType host_dtype, DType device_dtype, std::initializer_list<int64_t> shape) {
    Twin& twin = *twins_.emplace_back(std::make_unique<Twin>());
    int64_t elements = 1;
    for (int64_t dim : shape) elements *= dim;
    twin.host_memory.resize(elements * Info(host_dtype).block_bytes);
    twin.host = Tensor(twin.host_memory.data(), host_dtype, shape);
    buffers_.push_back(*allocator_->Allocate(elements * Info(device_dtype).block_bytes));
    twin.device = Tensor(buffers_.back().data(), device_dtype, shape);
    twin.device_dtype = device_dtype;
    return twin;
  }

  void Upload(const Twin& twin) {
    const int64_t elements = twin.host.elements();
    if (twin.host.dtype() == twin.device_dtype) {
      Copy(twin.device.raw(), twin.host_memory.data(), twin.host_memory.size());
      return;
    }
    std::vector<uint16_t> narrow(elements);
    for (int64_t i = 0; i < elements; ++i) {
      const float x = twin.host.data<float>()[i];
      narrow[i] = twin.device_dtype == DType::kBF16 ? cpu::ToBf16(x) : cpu::ToHalf(x);
    }
    Copy(twin.device.raw(), narrow.data(), elements * 2);
  }

  // Calls run(ops, side) for both backends; side(twin) is the tensor in that one's memory. The device's may still be busy.
  template <class Run>
  void RunBoth(const Run& run) {
    run(*cpu_, [](const Twin& twin) { return twin.host; });
    run(*cuda_, [](const Twin& twin) { return twin.device; });
  }

  // Copies on the device come back before they are done, and the ops' stream does not wait for them.
  static void Copy(void* to, const void* from, size_t bytes) {
    ASSERT_EQ(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  std::vector<float> Download(const Tensor& device) {
    std::vector<float> values(device.elements());
    if (device.dtype() == DType::kF32) {
      Copy(values.data(), device.raw(), values.size() * 4);
      return values;
    }
    std::vector<uint16_t> narrow(values.size());
    Copy(narrow.data(), device.raw(), narrow.size() * 2);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = device.dtype() == DType::kBF16 ? cpu::FromBf16(narrow[i]) : cpu::FromHalf(narrow[i]);
    }
    return values;
  }

  // Random activations or weights that the device can hold exactly.
  Twin& Values(std::initializer_list<int64_t> shape, float scale = 1) {
    Twin& twin = Make(DType::kF32, GetParam(), shape);
    for (int64_t i = 0; i < twin.host.elements(); ++i) twin.host.data<float>()[i] = Round(normal_(random_) * scale);
    Upload(twin);
    return twin;
  }
  // f32 on both sides: norm weights, biases.
  Twin& Floats(std::initializer_list<int64_t> shape, float mean, float scale) {
    Twin& twin = Make(DType::kF32, DType::kF32, shape);
    for (int64_t i = 0; i < twin.host.elements(); ++i) twin.host.data<float>()[i] = mean + normal_(random_) * scale;
    Upload(twin);
    return twin;
  }
  Twin& Ints(const std::vector<int32_t>& values) {
    Twin& twin = Make(DType::kI32, DType::kI32, {static_cast<int64_t>(values.size())});
    std::memcpy(twin.host_memory.data(), values.data(), values.size() * 4);
    Upload(twin);
    return twin;
  }
  static LinearWeight WeightOf(const Tensor& tensor) {
    return {.k = tensor.dim(1), .segments = {{tensor.dtype(), tensor.dim(0), static_cast<const std::byte*>(tensor.raw())}}};
  }

  void ExpectClose(const Twin& twin, double tolerance) {
    ASSERT_TRUE(cuda_->Sync().ok());
    const std::vector<float> actual = Download(twin.device);
    double difference = 0, size = 0;
    for (size_t i = 0; i < actual.size(); ++i) {
      const double want = twin.host.data<float>()[i];
      ASSERT_FALSE(std::isnan(actual[i])) << "element " << i;
      difference += (actual[i] - want) * (actual[i] - want);
      size += want * want;
    }
    EXPECT_LE(std::sqrt(difference), tolerance * std::sqrt(size));
  }
  double Tolerance() const { return GetParam() == DType::kBF16 ? 6e-3 : 8e-4; }

  std::unique_ptr<Ops> cuda_, cpu_;
  std::unique_ptr<Allocator> allocator_;
  std::vector<std::unique_ptr<Twin>> twins_;
  std::vector<Buffer> buffers_;
  std::mt19937 random_{12};
  std::normal_distribution<float> normal_;
};

inline const auto kDeviceTypes = ::testing::Values(DType::kBF16, DType::kF16);
inline std::string DeviceTypeName(const ::testing::TestParamInfo<DType>& info) { return std::string(Info(info.param).name); }

}  // namespace berth::kernels
