#include "worker/loader/safetensors.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/safetensors_writer.h"

namespace berth::loader {
namespace {

using berth::testing::RawSafetensorsFile;
using berth::testing::SafetensorsFile;
using berth::testing::StoreFloats;
using kernels::DType;
using ::testing::HasSubstr;

absl::StatusOr<CheckpointIndex> Parse(const std::string& file) {
  return ParseSafetensors({reinterpret_cast<const std::byte*>(file.data()), file.size()});
}

std::string SmallSafetensors() {
  return SafetensorsFile({StoreFloats("b", {2, 3}, {1, 2, 3, 4, 5, 6}), StoreFloats("a", {2}, {7, 8}, DType::kBF16),
                          StoreFloats("c", {4}, {1, 2, 3, 4}, DType::kF16), StoreFloats("scalar", {}, {1}),
                          StoreFloats("none", {0}, {})});
}

TEST(SafetensorsTest, ReadsTensors) {
  const std::string file = SmallSafetensors();
  const CheckpointIndex tensors = Parse(file).value();
  ASSERT_EQ(tensors.size(), 5u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, DType::kBF16);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{2, 3}));
  float values[6];
  std::memcpy(values, tensors[1].data.data(), sizeof(values));
  EXPECT_EQ(values[5], 6);
  EXPECT_EQ(tensors[2].dtype, DType::kF16);
}

TEST(SafetensorsTest, NamesWhatIsWrong) {
  const struct {
    const char* header;
    const char* message;
  } cases[] = {
      {"[]", "not a JSON object"},
      {"{", "not a JSON object"},
      {R"({"w": 1})", "tensor w: want an object"},
      {R"({"w": {"shape": [1], "data_offsets": [0, 4]}})", "tensor w: dtype"},
      {R"({"w": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}})", "tensor w: has type \"I64\""},
      {R"({"w": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}})", "tensor w: shape"},
      {R"({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", "tensor w: want a natural number, not -1"},
      {R"({"w": {"dtype": "F32", "shape": [18446744073709551615], "data_offsets": [0, 4]}})", "tensor w: shape"},
      {R"({"w": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}})",
       "tensor w: shape [4294967296, 4294967296] is too large"},
      {R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", "tensor w: has 4 bytes, want 8"},
      {R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 0]}})", "tensor w: truncated"},
      {R"({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}})", "tensor w: truncated: data 0 to 12 of 8 bytes"},
      {R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4]}})", "tensor w: data_offsets"},
      {R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})", "tensor w begins at byte 4 of the data, want 0"},
      {R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", "tensors end at byte 4 of the data, which has 8"},
      {R"({"v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       "tensor v begins at byte 0 of the data, want 4"},
  };
  for (const auto& bad : cases) {
    const absl::StatusOr<CheckpointIndex> tensors = Parse(RawSafetensorsFile(bad.header, "12345678"));
    ASSERT_FALSE(tensors.ok()) << bad.header;
    EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(bad.message));
  }
}

TEST(SafetensorsTest, DeepNestingIsAnError) {
  const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
  for (const std::string& shape : {"[" + deep + "]", deep}) {
    const auto tensors =
        Parse(RawSafetensorsFile(R"({"w": {"dtype": "F32", "data_offsets": [0, 8], "shape": )" + shape + "}}", "12345678"));
    EXPECT_EQ(tensors.status().message(), "tensor w: want a natural number, not array");
  }
}

TEST(SafetensorsTest, HeaderSizeIsNotBelieved) {
  for (const uint64_t size : {uint64_t{9}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string file(16, ' ');
    std::memcpy(file.data(), &size, sizeof(size));
    EXPECT_THAT(std::string(Parse(file).status().message()), HasSubstr("truncated"));
  }
}

TEST(SafetensorsTest, EveryPrefixIsAnError) {
  const std::string file = SmallSafetensors();
  for (size_t size = 0; size < file.size(); ++size) {
    const std::vector<char> prefix(file.begin(), file.begin() + size);
    EXPECT_FALSE(ParseSafetensors({reinterpret_cast<const std::byte*>(prefix.data()), size}).ok()) << size << " bytes";
  }
}

TEST(SafetensorsTest, FlippedBitsNeverCrash) {
  const std::string file = SmallSafetensors();
  std::mt19937 random(20240607);
  for (int i = 0; i < 5000; ++i) {
    std::string damaged = file;
    for (unsigned flips = 1 + random() % 3; flips > 0; --flips) damaged[random() % damaged.size()] ^= 1 << random() % 8;
    const absl::StatusOr<CheckpointIndex> tensors = Parse(damaged);
    if (!tensors.ok()) continue;
    for (const TensorInfo& tensor : *tensors) {
      ASSERT_LE(tensor.data.data() + tensor.data.size(), reinterpret_cast<const std::byte*>(damaged.data()) + damaged.size());
    }
  }
}

}  // namespace
}  // namespace berth::loader
