#include <cmath>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/half.h"
#include "tests/kernels/support.h"
#include "tests/kernels/weights.h"

namespace berth::kernels {
namespace {

using Doubles = std::vector<double>;

// References in double, one row each.

struct TestNorm {
  TestNorm(NormKind kind, int64_t dim, bool with_bias, float offset, Random& random)
      : weight(random.Normals(dim)), bias(with_bias ? random.Normals(dim) : std::vector<float>()) {
    view = {.kind = kind, .weight = Floats(weight), .epsilon = 1e-3f, .weight_offset = offset};
    if (with_bias) view.bias = Floats(bias);
  }
  TestNorm(const TestNorm&) = delete;

  std::vector<float> weight, bias;
  Norm view;
};

Doubles ReferenceNorm(const Norm& norm, const Doubles& x) {
  if (norm.weight.empty()) return x;
  double mean = 0, variance = 0;
  if (norm.kind == NormKind::kLayer) {
    for (double value : x) mean += value / x.size();
  }
  for (double value : x) variance += (value - mean) * (value - mean) / x.size();
  Doubles out;
  for (size_t i = 0; i < x.size(); ++i) {
    out.push_back((x[i] - mean) / std::sqrt(variance + norm.epsilon) * (norm.weight.data<float>()[i] + norm.weight_offset));
    if (!norm.bias.empty()) out.back() += norm.bias.data<float>()[i];
  }
  return out;
}

Doubles ReferenceLinear(const TestWeight& weight, const Doubles& x) {
  Doubles out;
  for (int64_t n = 0; n < weight.view.n(); ++n) {
    double sum = 0;
    for (size_t k = 0; k < x.size(); ++k) sum += weight.values[n * x.size() + k] * x[k];
    out.push_back(sum);
  }
  return out;
}

double ReferenceActivation(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return x > 0 ? x : 0;
  }
  return kNan;
}

Doubles Row(const std::vector<float>& x, int64_t row, int64_t dim) { return Doubles(&x[row * dim], &x[row * dim] + dim); }
void Append(Doubles& to, const Doubles& from) { to.insert(to.end(), from.begin(), from.end()); }

TEST(Embed, ScalesRowsOfTheTable) {
  for (DType dtype : kWeightTypes) {
    Random random(1);
    const TestWeight table = MakeWeight(dtype, 9, 256, random);
    std::vector<int32_t> tokens = {8, 0, 3, 3};
    GuardedRows out(4, 256, 3);
    MakeCpuOps({.threads = 1})->Embed({.token = Ints(tokens), .table = table.view, .scale = 0.5f, .out = out.tensor()});
    Doubles expected;
    for (int32_t token : tokens) {
      for (int i = 0; i < 256; ++i) expected.push_back(0.5 * table.values[token * 256 + i]);
    }
    ExpectClose(out.values(), expected, 1e-7);
    out.ExpectGuardsIntact();
  }
}

TEST(Embed, ANegativeTokenIsTheLastOneOfASlot) {
  Random random(1);
  const TestWeight table = MakeWeight(DType::kF32, 9, 32, random);
  std::vector<int32_t> tokens = {~2, 4, ~0}, last = {7, 1, 5}, plain = {5, 4, 7};
  GuardedRows out(3, 32, 3), expected(3, 32, 3);
  const auto ops = MakeCpuOps({.threads = 1});
  ops->Embed({.token = Ints(tokens), .last_token = Ints(last), .table = table.view, .out = out.tensor()});
  ops->Embed({.token = Ints(plain), .table = table.view, .out = expected.tensor()});
  ExpectSameBits(out.values(), expected.values());
}

TEST(Embed, NoTokenIsZeros) {
  Random random(1);
  const TestWeight table = MakeWeight(DType::kF32, 4, 8, random);
  std::vector<int32_t> tokens = {kNoToken, 3}, last = {2};
  GuardedRows out(2, 8, 0);
  const auto ops = MakeCpuOps({.threads = 1});
  ops->Embed({.token = Ints(tokens), .last_token = Ints(last), .table = table.view, .out = out.tensor()});
  Doubles expected(8, 0);
  expected.insert(expected.end(), table.values.begin() + 3 * 8, table.values.end());
  ExpectClose(out.values(), expected, 0);
}

TEST(Embed, TokenOutsideTheTableIsABug) {
  Random random(1);
  const TestWeight table = MakeWeight(DType::kF32, 4, 8, random);
  std::vector<int32_t> tokens = {4};
  GuardedRows out(1, 8, 0);
  const auto ops = MakeCpuOps({.threads = 1});
  EXPECT_DEATH(ops->Embed({.token = Ints(tokens), .table = table.view, .out = out.tensor()}), "token 4 of 4");
}

struct MlpUpCase {
  int64_t rows, hidden, inter;
  bool gated;
  Activation activation;
  NormKind norm;
  bool bias;
  float offset;
};

class MlpUpTest : public testing::TestWithParam<MlpUpCase> {};

TEST_P(MlpUpTest, MatchesDouble) {
  const MlpUpCase& c = GetParam();
  Random random(2);
  const TestWeight weight = MakeWeight(DType::kF32, c.gated ? 2 * c.inter : c.inter, c.hidden, random);
  const TestNorm norm(c.norm, c.hidden, c.bias, c.offset, random);
  std::vector<float> bias = random.Normals(weight.view.n());
  const std::vector<float> x = random.Normals(c.rows * c.hidden, 3);
  GuardedRows in(c.rows, c.hidden, 2, x), out(c.rows, c.inter, 5);
  MakeCpuOps({.threads = 2})
      ->MlpUp({.residual = in.tensor(),
               .norm = norm.view,
               .weight = weight.view,
               .bias = c.bias ? Floats(bias) : Tensor(),
               .gated = c.gated,
               .activation = c.activation,
               .out = out.tensor()});
  Doubles expected;
  for (int64_t r = 0; r < c.rows; ++r) {
    Doubles product = ReferenceLinear(weight, ReferenceNorm(norm.view, Row(x, r, c.hidden)));
    for (size_t i = 0; c.bias && i < product.size(); ++i) product[i] += bias[i];
    for (int64_t i = 0; i < c.inter; ++i) {
      expected.push_back(ReferenceActivation(c.activation, product[i]) * (c.gated ? product[c.inter + i] : 1));
    }
  }
  ExpectClose(out.values(), expected, 2e-5);
  ExpectSameBits(in.values(), x);
  out.ExpectGuardsIntact();
}

INSTANTIATE_TEST_SUITE_P(Cases, MlpUpTest,
                         testing::Values(MlpUpCase{0, 32, 8, true, Activation::kSilu, NormKind::kRms, false, 0},
                                         MlpUpCase{1, 32, 64, true, Activation::kSilu, NormKind::kRms, false, 0},
                                         MlpUpCase{21, 33, 35, true, Activation::kSilu, NormKind::kRms, true, 1},
                                         MlpUpCase{9, 48, 7, true, Activation::kGeluTanh, NormKind::kRms, false, 1},
                                         MlpUpCase{9, 48, 17, true, Activation::kGelu, NormKind::kLayer, true, 0},
                                         MlpUpCase{9, 5, 33, false, Activation::kGelu, NormKind::kLayer, false, 0},
                                         MlpUpCase{3, 40, 50, false, Activation::kRelu, NormKind::kLayer, true, 0},
                                         MlpUpCase{3, 40, 50, false, Activation::kGeluTanh, NormKind::kRms, false, 0}));

// Activations at the ends of f32: no overflow in between, NaN is kept.
TEST(MlpUp, ActivationsAtTheEnds) {
  std::vector<float> identity = {1};
  const LinearWeight weight{
      .k = 1, .segments = {{.dtype = DType::kF32, .rows = 1, .data = reinterpret_cast<const std::byte*>(identity.data())}}};
  const std::vector<float> x = {-3e38f, -200, -100, -88, -1e-30f, 0, 1e-30f, 88, 100, 200, 3e15f, kNan};
  const auto ops = MakeCpuOps({.threads = 1});
  for (Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    const int64_t rows = static_cast<int64_t>(x.size());
    GuardedRows in(rows, 1, 0, x), out(rows, 1, 0);
    ops->MlpUp({.residual = in.tensor(), .weight = weight, .gated = false, .activation = activation, .out = out.tensor()});
    for (int64_t i = 0; i + 1 < rows; ++i) {
      const double want = x[i] < -80 ? 0 : ReferenceActivation(activation, x[i]);
      EXPECT_NEAR(out.at(i, 0), want, 1e-6 * std::abs(want) + 1e-30) << x[i];
    }
    EXPECT_TRUE(std::isnan(out.at(rows - 1, 0)));
  }
}

TEST(ProjectOut, AddsTheNormedAndScaledBranch) {
  const int64_t rows = 11, k = 64, hidden = 50;
  for (bool post_norm : {false, true}) {
    Random random(3);
    const TestWeight weight = MakeWeight(DType::kQ8_0, hidden, k, random);
    const TestNorm norm(NormKind::kRms, hidden, false, 1, random);
    std::vector<float> bias = random.Normals(hidden);
    const std::vector<float> x = random.Normals(rows * k), residual = random.Normals(rows * hidden);
    GuardedRows in(rows, k, 1, x), out(rows, hidden, 3, residual);
    MakeCpuOps({.threads = 2})
        ->AttnOut({.in = in.tensor(),
                   .weight = weight.view,
                   .bias = Floats(bias),
                   .post_norm = post_norm ? norm.view : Norm(),
                   .scale = 0.25f,
                   .residual = out.tensor()});
    Doubles expected;
    for (int64_t r = 0; r < rows; ++r) {
      Doubles branch = ReferenceLinear(weight, Row(x, r, k));
      for (int64_t i = 0; i < hidden; ++i) branch[i] += bias[i];
      if (post_norm) branch = ReferenceNorm(norm.view, branch);
      for (int64_t i = 0; i < hidden; ++i) expected.push_back(residual[r * hidden + i] + 0.25 * branch[i]);
    }
    ExpectClose(out.values(), expected, 2e-5);
    out.ExpectGuardsIntact();
  }
}

TEST(Gather, CopiesTheNamedRows) {
  Random random(5);
  const std::vector<float> x = random.Normals(4 * 40);
  std::vector<int32_t> row = {3, 0, 3};
  GuardedRows in(4, 40, 4, x), out(3, 40, 2);
  MakeCpuOps({.threads = 2})->Gather({.in = in.tensor(), .row = Ints(row), .out = out.tensor()});
  Doubles expected;
  for (const int32_t from : row) Append(expected, Row(x, from, 40));
  ExpectClose(out.values(), expected, 0);
  out.ExpectGuardsIntact();
}

TEST(Pool, AddsNormedRowsToTheSlotsOfTheirChunks) {
  const int64_t tokens = 7, hidden = 40;
  Random random(4);
  const TestNorm norm(NormKind::kRms, hidden, false, 0, random);
  const std::vector<float> x = random.Normals(tokens * hidden);
  std::vector<float> before = random.Normals(3 * hidden);
  std::fill_n(before.begin(), hidden, kNan);  // of slot 0, whose sum begins
  std::vector<int32_t> begin = {1, 4}, end = {4, 6}, slot = {2, 0}, fresh = {0, 1};
  GuardedRows in(tokens, hidden, 4, x), sum(3, hidden, 2, before);
  MakeCpuOps({.threads = 2})
      ->Pool({.residual = in.tensor(),
              .norm = norm.view,
              .begin = Ints(begin),
              .end = Ints(end),
              .slot = Ints(slot),
              .fresh = Ints(fresh),
              .sum = sum.tensor()});
  Doubles expected(3 * hidden);
  for (int64_t i = hidden; i < 3 * hidden; ++i) expected[i] = before[i];
  for (const auto& [row, at] : {std::pair{1, 2}, {2, 2}, {3, 2}, {4, 0}, {5, 0}}) {
    const Doubles normed = ReferenceNorm(norm.view, Row(x, row, hidden));
    for (int64_t i = 0; i < hidden; ++i) expected[at * hidden + i] += normed[i];
  }
  ExpectClose(sum.values(), expected, 2e-5);
  in.ExpectGuardsIntact();
  sum.ExpectGuardsIntact();
}

TEST(Head, GathersNormsScalesAndCaps) {
  const int64_t tokens = 6, hidden = 40, vocab = 101;
  Random random(4);
  const TestWeight weight = MakeWeight(DType::kBF16, vocab, hidden, random);
  const TestNorm norm(NormKind::kLayer, hidden, true, 0, random);
  std::vector<float> bias = random.Normals(vocab);
  const std::vector<float> x = random.Normals(tokens * hidden);
  for (float softcap : {0.f, 3.f}) {
    for (std::vector<int32_t> rows : {std::vector<int32_t>{5, 0, 2}, std::vector<int32_t>{}}) {
      const int64_t count = static_cast<int64_t>(rows.size());
      GuardedRows in(tokens, hidden, 4, x), out(count, vocab, 3);
      MakeCpuOps({.threads = 2})
          ->Head({.residual = in.tensor(),
                  .row = Ints(rows),
                  .norm = norm.view,
                  .weight = weight.view,
                  .bias = Floats(bias),
                  .scale = 0.5f,
                  .softcap = softcap,
                  .logits = out.tensor()});
      Doubles expected;
      for (int32_t row : rows) {
        Doubles logits = ReferenceLinear(weight, ReferenceNorm(norm.view, Row(x, row, hidden)));
        for (int64_t i = 0; i < vocab; ++i) {
          logits[i] = (logits[i] + bias[i]) * 0.5;
          if (softcap > 0) logits[i] = softcap * std::tanh(logits[i] / softcap);
        }
        Append(expected, logits);
      }
      ExpectClose(out.values(), expected, 2e-5);
      out.ExpectGuardsIntact();
    }
  }
}

struct AttnInCase {
  const char* name;
  int q_heads, kv_heads, dim, rotary;  // rotary 0: no rotation
  DType kv = DType::kF32;
  bool bias = false, qk_norm = false;
  float clip = 0;
};

class AttnInTest : public testing::TestWithParam<AttnInCase> {};

// Two sequences whose rows start inside a block, the second one with its own rotary frequencies.
TEST_P(AttnInTest, MatchesDouble) {
  const AttnInCase& c = GetParam();
  const int64_t hidden = 24, n = (c.q_heads + 2 * c.kv_heads) * c.dim;
  const int tokens = 6;
  Random random(5);
  const TestWeight weight = MakeWeight(DType::kF32, n, hidden, random);
  const TestNorm norm(NormKind::kRms, hidden, false, 0, random), q_norm(NormKind::kRms, c.dim, false, 0, random),
      k_norm(NormKind::kRms, c.dim, false, 1, random);
  std::vector<float> bias = random.Normals(n), frequency;
  for (int i = 0; i < c.rotary; ++i) frequency.push_back(1 / std::pow(50.f + i % 2, static_cast<float>(i) / c.rotary));
  const std::vector<float> x = random.Normals(tokens * hidden);
  std::vector<int32_t> position = {62, 63, 64, 65, 0, 1}, sequence = {0, 0, 0, 0, 1, 1}, start = {0, 4, 6}, context = {66, 2},
                       variant = {0, 1}, table = {2, 0, 1, -1};
  const int64_t head_stride = 2 * kKvBlockTokens * c.dim * Info(c.kv).block_bytes;
  std::vector<std::byte> memory(3 * c.kv_heads * head_stride, std::byte{0x5A});
  const KvLayer kv{.base = memory.data(),
                   .dtype = c.kv,
                   .kv_heads = c.kv_heads,
                   .key_dim = c.dim,
                   .value_dim = c.dim,
                   .block_stride = c.kv_heads * head_stride,
                   .head_stride = head_stride};
  GuardedRows in(tokens, hidden, 2, x), q(tokens, c.q_heads * c.dim, 3);
  MakeCpuOps({.threads = 2})
      ->AttnIn(
          {.residual = in.tensor(),
           .norm = norm.view,
           .qkv = weight.view,
           .bias = c.bias ? Floats(bias) : Tensor(),
           .clip = c.clip,
           .q_norm = c.qk_norm ? q_norm.view : Norm(),
           .k_norm = c.qk_norm ? k_norm.view : Norm(),
           .rope = {.inverse_frequency = c.rotary > 0 ? Tensor(frequency.data(), DType::kF32, {2, c.rotary / 2}) : Tensor(),
                    .attention_scale = 1.25f},
           .q_heads = c.q_heads,
           .kv_heads = c.kv_heads,
           .head_dim = c.dim,
           .batch = {.tokens = tokens,
                     .sequences = 2,
                     .position = Ints(position),
                     .sequence_of = Ints(sequence),
                     .query_start = Ints(start),
                     .context_length = Ints(context),
                     .rope_variant = Ints(variant),
                     .block_table = Tensor(table.data(), DType::kI32, {2, 2})},
           .kv = kv,
           .q = q.heads(c.q_heads)});

  // What is written is erased from `memory` as it is read, so that the rest must be untouched in the end.
  const auto load = [&](std::byte* at, int64_t i) {
    const size_t bytes = Info(c.kv).block_bytes;
    float wide = 0;
    uint16_t narrow = 0;
    if (c.kv == DType::kF32) {
      std::memcpy(&wide, at + i * bytes, 4);
    } else {
      std::memcpy(&narrow, at + i * bytes, 2);
    }
    std::memset(at + i * bytes, 0x5A, bytes);
    return c.kv == DType::kF32 ? wide : c.kv == DType::kF16 ? cpu::FromHalf(narrow) : cpu::FromBf16(narrow);
  };
  std::vector<float> kv_out;
  Doubles expected_q, expected_kv;
  for (int t = 0; t < tokens; ++t) {
    Doubles row = ReferenceLinear(weight, ReferenceNorm(norm.view, Row(x, t, hidden)));
    for (int64_t i = 0; i < n; ++i) {
      if (c.bias) row[i] += bias[i];
      if (c.clip > 0) row[i] = std::min<double>(std::max<double>(row[i], -c.clip), c.clip);
    }
    for (int h = 0; h < c.q_heads + 2 * c.kv_heads; ++h) {
      Doubles head(row.begin() + h * c.dim, row.begin() + (h + 1) * c.dim);
      const bool is_q = h < c.q_heads, is_value = h >= c.q_heads + c.kv_heads;
      if (c.qk_norm && !is_value) head = ReferenceNorm(is_q ? q_norm.view : k_norm.view, head);
      for (int i = 0; !is_value && i < c.rotary / 2; ++i) {
        const double angle = static_cast<double>(position[t]) * frequency[sequence[t] * (c.rotary / 2) + i];
        const double a = head[i], b = head[i + c.rotary / 2];
        head[i] = 1.25 * (a * std::cos(angle) - b * std::sin(angle));
        head[i + c.rotary / 2] = 1.25 * (b * std::cos(angle) + a * std::sin(angle));
      }
      Append(is_q ? expected_q : expected_kv, head);
      if (is_q) continue;
      const int64_t block = table[sequence[t] * 2 + position[t] / 64];
      const int kv_head = (h - c.q_heads) % c.kv_heads;
      for (int i = 0; i < c.dim; ++i) {
        kv_out.push_back(load(is_value ? kv.Values(block, kv_head) : kv.Keys(block, kv_head), position[t] % 64 * c.dim + i));
      }
    }
  }
  ExpectClose(q.values(), expected_q, 2e-5);
  ExpectClose(kv_out, expected_kv, c.kv == DType::kF32 ? 2e-5 : c.kv == DType::kF16 ? 1e-3 : 8e-3);
  for (std::byte byte : memory) ASSERT_EQ(byte, std::byte{0x5A});
  q.ExpectGuardsIntact();
}

INSTANTIATE_TEST_SUITE_P(Cases, AttnInTest,
                         testing::Values(AttnInCase{"plain", 4, 2, 16, 16}, AttnInCase{"no_rope", 2, 2, 8, 0},
                                         AttnInCase{"partial", 4, 1, 20, 10},
                                         AttnInCase{"bias", 4, 2, 16, 16, DType::kF16, true},
                                         AttnInCase{"qk_norm", 4, 2, 16, 16, DType::kBF16, true, true},
                                         AttnInCase{"clip", 2, 2, 8, 8, DType::kF32, true, false, 0.5f}),
                         [](const auto& info) { return info.param.name; });

TEST(Ops, WrongShapeNamesTensorAndShapes) {
  Random random(6);
  const TestWeight weight = MakeWeight(DType::kF32, 8, 4, random);
  GuardedRows in(3, 4, 0), out(3, 7, 0);
  const auto ops = MakeCpuOps({.threads = 1});
  EXPECT_DEATH(ops->MlpUp({.residual = in.tensor(), .weight = weight.view, .gated = false, .out = out.tensor()}),
               "weight is \\[8, 4\\], want \\[7, 4\\]");
  GuardedRows narrow(2, 4, 0), fitting(3, 8, 0);
  EXPECT_DEATH(ops->MlpUp({.residual = narrow.tensor(), .weight = weight.view, .gated = false, .out = fitting.tensor()}),
               "residual is f32\\[2, 4\\], want f32\\[3, 4\\]");
}

}  // namespace
}  // namespace berth::kernels
