#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/support.h"
#include "tests/kernels/weights.h"

namespace berth::kernels {
namespace {

constexpr int64_t kHidden = 32, kInter = 24;
constexpr int kExperts = 8;

struct MoeCase {
  const char* name;
  Routing routing;
  bool bias;
};

// Weights of one mixture, and its result in double.
struct Mixture {
  explicit Mixture(const MoeCase& c, uint32_t seed = 1)
      : routing(c.routing),
        random(seed),
        router(MakeWeight(DType::kF32, kExperts, kHidden, random)),
        up(MakeWeight(DType::kF32, 2 * kExperts * kInter, kHidden, random)),
        down(MakeWeight(DType::kF32, kExperts * kHidden, kInter, random)),
        bias(c.bias ? random.Normals(kExperts, 0.3f) : std::vector<float>()) {
    routing.experts = kExperts;
  }

  void Run(const Tensor& residual, int threads = 1) {
    MakeCpuOps({.threads = threads})
        ->Moe({.residual = residual,
               .router = router.view,
               .router_bias = bias.empty() ? Tensor() : Floats(bias),
               .routing = routing,
               .up = up.view,
               .down = down.view});
  }

  double Dot(const TestWeight& weight, int64_t row, const std::vector<double>& x) const {
    return std::inner_product(x.begin(), x.end(), weight.values.begin() + row * weight.view.k, 0.0);
  }

  std::vector<double> Scores(const std::vector<double>& x) const {
    std::vector<double> score(kExperts);
    double sum = 0;
    for (int e = 0; e < kExperts; ++e) {
      const double logit = Dot(router, e, x);
      score[e] = routing.score == RouterScore::kSoftmax ? std::exp(logit) : 1 / (1 + std::exp(-logit));
      sum += score[e];
    }
    for (double& value : score) value /= routing.score == RouterScore::kSoftmax ? sum : 1;
    return score;
  }

  // For each expert whether it is chosen: it and its group have too few betters.
  std::vector<bool> Chosen(const std::vector<double>& score) const {
    std::vector<double> rank = score;
    for (int e = 0; e < kExperts && !bias.empty(); ++e) rank[e] += bias[e];
    const int size = kExperts / routing.groups;
    std::vector<double> group;
    for (int g = 0; g < routing.groups; ++g) {
      std::vector<double> members(rank.begin() + g * size, rank.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      group.push_back(std::accumulate(members.begin(), members.begin() + routing.group_best, 0.0));
    }
    const auto betters = [](const std::vector<double>& values, double value) {
      return std::count_if(values.begin(), values.end(), [&](double other) { return other > value; });
    };
    for (int e = 0; e < kExperts; ++e) {
      if (betters(group, group[e / size]) >= routing.top_groups) rank[e] = -1e9;
    }
    std::vector<bool> chosen;
    for (int e = 0; e < kExperts; ++e) chosen.push_back(rank[e] > -1e9 && betters(rank, rank[e]) < routing.top_k);
    return chosen;
  }

  std::vector<double> Expected(const std::vector<double>& x) const {
    const std::vector<double> score = Scores(x);
    const std::vector<bool> chosen = Chosen(score);
    double sum = 0;
    for (int e = 0; e < kExperts; ++e) sum += chosen[e] ? score[e] : 0;
    std::vector<double> out = x;
    for (int e = 0; e < kExperts; ++e) {
      if (!chosen[e]) continue;
      const double weight = score[e] * routing.scale / (routing.renormalize ? sum : 1);
      std::vector<double> between;
      for (int64_t i = 0; i < kInter; ++i) {
        const double gate = Dot(up, e * kInter + i, x);
        between.push_back(gate / (1 + std::exp(-gate)) * Dot(up, (kExperts + e) * kInter + i, x));
      }
      for (int64_t i = 0; i < kHidden; ++i) out[i] += weight * Dot(down, e * kHidden + i, between);
    }
    return out;
  }

  Routing routing;
  Random random;
  TestWeight router, up, down;
  std::vector<float> bias;
};

class MoeTest : public testing::TestWithParam<MoeCase> {};

TEST_P(MoeTest, MatchesDouble) {
  Mixture mixture(GetParam());
  constexpr int64_t kRows = 13;
  const std::vector<float> x = mixture.random.Normals(kRows * kHidden);
  GuardedRows residual(kRows, kHidden, 3, x);
  mixture.Run(residual.tensor(), 2);
  std::vector<double> expected;
  for (int64_t r = 0; r < kRows; ++r) {
    const std::vector<double> row =
        mixture.Expected(std::vector<double>(x.begin() + r * kHidden, x.begin() + (r + 1) * kHidden));
    expected.insert(expected.end(), row.begin(), row.end());
  }
  ExpectClose(residual.values(), expected, 2e-5);
  residual.ExpectGuardsIntact();
}

// A row's bits depend neither on the rows beside it nor on the number of threads.
TEST_P(MoeTest, BatchingChangesNoBit) {
  Mixture mixture(GetParam());
  constexpr int64_t kRows = 9;
  const std::vector<float> x = mixture.random.Normals(kRows * kHidden);
  GuardedRows together(kRows, kHidden, 0, x), alone(kRows, kHidden, 0, x);
  mixture.Run(together.tensor(), 3);
  for (int64_t r = 0; r < kRows; ++r) mixture.Run(alone.tensor().Rows(r, 1));
  ExpectSameBits(together.values(), alone.values());
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MoeTest,
    testing::Values(MoeCase{"softmax", {.top_k = 3}, false}, MoeCase{"renormalized", {.top_k = 2, .renormalize = true}, false},
                    MoeCase{"scaled", {.top_k = 2, .scale = 2.5f}, false}, MoeCase{"all", {.top_k = kExperts}, false},
                    MoeCase{"sigmoid", {.top_k = 3, .score = RouterScore::kSigmoid, .renormalize = true}, true},
                    MoeCase{"groups", {.top_k = 3, .groups = 4, .top_groups = 2}, false},
                    MoeCase{"groups_by_two",
                            {.top_k = 2, .score = RouterScore::kSigmoid, .groups = 2, .top_groups = 1, .group_best = 2},
                            true}),
    [](const auto& info) { return info.param.name; });

TEST(Moe, AmongEqualScoresTheLowestExpertIsChosen) {
  Mixture mixture({"", {.top_k = 1, .renormalize = true}, false}), first({"", {.top_k = 1, .renormalize = true}, false});
  std::vector<float> zero(kExperts * kHidden, 0);
  mixture.router.view.segments[0].data = reinterpret_cast<const std::byte*>(zero.data());
  first.bias.assign(kExperts, 0);
  first.bias[0] = 100;
  const std::vector<float> x = mixture.random.Normals(kHidden);
  GuardedRows a(1, kHidden, 0, x), b(1, kHidden, 0, x);
  mixture.Run(a.tensor());
  first.Run(b.tensor());
  ExpectSameBits(a.values(), b.values());
}

TEST(Moe, MoreExpertsThanThereAreIsABug) {
  Mixture mixture({"", {.top_k = kExperts + 1}, false});
  GuardedRows residual(1, kHidden, 0);
  EXPECT_DEATH(mixture.Run(residual.tensor()), "9 of 8 experts");
}

// A row's gate scales its whole result.
TEST(MlpUpRowGate, MultipliesRowsByASigmoid) {
  Random random(3);
  const TestWeight weight = MakeWeight(DType::kF32, 2 * kInter, kHidden, random);
  const TestWeight gate = MakeWeight(DType::kF32, 1, kHidden, random);
  constexpr int64_t kRows = 3;
  const std::vector<float> x = random.Normals(kRows * kHidden);
  GuardedRows in(kRows, kHidden, 1, x), gated(kRows, kInter, 1), plain(kRows, kInter, 1);
  const auto ops = MakeCpuOps({.threads = 1});
  ops->MlpUp({.residual = in.tensor(), .weight = weight.view, .row_gate = gate.view, .out = gated.tensor()});
  ops->MlpUp({.residual = in.tensor(), .weight = weight.view, .out = plain.tensor()});
  std::vector<double> expected;
  for (int64_t r = 0; r < kRows; ++r) {
    double logit = 0;
    for (int64_t i = 0; i < kHidden; ++i) logit += static_cast<double>(gate.values[i]) * x[r * kHidden + i];
    for (int64_t i = 0; i < kInter; ++i) expected.push_back(plain.at(r, i) / (1 + std::exp(-logit)));
  }
  ExpectClose(gated.values(), expected, 1e-5);
}

}  // namespace
}  // namespace berth::kernels
