#include "worker/loader/weight_checksum.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::loader {
namespace {

using ::testing::HasSubstr;

// A file of tensors one behind the other, with a gap before each, and a copy of it.
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
    copy_.resize(bytes);
  }

  std::byte* CopyOf(const std::byte* at) { return copy_.data() + (at - file_.data()); }

  // By three threads, `step` bytes at a time; a tensor never ends in the middle of a step.
  void CopyAll(WeightVerifier& verifier, size_t step) {
    std::vector<absl::Span<const std::byte>> steps;
    for (const WeightVerifier::Tensor& tensor : tensors_) {
      steps.push_back({tensor.data.data() - kGap, kGap});
      for (size_t at = 0; at < tensor.data.size(); at += step) steps.push_back(tensor.data.subspan(at, step));
    }
    std::vector<std::thread> threads;
    for (size_t first = 0; first < 3; ++first) {
      threads.emplace_back([&, first] {
        for (size_t i = first; i < steps.size(); i += 3)
          verifier.Copy(CopyOf(steps[i].data()), steps[i].data(), steps[i].size());
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::vector<std::byte> file_, copy_;
  std::vector<WeightVerifier::Tensor> tensors_;
};

TEST_F(WeightVerifierTest, CopiesOfAnySizeAreTheFileAndItsOnlyReading) {
  for (const size_t step : {4 * kPieceBytes, kPieceBytes, 4 * kPieceBytes - 64, 5 * kPieceBytes + 999, size_t{300'001}}) {
    SCOPED_TRACE(step);
    WeightVerifier verifier("file", tensors_);
    const std::vector<std::byte> original = file_;
    std::fill(copy_.begin(), copy_.end(), std::byte{0});
    CopyAll(verifier, step);
    EXPECT_TRUE(copy_ == file_);
    std::fill(file_.begin(), file_.end(), std::byte{0});
    EXPECT_EQ(verifier.Verify(), absl::OkStatus());
    file_ = original;
  }
}

TEST_F(WeightVerifierTest, ReadsWhatNobodyCopied) {
  EXPECT_EQ(WeightVerifier("file", tensors_).Verify(), absl::OkStatus());
  WeightVerifier half("file", tensors_);
  half.Copy(copy_.data(), tensors_[4].data.data() + 1, 3 * kPieceBytes);
  EXPECT_EQ(half.Verify(), absl::OkStatus());
  file_[tensors_[4].data.data() - file_.data() + 4 * kPieceBytes] ^= std::byte{1};
  WeightVerifier damaged("file", tensors_);
  damaged.Copy(copy_.data(), tensors_[4].data.data() + 1, 3 * kPieceBytes);
  EXPECT_THAT(std::string(damaged.Verify().message()), HasSubstr("file: tensor tensor4 has checksum"));
}

TEST_F(WeightVerifierTest, AnyWrongByteIsNamedHoweverItIsCopied) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const absl::Span<const std::byte> data = tensors_[i].data;
    for (size_t at = 0; at < data.size(); at += 2 * kPieceBytes - 1) {
      std::byte& byte = file_[data.data() - file_.data() + at];
      byte ^= std::byte{16};
      WeightVerifier verifier("weights.bin", tensors_);
      CopyAll(verifier, 4 * kPieceBytes);
      const absl::Status status = verifier.Verify();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(std::string(status.message()), HasSubstr("weights.bin: tensor " + tensors_[i].name + " has checksum "));
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrFormat("want %016x", tensors_[i].checksum)));
      byte ^= std::byte{16};
    }
  }
}

}  // namespace
}  // namespace berth::loader
