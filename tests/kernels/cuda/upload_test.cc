#include "kernels/cuda/upload.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/hash.h"
#include "kernels/cpu/upload.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/weights.h"

namespace berth::kernels {
namespace {

constexpr WeightSizes kRoom = {.matrix_elements = 1 << 20, .vector_elements = 1 << 17, .weights = 16};
constexpr size_t kChunk = 20000;  // cuts the test's matrices into pieces

// One upload on both backends, whose results must be the same bits.
class CudaUploadTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    auto made = MakeCudaWeightUploader({.dtype = GetParam(), .threads = 3, .chunk_bytes = kChunk});
    if (!made.ok()) GTEST_SKIP() << made.status();
    cuda_ = *std::move(made);
    cpu_ = MakeCpuWeightUploader({.dtype = GetParam()});
    ASSERT_TRUE(cuda_->Reserve(kRoom).ok());
    ASSERT_TRUE(cpu_->Reserve(kRoom).ok());
  }

  std::vector<std::byte> Fetch(const void* device, size_t bytes) {
    std::vector<std::byte> host(bytes);
    EXPECT_EQ(cudaMemcpy(host.data(), device, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }

  void ExpectSame(const LinearWeight& device, const LinearWeight& host) {
    ASSERT_EQ(device.segments.size(), 1u);
    EXPECT_EQ(device.segments[0].dtype, GetParam());
    EXPECT_EQ(device.segments[0].rows, host.segments[0].rows);
    EXPECT_EQ(device.k, host.k);
    const size_t bytes = host.n() * RowBytes(GetParam(), host.k);
    const std::vector<std::byte> actual = Fetch(device.segments[0].data, bytes);
    for (size_t i = 0; i < bytes; i += 2) {
      ASSERT_EQ(std::memcmp(&actual[i], &host.segments[0].data[i], 2), 0)
          << "element " << i / 2 % host.k << " of row " << i / 2 / host.k;
    }
  }

  std::unique_ptr<WeightUploader> cuda_, cpu_;
};

TEST_P(CudaUploadTest, EveryTypeArrivesAsTheCpuConvertsIt) {
  Random random(5);
  for (const DType type : kWeightTypes) {
    SCOPED_TRACE(std::string(Info(type).name));
    const TestWeight weight = MakeWeight(type, 37, 768, random);
    const auto device = cuda_->Matrix(weight.view), host = cpu_->Matrix(weight.view);
    ASSERT_TRUE(device.ok() && host.ok());
    const auto keep = cuda_->Finish();
    ASSERT_TRUE(keep.ok()) << keep.status();
    ExpectSame(*device, *host);
    SetUp();
  }
}

TEST_P(CudaUploadTest, SegmentsOfDifferentTypesBecomeOne) {
  Random random(6);
  const TestWeight q = MakeWeight(DType::kQ4_K, 64, 512, random), k = MakeWeight(DType::kQ6_K, 32, 512, random);
  const TestWeight v = MakeWeight(DType::kF32, 33, 512, random);
  LinearWeight qkv = q.view;
  qkv.segments.insert(qkv.segments.end(), {k.view.segments[0], v.view.segments[0]});
  const auto device = cuda_->Matrix(qkv), host = cpu_->Matrix(qkv);
  const auto keep = cuda_->Finish();
  ASSERT_TRUE(keep.ok()) << keep.status();
  ExpectSame(*device, *host);
}

TEST_P(CudaUploadTest, ManyUnevenWeightsAndVectors) {
  Random random(7);
  std::vector<TestWeight> weights;
  std::vector<std::vector<float>> vectors;
  std::vector<LinearWeight> device, host;
  std::vector<Tensor> device_vectors;
  for (int i = 0; i < 6; ++i) {
    weights.push_back(MakeWeight(kWeightTypes[i % 3], 11 + 7 * i, 101 + i, random));
    vectors.push_back(random.Normals(300 + i));
  }
  for (int i = 0; i < 6; ++i) {
    device.push_back(*cuda_->Matrix(weights[i].view));
    host.push_back(*cpu_->Matrix(weights[i].view));
    device_vectors.push_back(*cuda_->Vector(Floats(vectors[i])));
  }
  const auto keep = cuda_->Finish();
  ASSERT_TRUE(keep.ok()) << keep.status();
  for (int i = 0; i < 6; ++i) {
    ExpectSame(device[i], host[i]);
    const size_t bytes = vectors[i].size() * sizeof(float);
    EXPECT_EQ(device_vectors[i].dim(0), static_cast<int64_t>(vectors[i].size()));
    EXPECT_EQ(std::memcmp(Fetch(device_vectors[i].raw(), bytes).data(), vectors[i].data(), bytes), 0) << "vector " << i;
  }
}

TEST_P(CudaUploadTest, CopiesHaveTheHashesOfWhatWasHandedIn) {
  using Bytes = WeightUploader::Bytes;
  Random random(8);
  const TestWeight own = MakeWeight(GetParam(), 61, 1024, random), converted = MakeWeight(DType::kQ8_0, 4, 512, random);
  const std::vector<float> vector = random.Normals(70'001);
  ASSERT_TRUE(cuda_->Matrix(own.view).ok() && cuda_->Matrix(converted.view).ok());
  ASSERT_TRUE(cuda_->Vector(Tensor(const_cast<float*>(vector.data()), DType::kF32, {70'001})).ok());
  const auto keep = cuda_->Finish();
  ASSERT_TRUE(keep.ok()) << keep.status();
  const Bytes matrix(own.view.segments[0].data, 61 * 2048), floats(reinterpret_cast<const std::byte*>(vector.data()), 280'004);
  const std::vector<Bytes> runs = {matrix, matrix.subspan(4096, 1024), matrix.subspan(16, 100), floats, floats.subspan(16, 0)};
  const auto hashes = cuda_->HashCopies(runs);
  ASSERT_TRUE(hashes.ok()) << hashes.status();
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ((*hashes)[i], base::Hash64({reinterpret_cast<const char*>(runs[i].data()), runs[i].size()})) << "run " << i;
  }
  const std::vector<Bytes> unknown = {Bytes(converted.view.segments[0].data, 16), Bytes(matrix.data(), matrix.size() + 16),
                                      matrix.subspan(8, 16)};
  EXPECT_EQ(*cuda_->HashCopies(unknown), std::vector<std::optional<uint64_t>>(3)) << "converted, too long, not aligned";
}

TEST_P(CudaUploadTest, WhatLiesInAFileIsReadFromIt) {
  constexpr size_t kBefore = 512;
  Random random(9);
  const TestWeight weight = MakeWeight(GetParam(), 61, 1024, random);
  const LinearWeight::Segment& segment = weight.view.segments[0];
  std::string path = ::testing::TempDir() + "weightsXXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_EQ(pwrite(fd, segment.data, 61 * 2048, kBefore), 61 * 2048);
  const std::vector<std::byte> mapped(kBefore + 61 * 2048);  // a mapping would show the file: this shows who looked
  const LinearWeight in_file = {.k = 1024, .segments = {{segment.dtype, 61, mapped.data() + kBefore}}};

  cuda_->ReadFrom({path, fd, mapped});
  const auto device = cuda_->Matrix(in_file);
  const auto keep = cuda_->Finish();
  ASSERT_TRUE(keep.ok()) << keep.status();
  ExpectSame(*device, weight.view);

  SetUp();
  cuda_->ReadFrom({path, fd, mapped});
  ASSERT_EQ(ftruncate(fd, 100'000), 0);
  ASSERT_TRUE(cuda_->Matrix(in_file).ok());
  const absl::Status status = cuda_->Finish().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StartsWith(status.message(), path + " ends at byte 100")) << status;
  close(fd);
  unlink(path.c_str());
}

TEST_P(CudaUploadTest, RandomWeightsAreTheCpus) {
  const auto device = cuda_->Random(129, 257, 99, 0.02f), host = cpu_->Random(129, 257, 99, 0.02f);
  const auto keep = cuda_->Finish();
  ASSERT_TRUE(keep.ok()) << keep.status();
  ExpectSame(*device, *host);
}

TEST_P(CudaUploadTest, SaysHowMuchMemoryIsMissing) {
  auto uploader = *MakeCudaWeightUploader({.dtype = GetParam()});
  const absl::Status status = uploader->Reserve({.matrix_elements = int64_t{1} << 40, .weights = 1});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("MiB are missing"), std::string::npos) << status;
}

INSTANTIATE_TEST_SUITE_P(Types, CudaUploadTest, ::testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(Info(info.param).name); });

}  // namespace
}  // namespace berth::kernels
