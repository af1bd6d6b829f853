#include "worker/loader/transforms.h"

#include <cstring>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/gguf_writer.h"

namespace berth::loader {
namespace {

using model::Transform;
using ::testing::ElementsAre;

std::vector<int64_t> Order(Transform transform, const HeadLayout& heads, int64_t rows) {
  std::vector<int64_t> order;
  for (int64_t row = 0; row < rows; ++row) order.push_back(SourceRow(transform, heads, row));
  return order;
}

TEST(SourceRowTest, CopyKeepsTheOrder) { EXPECT_THAT(Order(Transform::kCopy, {}, 4), ElementsAre(0, 1, 2, 3)); }

// Pairs (0, 1), (2, 3) of each head become (0, 2), (1, 3).
TEST(SourceRowTest, InterleavedRopeBecomesHalfSplit) {
  EXPECT_THAT(Order(Transform::kInterleavedRope, {.q_heads = 2, .kv_heads = 2, .head_dim = 4, .rotary_dim = 4}, 8),
              ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(Order(Transform::kInterleavedRope, {.q_heads = 1, .kv_heads = 1, .head_dim = 6, .rotary_dim = 6}, 6),
              ElementsAre(0, 2, 4, 1, 3, 5));
}

// Dimensions behind the rotary ones stay, and so do all rows of v.
TEST(SourceRowTest, InterleavedRopeLeavesOtherRowsAlone) {
  EXPECT_THAT(Order(Transform::kInterleavedRope, {.q_heads = 1, .kv_heads = 1, .head_dim = 6, .rotary_dim = 4}, 18),
              ElementsAre(0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17));
}

// Latent attention's queries rotate at the end of a head, its cached row at its own end.
TEST(SourceRowTest, InterleavedRopeMayBeginInsideAHead) {
  EXPECT_THAT(Order(Transform::kInterleavedRope, {.q_heads = 2, .head_dim = 5, .rotary_dim = 4, .rotary_begin = 1}, 10),
              ElementsAre(0, 1, 3, 2, 4, 5, 6, 8, 7, 9));
}

// Two kv heads with two q heads each, two rows a head: q0 q1 k0 v0 | q2 q3 k1 v1.
TEST(SourceRowTest, GroupedQkvBecomesQThenKThenV) {
  EXPECT_THAT(Order(Transform::kGroupedQkv, {.q_heads = 4, .kv_heads = 2, .head_dim = 2}, 16),
              ElementsAre(0, 1, 2, 3, 8, 9, 10, 11,  // q0 q1 q2 q3
                          4, 5, 12, 13,              // k0 k1
                          6, 7, 14, 15));            // v0 v1
}

TEST(SourceRowTest, EveryTransformUsesEveryRowOnce) {
  const HeadLayout heads{.q_heads = 8, .kv_heads = 2, .head_dim = 16, .rotary_dim = 12};
  for (const Transform transform : {Transform::kCopy, Transform::kInterleavedRope, Transform::kGroupedQkv}) {
    const std::vector<int64_t> order = Order(transform, heads, (8 + 2 * 2) * 16);
    const std::set<int64_t> rows(order.begin(), order.end());
    EXPECT_EQ(rows.size(), order.size());
    EXPECT_EQ(*rows.rbegin(), static_cast<int64_t>(order.size()) - 1);
  }
}

TensorInfo View(const berth::testing::StoredTensor& tensor) {
  return {.name = tensor.name,
          .dtype = tensor.dtype,
          .shape = tensor.shape,
          .data = {reinterpret_cast<const std::byte*>(tensor.bytes.data()), tensor.bytes.size()}};
}

std::string Copy(const TensorInfo& tensor, const RowSelection& selection) {
  std::string out(selection.rows() * SelectedRowBytes(tensor, selection), '\0');
  CopySelected(tensor, selection, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

TEST(RowSelectionTest, WholeRowsInOrderStayInPlace) {
  const auto stored = berth::testing::StoreFloats("w", {4, 2}, {0, 1, 10, 11, 20, 21, 30, 31});
  const TensorInfo tensor = View(stored);
  const RowSelection middle{.ranges = {{1, 2}}, .columns = 2};
  EXPECT_EQ(SelectedInPlace(tensor, middle), tensor.data.data() + 2 * sizeof(float));
  EXPECT_EQ(Copy(tensor, middle), stored.bytes.substr(8, 16));
}

TEST(RowSelectionTest, NormalizedRowsHaveLengthOne) {
  const auto stored = berth::testing::StoreFloats("w", {3, 2}, {3, 4, 0, 0, 0, -2});
  const TensorInfo tensor = View(stored);
  const RowSelection all{.transform = Transform::kNormalizedRows, .ranges = {{0, 3}}, .columns = 2};
  EXPECT_EQ(SelectedInPlace(tensor, all), nullptr);
  EXPECT_EQ(Copy(tensor, all), berth::testing::StoreFloats("w", {3, 2}, {3 / 5.f, 4 / 5.f, 0, 0, 0, -1}).bytes);
}

// Two parts of three rows and two columns, stored as two rows and three columns each.
TEST(RowSelectionTest, TransposedPartsAreReadDownTheirColumns) {
  const auto stored = berth::testing::StoreFloats("w", {4, 3}, {0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32});
  const TensorInfo tensor = View(stored);
  RowSelection all{.transform = Transform::kTransposedParts, .parts = 2, .ranges = {{0, 6}}, .columns = 2};
  EXPECT_EQ(SelectedInPlace(tensor, all), nullptr);
  EXPECT_EQ(Copy(tensor, all), berth::testing::StoreFloats("w", {6, 2}, {0, 10, 1, 11, 2, 12, 20, 30, 21, 31, 22, 32}).bytes);
  const RowSelection second_column{
      .transform = Transform::kTransposedParts, .parts = 2, .ranges = {{1, 3}}, .column_begin = 1, .columns = 1};
  EXPECT_EQ(Copy(tensor, second_column), berth::testing::StoreFloats("w", {3, 1}, {11, 12, 30}).bytes);
}

TEST(RowSelectionTest, OtherSelectionsAreCopied) {
  const auto stored = berth::testing::StoreFloats("w", {4, 2}, {0, 1, 10, 11, 20, 21, 30, 31});
  const TensorInfo tensor = View(stored);
  const RowSelection two_ranges{.ranges = {{0, 1}, {3, 1}}, .columns = 2};
  EXPECT_EQ(SelectedInPlace(tensor, two_ranges), nullptr);
  EXPECT_EQ(Copy(tensor, two_ranges), stored.bytes.substr(0, 8) + stored.bytes.substr(24));
  const RowSelection column{.ranges = {{0, 2}}, .column_begin = 1, .columns = 1};
  EXPECT_EQ(SelectedInPlace(tensor, column), nullptr);
  EXPECT_EQ(Copy(tensor, column), stored.bytes.substr(4, 4) + stored.bytes.substr(12, 4));
  const RowSelection permuted{
      .transform = Transform::kInterleavedRope, .heads = {1, 1, 4, 4}, .ranges = {{0, 4}}, .columns = 2};
  EXPECT_EQ(SelectedInPlace(tensor, permuted), nullptr);
  EXPECT_EQ(Copy(tensor, permuted),
            stored.bytes.substr(0, 8) + stored.bytes.substr(16, 8) + stored.bytes.substr(8, 8) + stored.bytes.substr(24, 8));
}

TEST(RowSelectionTest, QuantisedRowsMoveWhole) {
  for (const kernels::DType dtype : {kernels::DType::kQ4_0, kernels::DType::kQ4_1, kernels::DType::kQ5_0, kernels::DType::kQ8_0,
                                     kernels::DType::kQ4_K, kernels::DType::kQ3_K, kernels::DType::kQ6_K}) {
    const auto stored = berth::testing::RandomMatrix("w", dtype, 4, 512);
    const size_t row = kernels::RowBytes(dtype, 512);
    const RowSelection permuted{
        .transform = Transform::kInterleavedRope, .heads = {1, 1, 4, 4}, .ranges = {{0, 4}}, .columns = 512};
    EXPECT_EQ(Copy(View(stored), permuted), stored.bytes.substr(0, row) + stored.bytes.substr(2 * row, row) +
                                                stored.bytes.substr(row, row) + stored.bytes.substr(3 * row));
    const RowSelection half{.ranges = {{1, 1}}, .column_begin = 256, .columns = 256};
    EXPECT_EQ(Copy(View(stored), half), stored.bytes.substr(row + row / 2, row / 2));
  }
}

TEST(RowSelectionTest, VectorsMoveElementByElement) {
  const auto stored = berth::testing::StoreFloats("b", {4}, {0, 1, 2, 3}, kernels::DType::kBF16);
  const RowSelection permuted{.transform = Transform::kInterleavedRope, .heads = {1, 1, 4, 4}, .ranges = {{0, 4}}};
  EXPECT_EQ(Copy(View(stored), permuted), berth::testing::StoreFloats("b", {4}, {0, 2, 1, 3}, kernels::DType::kBF16).bytes);
}

TEST(RowSelectionTest, MisalignedDataIsCopied) {
  std::vector<std::byte> bytes(17);
  const TensorInfo tensor{.dtype = kernels::DType::kF32, .shape = {2, 2}, .data = absl::MakeConstSpan(bytes).subspan(1)};
  EXPECT_EQ(SelectedInPlace(tensor, {.ranges = {{0, 2}}, .columns = 2}), nullptr);
}

}  // namespace
}  // namespace berth::loader
