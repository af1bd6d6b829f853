#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/tuned_products.h"
#include "tests/kernels/support.h"
#include "tests/kernels/weights.h"

namespace berth::kernels {
namespace {

struct LinearCase {
  int64_t rows, n, k;
};

// Tiles of every height, panels with a rest, K that is no multiple of the vector length or comes in parts, nothing at all.
constexpr LinearCase kCases[] = {{0, 7, 32},   {1, 1, 256},   {1, 49, 512}, {2, 48, 256},   {3, 50, 256},
                                 {5, 97, 256}, {6, 8, 256},   {7, 13, 256}, {19, 101, 512}, {4, 9, 1},
                                 {9, 5, 37},   {13, 51, 100}, {8, 11, 1601}};

std::vector<LinearCase> CasesOf(DType dtype) {
  std::vector<LinearCase> cases;
  for (const LinearCase& c : kCases) {
    if (c.k % Info(dtype).block_elements == 0) cases.push_back(c);
  }
  return cases;
}

// The product alone, through the stage op that adds it to a residual of zeros.
std::vector<float> Multiply(Ops& ops, const std::vector<float>& x, int64_t rows, const LinearWeight& weight,
                            std::vector<float>* bias = nullptr) {
  GuardedRows in(rows, weight.k, 3, x);
  GuardedRows out(rows, weight.n(), 2, std::vector<float>(rows * weight.n()));
  ops.MlpDown({.in = in.tensor(), .weight = weight, .bias = bias ? Floats(*bias) : Tensor(), .residual = out.tensor()});
  out.ExpectGuardsIntact();
  in.ExpectGuardsIntact();
  return out.values();
}

class LinearTest : public testing::TestWithParam<std::tuple<DType, int>> {};

TEST_P(LinearTest, MatchesDouble) {
  const auto [dtype, threads] = GetParam();
  const auto ops = MakeCpuOps({.threads = threads});
  for (const LinearCase& c : CasesOf(dtype)) {
    SCOPED_TRACE(testing::Message() << c.rows << " x " << c.n << " x " << c.k);
    Random random(7);
    const TestWeight weight = MakeWeight(dtype, c.n, c.k, random);
    const std::vector<float> x = random.Normals(c.rows * c.k);
    std::vector<float> bias = random.Normals(c.n);
    std::vector<double> expected;
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t n = 0; n < c.n; ++n) {
        double sum = bias[n];
        for (int64_t k = 0; k < c.k; ++k) sum += weight.values[n * c.k + k] * x[r * c.k + k];
        expected.push_back(sum);
      }
    }
    ExpectClose(Multiply(*ops, x, c.rows, weight.view, &bias), expected, 2e-5);
  }
}

// A row's result has the same bits alone, in a batch of any size, and on any number of threads.
TEST_P(LinearTest, RowsDoNotDependOnEachOther) {
  const auto [dtype, threads] = GetParam();
  const auto ops = MakeCpuOps({.threads = threads}), single = MakeCpuOps({.threads = 1});
  const int64_t rows = 40, n = 53, k = 1792;  // more columns than are multiplied at a time
  Random random(8);
  const TestWeight weight = MakeWeight(dtype, n, k, random);
  const std::vector<float> x = random.Normals(rows * k);
  std::vector<float> alone;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<float> row = Multiply(*single, {x.begin() + r * k, x.begin() + (r + 1) * k}, 1, weight.view);
    alone.insert(alone.end(), row.begin(), row.end());
  }
  for (int64_t count = 2; count <= rows; count += count < 14 ? 1 : 13) {
    SCOPED_TRACE(testing::Message() << count << " rows");
    const std::vector<float> together = Multiply(*ops, {x.begin(), x.begin() + count * k}, count, weight.view);
    ExpectSameBits(together, {alone.begin(), alone.begin() + count * n});
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest, testing::Combine(testing::ValuesIn(kWeightTypes), testing::Values(1, 3)),
                         [](const auto& info) {
                           return std::string(Info(std::get<0>(info.param)).name) + "_threads" +
                                  std::to_string(std::get<1>(info.param));
                         });

// q, k and v of a checkpoint lie apart and may differ in type: the outputs follow the order of the segments.
TEST(LinearSegments, AreRowsOfOneMatrix) {
  Random random(9);
  const int64_t k = 256;
  const TestWeight a = MakeWeight(DType::kQ4_K, 50, k, random), b = MakeWeight(DType::kF16, 3, k, random),
                   c = MakeWeight(DType::kQ8_0, 49, k, random);
  const LinearWeight all{.k = k, .segments = {a.view.segments[0], b.view.segments[0], c.view.segments[0]}};
  const auto ops = MakeCpuOps({.threads = 2});
  const std::vector<float> x = random.Normals(k);
  std::vector<float> apart;
  for (const TestWeight* weight : {&a, &b, &c}) {
    const std::vector<float> part = Multiply(*ops, x, 1, weight->view);
    apart.insert(apart.end(), part.begin(), part.end());
  }
  ExpectSameBits(Multiply(*ops, x, 1, all), apart);
}

TEST(LinearSegments, NanInOneRowStaysThere) {
  Random random(10);
  const TestWeight weight = MakeWeight(DType::kQ4_1, 60, 64, random);
  std::vector<float> x = random.Normals(9 * 64);
  x[4 * 64 + 11] = kNan;
  const std::vector<float> out = Multiply(*MakeCpuOps({.threads = 1}), x, 9, weight.view);
  for (int64_t i = 0; i < 9 * 60; ++i) EXPECT_EQ(std::isnan(out[i]), i / 60 == 4) << i;
}

TEST(TunedProductsTest, NoShapeIsTwiceInTheTable) {
  std::set<std::tuple<DType, int64_t, int64_t, int64_t>> shapes;
  for (const TunedProduct& product : TunedProducts()) {
    EXPECT_TRUE(shapes.emplace(product.out, product.n, product.k, product.tokens).second)
        << "n " << product.n << ", k " << product.k << ", " << product.tokens << " tokens";
  }
  EXPECT_NE(TunedProductsDigest(), 0u);
}

// What `berth bench tune` would write if nothing had become faster.
TEST(TunedProductsTest, TheTableIsAsItIsWritten) {
  std::ifstream file("kernels/tuned_products_table.cc");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_EQ(FormatTunedProducts(TunedProducts()), text);
}

}  // namespace
}  // namespace berth::kernels
