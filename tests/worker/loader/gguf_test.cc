#include "worker/loader/gguf.h"

#include <cstring>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/gguf_writer.h"

namespace berth::loader {
namespace {

using berth::testing::GgufWriter;
using kernels::DType;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Span<const std::byte> Bytes(const std::string& file) {
  return {reinterpret_cast<const std::byte*>(file.data()), file.size()};
}

std::string GgufError(const std::string& file) {
  const absl::StatusOr<GgufFile> parsed = ParseGguf(Bytes(file));
  return parsed.ok() ? "no error" : std::string(parsed.status().message());
}

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ8_0,
                            DType::kQ4_K, DType::kQ6_K, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kQ5_K, DType::kIQ4_NL};

std::string SmallGguf() {
  GgufWriter writer;
  writer.Set("general.architecture", std::string("llama"));
  writer.Set("flag", true);
  writer.Set("small", int64_t{7});
  writer.Set("negative", int64_t{-7});
  writer.Set("number", 0.5);
  writer.Set("ints", std::vector<int64_t>{1, 2, 3});
  writer.Set("floats", std::vector<double>{0.25, 0.5});
  writer.Set("strings", std::vector<std::string>{"a", "", "Ġb"});
  for (const DType dtype : kTypes) {
    const std::string name(kernels::Info(dtype).name);
    if (kernels::IsQuantized(dtype)) {
      writer.Add(berth::testing::RandomMatrix(name, dtype, 3, 256));
    } else {
      writer.Add(berth::testing::StoreFloats(name, {3, 2}, {1, 2, 3, 4, 5, 6}, dtype));
    }
  }
  return writer.File();
}

TEST(GgufTest, ReadsMetadata) {
  const std::string file = SmallGguf();
  const GgufMetadata metadata = ParseGguf(Bytes(file))->metadata;
  EXPECT_EQ(metadata.String("general.architecture").value(), "llama");
  EXPECT_EQ(metadata.Bool("flag").value(), true);
  EXPECT_EQ(metadata.Int("small").value(), 7);
  EXPECT_EQ(metadata.Int("negative").value(), -7);
  EXPECT_EQ(metadata.Float("number").value(), 0.5);
  EXPECT_THAT(*metadata.Find<std::vector<int64_t>>("ints"), ElementsAre(1, 2, 3));
  EXPECT_THAT(*metadata.Find<std::vector<double>>("floats"), ElementsAre(0.25, 0.5));
  EXPECT_THAT(*metadata.Find<std::vector<std::string>>("strings"), ElementsAre("a", "", "Ġb"));
  EXPECT_EQ(metadata.Int("flag").status().message(), "flag is true: want an integer");
  EXPECT_EQ(metadata.String("ints").status().message(), "ints is an array of 3 integers: want a string");
  EXPECT_EQ(metadata.Int("gone").status().message(), "gone is absent: want an integer");
}

TEST(GgufTest, ReadsTensorsOfEveryType) {
  const std::string file = SmallGguf();
  const GgufFile parsed = ParseGguf(Bytes(file)).value();
  ASSERT_EQ(parsed.tensors.size(), std::size(kTypes));
  for (size_t i = 0; i < std::size(kTypes); ++i) {
    const TensorInfo& tensor = parsed.tensors[i];
    EXPECT_EQ(tensor.dtype, kTypes[i]);
    EXPECT_EQ(tensor.shape[0], 3) << "the contiguous dimension comes last";
    EXPECT_EQ(tensor.data.size(), 3 * kernels::RowBytes(kTypes[i], tensor.shape[1]));
    EXPECT_EQ((tensor.data.data() - Bytes(file).data()) % 32, 0);
  }
  EXPECT_EQ(
      std::memcmp(parsed.tensors[3].data.data(), berth::testing::RandomMatrix("q4_0", DType::kQ4_0, 3, 256).bytes.data(), 100),
      0);
}

TEST(GgufTest, RefusesOtherFilesAndVersions) {
  EXPECT_EQ(GgufError("GGML plus something else"), "does not begin with GGUF");
  std::string file = SmallGguf();
  file[4] = 2;
  EXPECT_EQ(ParseGguf(Bytes(file)).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(GgufError(file), "GGUF version 2: want 3");
}

TEST(GgufTest, NamesWhatIsWrongInside) {
  GgufWriter twice;
  twice.Set("key", true);
  twice.Set("key", true);
  EXPECT_EQ(GgufError(twice.File()), "metadata key occurs twice");

  GgufWriter same_tensor;
  same_tensor.Add(berth::testing::StoreFloats("w", {1}, {1}));
  same_tensor.Add(berth::testing::StoreFloats("w", {1}, {1}));
  EXPECT_EQ(GgufError(same_tensor.File()), "tensor w occurs twice");

  GgufWriter part_of_block;
  part_of_block.Add({.name = "w", .dtype = DType::kQ8_0, .shape = {1, 33}, .bytes = std::string(68, '\0')});
  EXPECT_THAT(GgufError(part_of_block.File()), AllOf(HasSubstr("tensor w"), HasSubstr("[1, 33]"), HasSubstr("32")));

  GgufWriter huge;
  huge.Add({.name = "w", .dtype = DType::kF32, .shape = {int64_t{1} << 40, int64_t{1} << 40}, .bytes = ""});
  EXPECT_THAT(GgufError(huge.File()), AllOf(HasSubstr("tensor w"), HasSubstr("too large")));

  GgufWriter beyond;
  beyond.Add({.name = "w", .dtype = DType::kF32, .shape = {1000}, .bytes = "1234"});
  EXPECT_THAT(GgufError(beyond.File()), AllOf(HasSubstr("tensor w"), HasSubstr("truncated: 4000 bytes")));

  GgufWriter alignment;
  alignment.Set("general.alignment", int64_t{0});
  EXPECT_THAT(GgufError(alignment.File()), HasSubstr("general.alignment is 0"));
}

TEST(GgufTest, NamesTypesThatAreNotSupported) {
  GgufWriter writer;
  writer.Add(berth::testing::StoreFloats("w", {1}, {1}));
  std::string file = writer.File();
  const size_t type = file.find('w') + 1 + 4 + 8;  // behind the name, the number of dimensions and one dimension
  file[type] = 17;                                 // IQ2_XS
  EXPECT_EQ(ParseGguf(Bytes(file)).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(GgufError(file), AllOf(HasSubstr("tensor w"), HasSubstr("type 17")));
}

TEST(GgufTest, EveryPrefixIsAnError) {
  const std::string file = SmallGguf();
  for (size_t size = 0; size + 32 < file.size(); size += size < 700 ? 1 : 37) {
    // A copy of exactly that size, so that a read past its end is seen by AddressSanitizer.
    const std::vector<char> prefix(file.begin(), file.begin() + size);
    EXPECT_FALSE(ParseGguf({reinterpret_cast<const std::byte*>(prefix.data()), size}).ok()) << size << " bytes";
  }
}

TEST(GgufTest, FlippedBitsNeverCrash) {
  const std::string file = SmallGguf();
  std::mt19937 random(20240607);
  for (int i = 0; i < 5000; ++i) {
    std::string damaged = file;
    for (unsigned flips = 1 + random() % 3; flips > 0; --flips) damaged[random() % 700] ^= 1 << random() % 8;
    const absl::StatusOr<GgufFile> parsed = ParseGguf(Bytes(damaged));
    if (!parsed.ok()) continue;
    for (const TensorInfo& tensor : parsed->tensors) {
      ASSERT_GE(tensor.data.data(), Bytes(damaged).data());
      ASSERT_LE(tensor.data.data() + tensor.data.size(), Bytes(damaged).data() + damaged.size());
    }
  }
}

}  // namespace
}  // namespace berth::loader
