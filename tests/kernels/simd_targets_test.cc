// Every SIMD target that the CPU has computes the same ops: the portable one as a check, AVX2 and AVX-512 bit by bit where the
// contract says so (a stream may continue on another machine).

#include <hwy/targets.h>

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/support.h"
#include "tests/kernels/weights.h"

namespace berth::kernels {
namespace {

// Makes later dispatches choose `target`; restores the best one at the end.
class ForcedTarget {
 public:
  explicit ForcedTarget(int64_t target) { Set(target); }
  ~ForcedTarget() { Set(0); }

 private:
  static void Set(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().DeInit();
  }
};

std::vector<float> Multiply(DType dtype, int64_t rows) {
  Random random(20);
  const int64_t n = 21, k = 512;
  const TestWeight weight = MakeWeight(dtype, n, k, random);
  GuardedRows in(rows, k, 0, random.Normals(rows * k)), out(rows, n, 1, std::vector<float>(rows * n));
  MakeCpuOps({.threads = 1})->MlpDown({.in = in.tensor(), .weight = weight.view, .residual = out.tensor()});
  out.ExpectGuardsIntact();
  return out.values();
}

std::vector<float> AttendToOneBlock() {
  Random random(21);
  const int heads = 8, dim = 40, tokens = 9;
  std::vector<float> kv = random.Normals(2 * kKvBlockTokens * dim);
  std::vector<int32_t> position, sequence(tokens), start = {0, tokens}, context = {tokens}, table = {0};
  for (int i = 0; i < tokens; ++i) position.push_back(i);
  GuardedRows q(tokens, heads * dim, 0, random.Normals(tokens * heads * dim)), out(tokens, heads * dim, 1);
  MakeCpuOps({.threads = 1})
      ->Attend({.q = q.heads(heads),
                .batch = {.tokens = tokens,
                          .sequences = 1,
                          .position = Ints(position),
                          .sequence_of = Ints(sequence),
                          .query_start = Ints(start),
                          .context_length = Ints(context),
                          .block_table = Tensor(table.data(), DType::kI32, {1, 1})},
                .kv = {.base = reinterpret_cast<std::byte*>(kv.data()),
                       .kv_heads = 1,
                       .key_dim = dim,
                       .value_dim = dim,
                       .block_stride = static_cast<int64_t>(kv.size()) * 4,
                       .head_stride = static_cast<int64_t>(kv.size()) * 4},
                .scale = 0.2f,
                .out = out.heads(heads)});
  out.ExpectGuardsIntact();
  return out.values();
}

std::vector<double> Doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

std::vector<int64_t> Targets() {
  std::vector<int64_t> targets;
  for (int64_t bits = hwy::SupportedTargets() & (HWY_AVX3 | HWY_AVX2 | HWY_SCALAR | HWY_EMU128); bits != 0; bits &= bits - 1) {
    targets.push_back(bits & -bits);
  }
  return targets;
}

TEST(SimdTargets, ProductsAgree) {
  for (DType dtype : kWeightTypes) {
    for (int64_t rows : {1, 5, 7}) {
      const std::vector<float> best = Multiply(dtype, rows);
      for (int64_t target : Targets()) {
        SCOPED_TRACE(testing::Message() << Info(dtype).name << ", " << rows << " rows, " << hwy::TargetName(target));
        const ForcedTarget forced(target);
        const std::vector<float> other = Multiply(dtype, rows);
        // Without fused multiply-add the portable target rounds once more per product.
        if (target == HWY_AVX2 || target == HWY_AVX3) {
          ExpectSameBits(other, best);
        } else {
          ExpectClose(other, Doubles(best), 1e-5);
        }
      }
    }
  }
}

TEST(SimdTargets, AttentionAgrees) {
  const std::vector<float> best = AttendToOneBlock();
  for (int64_t target : Targets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    const ForcedTarget forced(target);
    ExpectClose(AttendToOneBlock(), Doubles(best), 1e-5);
  }
}

}  // namespace
}  // namespace berth::kernels
