#include "worker/loader/weight_checksum.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::loader {
namespace {

using ::testing::HasSubstr;

// A file of tensors one behind the other, with a gap before each.
class WeightVerifierTest : public ::testing::Test {
 protected:
  static constexpr size_t kGap = 64;
  static constexpr size_t kSizes[] = {100, 4 * kPieceBytes, kPieceBytes + 8, 0, 5 * kPieceBytes + 24, 9 * kPieceBytes - 1, 7};

  WeightVerifierTest() {
    size_t bytes = 0;
    for (const size_t size : kSizes) bytes += kGap + size;
    file_.resize(bytes);
    std::mt19937 random(1);
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
      const uint32_t word = random();
      std::memcpy(&file_[i], &word, 4);
    }
    size_t at = 0;
    for (const size_t size : kSizes) {
      const absl::Span<const std::byte> data(&file_[at += kGap], size);
      WeightChecksum checksum;
      for (size_t begin = 0; begin < size; begin += kPieceBytes) {
        checksum.AddPiece(WeightChecksum::HashPiece(data.subspan(begin, kPieceBytes)));
      }
      tensors_.push_back({"tensor" + std::to_string(tensors_.size()), data, checksum.value()});
      at += size;
    }
  }

  std::vector<std::byte> file_;
  std::vector<WeightVerifier::Tensor> tensors_;
};

// Has a copy of one tensor.
struct CopyingUploader final : public kernels::WeightUploader {
  explicit CopyingUploader(Bytes tensor) : source(tensor), copy(tensor.begin(), tensor.end()) {}

  absl::Status Reserve(const kernels::WeightSizes&) override { return absl::OkStatus(); }
  absl::StatusOr<kernels::LinearWeight> Matrix(const kernels::LinearWeight& host) override { return host; }
  absl::StatusOr<kernels::Tensor> Vector(const kernels::Tensor& host) override { return host; }
  absl::StatusOr<kernels::LinearWeight> Random(int64_t, int64_t, uint64_t, float) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::vector<kernels::Buffer>> Finish() override { return std::vector<kernels::Buffer>(); }
  absl::StatusOr<std::vector<std::optional<uint64_t>>> HashCopies(absl::Span<const Bytes> runs) override {
    std::vector<std::optional<uint64_t>> hashes(runs.size());
    for (size_t i = 0; i < runs.size(); ++i) {
      if (runs[i].data() < source.data() || runs[i].data() >= source.data() + source.size()) continue;
      const Bytes copied(copy.data() + (runs[i].data() - source.data()), runs[i].size());
      hashes[i] = WeightChecksum::HashPiece(copied);
    }
    return hashes;
  }

  const Bytes source;
  std::vector<std::byte> copy;
};

TEST_F(WeightVerifierTest, CopiesAnswerForTheFileAndTheRestIsRead) {
  const WeightVerifier verifier("file", tensors_);
  EXPECT_EQ(verifier.Verify(), absl::OkStatus());
  CopyingUploader uploader(tensors_[4].data);
  std::fill_n(file_.begin() + (tensors_[4].data.data() - file_.data()), tensors_[4].data.size(), std::byte{0});
  EXPECT_EQ(verifier.Verify(&uploader), absl::OkStatus()) << "nobody reads it again";
  uploader.copy[4 * kPieceBytes] ^= std::byte{1};
  EXPECT_THAT(std::string(verifier.Verify(&uploader).message()), HasSubstr("file: tensor tensor4 has checksum"));
  file_[tensors_[1].data.data() - file_.data()] ^= std::byte{1};
  EXPECT_THAT(std::string(verifier.Verify(&uploader).message()), HasSubstr("file: tensor tensor1 has checksum"));
}

TEST_F(WeightVerifierTest, TellsHowFarItHasRead) {
  std::vector<int64_t> told;
  int64_t bytes = 0;
  for (const WeightVerifier::Tensor& tensor : tensors_) bytes += static_cast<int64_t>(tensor.data.size());
  EXPECT_EQ(WeightVerifier("file", tensors_)
                .Verify(nullptr,
                        [&](int64_t done, int64_t total) {
                          EXPECT_EQ(total, bytes);
                          told.push_back(done);
                        }),
            absl::OkStatus());
  EXPECT_GT(told.size(), 5u);
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_EQ(told.back(), bytes);
}

TEST_F(WeightVerifierTest, AnyWrongByteIsNamed) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const absl::Span<const std::byte> data = tensors_[i].data;
    for (size_t at = 0; at < data.size(); at += 2 * kPieceBytes - 1) {
      std::byte& byte = file_[data.data() - file_.data() + at];
      byte ^= std::byte{16};
      const absl::Status status = WeightVerifier("weights.bin", tensors_).Verify();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(std::string(status.message()), HasSubstr("weights.bin: tensor " + tensors_[i].name + " has checksum "));
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrFormat("want %016x", tensors_[i].checksum)));
      byte ^= std::byte{16};
    }
  }
}

}  // namespace
}  // namespace berth::loader
