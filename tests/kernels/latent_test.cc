#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/support.h"
#include "tests/kernels/weights.h"

namespace berth::kernels {
namespace {

constexpr int64_t kLatentTokens = 70, kLatentHidden = 32, kLatentHeads = 3, kLatentRank = 32, kLatentRope = 6, kLatentKey = 10,
                  kLatentValue = 7, kLatentQRank = 18;
constexpr int64_t kLatentRow = kLatentRank + kLatentRope, kLatentHead = kLatentKey + kLatentRope;

using LatentRows = std::vector<std::vector<double>>;

LatentRows LatentProduct(const TestWeight& weight, const LatentRows& x) {
  LatentRows out(x.size());
  const int64_t k = weight.view.k;
  for (size_t r = 0; r < x.size(); ++r) {
    for (int64_t n = 0; n < weight.view.n(); ++n) {
      out[r].push_back(std::inner_product(x[r].begin(), x[r].begin() + k, weight.values.begin() + n * k, 0.0));
    }
  }
  return out;
}

void LatentNorm(const Norm& norm, int64_t dim, std::vector<double>& x) {
  const double squares = std::inner_product(x.begin(), x.begin() + dim, x.begin(), 0.0);
  for (int64_t i = 0; i < dim; ++i) x[i] *= norm.weight.data<float>()[i] / std::sqrt(squares / dim + norm.epsilon);
}

void LatentRotate(const std::vector<float>& frequency, int64_t position, double* x) {
  const size_t pairs = frequency.size();
  for (size_t i = 0; i < pairs; ++i) {
    const double angle = static_cast<double>(position) * frequency[i], a = x[i], b = x[i + pairs];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + pairs] = b * std::cos(angle) + a * std::sin(angle);
  }
}

// What a model computes that makes every head's keys and values of the latents, against the ops, which keep only latents.
class LatentTest : public testing::TestWithParam<DType> {
 protected:
  static TestWeight Make(DType dtype, int64_t n, int64_t k, Random& random) { return MakeWeight(dtype, n, k, random); }

  std::vector<double> Expected(const LatentRows& x) const {
    LatentRows down = LatentProduct(q_down_, x), latent = LatentProduct(latent_, x);
    for (auto& row : down) LatentNorm(q_norm_, kLatentQRank, row);
    LatentRows q = LatentProduct(q_, down);
    for (int64_t t = 0; t < kLatentTokens; ++t) {
      LatentNorm(latent_norm_, kLatentRank, latent[t]);
      LatentRotate(frequency_, t, &latent[t][kLatentRank]);
      for (int64_t h = 0; h < kLatentHeads; ++h) LatentRotate(frequency_, t, &q[t][h * kLatentHead + kLatentKey]);
    }
    const LatentRows expanded = LatentProduct(up_, latent);
    std::vector<double> out;
    for (int64_t t = 0; t < kLatentTokens; ++t) {
      for (int64_t h = 0; h < kLatentHeads; ++h) AppendHead(t, h, q, latent, expanded, out);
    }
    return out;
  }

  static void AppendHead(int64_t t, int64_t h, const LatentRows& q, const LatentRows& latent, const LatentRows& expanded,
                         std::vector<double>& out) {
    const double* query = &q[t][h * kLatentHead];
    std::vector<double> value(kLatentValue);
    double sum = 0;
    for (int64_t s = 0; s <= t; ++s) {
      const double* own = &expanded[s][h * (kLatentKey + kLatentValue)];
      const double score = std::inner_product(query, query + kLatentKey, own, 0.0) +
                           std::inner_product(query + kLatentKey, query + kLatentHead, &latent[s][kLatentRank], 0.0);
      const double weight = std::exp(0.1 * score);
      sum += weight;
      for (int64_t i = 0; i < kLatentValue; ++i) value[i] += weight * own[kLatentKey + i];
    }
    for (const double v : value) out.push_back(v / sum);
  }

  Random random_{11};
  const TestWeight q_down_ = Make(DType::kF32, kLatentQRank, kLatentHidden, random_),
                   q_ = Make(DType::kBF16, kLatentHeads*kLatentHead, kLatentQRank, random_),
                   latent_ = Make(DType::kF32, kLatentRow, kLatentHidden, random_),
                   up_ = Make(GetParam(), kLatentHeads*(kLatentKey + kLatentValue), kLatentRank, random_);
  std::vector<float> q_norm_weight_ = random_.Normals(kLatentQRank), latent_norm_weight_ = random_.Normals(kLatentRank),
                     frequency_ = {1.f, 0.3f, 0.05f};
  const Norm q_norm_{.weight = Floats(q_norm_weight_), .epsilon = 1e-3f},
      latent_norm_{.weight = Floats(latent_norm_weight_), .epsilon = 1e-3f};
};

TEST_P(LatentTest, EqualsHeadsWithKeysAndValuesOfTheirOwn) {
  const std::vector<float> x = random_.Normals(kLatentTokens * kLatentHidden);
  LatentRows rows(kLatentTokens);
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) rows[i / kLatentHidden].push_back(x[i]);
  std::vector<float> memory(2 * kKvBlockTokens * kLatentRow, kNan);
  const KvLayer kv{.base = reinterpret_cast<std::byte*>(memory.data()),
                   .kv_heads = 1,
                   .key_dim = kLatentRow,
                   .value_dim = kLatentRank,
                   .values_in_keys = true,
                   .block_stride = kKvBlockTokens * kLatentRow * int64_t{sizeof(float)},
                   .head_stride = kKvBlockTokens * kLatentRow * int64_t{sizeof(float)}};
  const int tokens = kLatentTokens;
  std::vector<int32_t> position(tokens), sequence(tokens, 0), start = {0, tokens}, context = {tokens}, table = {1, 0};
  std::iota(position.begin(), position.end(), 0);
  const Batch batch{.tokens = tokens,
                    .sequences = 1,
                    .position = Ints(position),
                    .sequence_of = Ints(sequence),
                    .query_start = Ints(start),
                    .context_length = Ints(context),
                    .block_table = Tensor(table.data(), DType::kI32, {1, 2})};
  GuardedRows in(tokens, kLatentHidden, 2, x), q(tokens, kLatentHeads * kLatentRow, 3),
      attended(tokens, kLatentHeads * kLatentRank, 3), out(tokens, kLatentHeads * kLatentValue, 3);
  const auto ops = MakeCpuOps({.threads = 2});
  ops->LatentIn({.residual = in.tensor(),
                 .q_down = q_down_.view,
                 .q_down_norm = q_norm_,
                 .q = q_.view,
                 .latent = latent_.view,
                 .latent_norm = latent_norm_,
                 .up = up_.view,
                 .rope = {.inverse_frequency = Tensor(frequency_.data(), DType::kF32, {1, 3})},
                 .heads = kLatentHeads,
                 .key_dim = kLatentKey,
                 .value_dim = kLatentValue,
                 .rank = kLatentRank,
                 .batch = batch,
                 .kv = kv,
                 .q_out = q.heads(kLatentHeads)});
  ops->Attend({.q = q.heads(kLatentHeads), .batch = batch, .kv = kv, .scale = 0.1f, .out = attended.heads(kLatentHeads)});
  ops->LatentOut({.in = attended.heads(kLatentHeads),
                  .up = up_.view,
                  .key_dim = kLatentKey,
                  .value_dim = kLatentValue,
                  .out = out.heads(kLatentHeads)});
  ExpectClose(out.values(), Expected(rows), 1e-4);
  for (GuardedRows* guarded : {&q, &attended, &out}) guarded->ExpectGuardsIntact();
}

INSTANTIATE_TEST_SUITE_P(UpTypes, LatentTest, testing::Values(DType::kF32, DType::kBF16, DType::kQ8_0),
                         [](const auto& info) { return std::string(Info(info.param).name); });

}  // namespace
}  // namespace berth::kernels
