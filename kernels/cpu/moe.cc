#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"
#include "kernels/cpu/vector_math.h"

namespace berth::kernels::cpu {
namespace {

// A token that goes to an expert, and with which weight.
struct Visit {
  int64_t token = 0;
  float weight = 0;
};

// Logits become scores in [0, 1].
void Score(RouterScore kind, float* x, int experts) {
  const float highest = kind == RouterScore::kSoftmax ? *std::max_element(x, x + experts) : 0;
  float sum = 0;
  for (int e = 0; e < experts; ++e) {
    x[e] = kind == RouterScore::kSoftmax ? std::exp(x[e] - highest) : 1 / (1 + std::exp(-x[e]));
    sum += x[e];
  }
  for (int e = 0; e < experts && kind == RouterScore::kSoftmax; ++e) x[e] /= sum;
}

// The `count` best of the candidates by falling rank, the lowest first among equals.
std::vector<int> Best(std::vector<int> candidates, const std::vector<float>& rank, int count) {
  std::stable_sort(candidates.begin(), candidates.end(), [&](int a, int b) { return rank[a] > rank[b]; });
  candidates.resize(count);
  return candidates;
}

std::vector<int> Range(int begin, int end) {
  std::vector<int> out(end - begin);
  std::iota(out.begin(), out.end(), begin);
  return out;
}

// The experts of the groups that may be chosen from.
std::vector<int> Candidates(const Routing& routing, const std::vector<float>& rank) {
  if (routing.top_groups == routing.groups) return Range(0, routing.experts);
  const int size = routing.experts / routing.groups;
  std::vector<float> group_rank;
  for (int g = 0; g < routing.groups; ++g) {
    float sum = 0;
    for (const int e : Best(Range(g * size, (g + 1) * size), rank, routing.group_best)) sum += rank[e];
    group_rank.push_back(sum);
  }
  std::vector<int> candidates;
  for (const int g : Best(Range(0, routing.groups), group_rank, routing.top_groups)) {
    for (int e = g * size; e < (g + 1) * size; ++e) candidates.push_back(e);
  }
  std::sort(candidates.begin(), candidates.end());
  return candidates;
}

// Adds the token to the lists of its experts.
void Route(const MoeArgs& args, int64_t token, float* logits, std::vector<std::vector<Visit>>& visits) {
  const Routing& routing = args.routing;
  Score(routing.score, logits, routing.experts);
  std::vector<float> rank(logits, logits + routing.experts);
  for (int e = 0; e < routing.experts && !args.router_bias.empty(); ++e) rank[e] += args.router_bias.data<float>()[e];
  const std::vector<int> chosen = Best(Candidates(routing, rank), rank, routing.top_k);
  float sum = 0;
  for (const int e : chosen) sum += logits[e];
  for (const int e : chosen) {
    visits[e].push_back({token, logits[e] / (routing.renormalize ? sum : 1) * routing.scale});
  }
}

// The expert's results for its tokens.
Tensor RunExpert(Context& context, const MoeArgs& args, int64_t expert, const Tensor& normed,
                 const std::vector<Visit>& visits) {
  const auto rows = static_cast<int64_t>(visits.size());
  const int64_t hidden = normed.dim(1), inter = args.down.k, experts = args.routing.experts;
  const Tensor in(context.expert_in.Get(rows * hidden), DType::kF32, {rows, hidden});
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = normed.data<float>() + visits[r].token * normed.stride(0);
    std::copy_n(from, hidden, in.data<float>() + r * hidden);
  }
  float* const memory = context.expert_up.Get(rows * 2 * inter);
  const Tensor gate(memory, DType::kF32, {rows, inter}), up(memory + rows * inter, DType::kF32, {rows, inter});
  Linear(context, in, args.up.Rows(expert * inter, inter), Tensor(), gate);
  Linear(context, in, args.up.Rows((experts + expert) * inter, inter), Tensor(), up);
  Activate(args.activation, gate.data<float>(), up.data<float>(), gate.data<float>(), rows * inter);
  const Tensor out(context.product.Get(rows * hidden), DType::kF32, {rows, hidden});
  Linear(context, gate, args.down.Rows(expert * hidden, hidden), Tensor(), out);
  return out;
}

}  // namespace

// Experts run one after the other, so that a token's sum has the order of its experts whatever the batch is.
void Moe(Context& context, const MoeArgs& args) {
  const int64_t tokens = args.residual.dim(0), hidden = args.residual.dim(1), experts = args.routing.experts;
  const Tensor normed(context.normed.Get(tokens * hidden), DType::kF32, {tokens, hidden});
  const Tensor logits(context.row.Get(tokens * experts), DType::kF32, {tokens, experts});
  ForRows(context, tokens, [&](int64_t r, int) {
    NormRow(args.norm, args.residual.data<float>() + r * args.residual.stride(0), normed.data<float>() + r * hidden, hidden);
  });
  Linear(context, normed, args.router, Tensor(), logits);
  std::vector<std::vector<Visit>> visits(experts);
  for (int64_t t = 0; t < tokens; ++t) Route(args, t, logits.data<float>() + t * experts, visits);
  for (int64_t e = 0; e < experts; ++e) {
    if (visits[e].empty()) continue;
    const Tensor out = RunExpert(context, args, e, normed, visits[e]);
    ForRows(context, out.dim(0), [&](int64_t r, int) {
      const float* from = out.data<float>() + r * hidden;
      float* to = args.residual.data<float>() + visits[e][r].token * args.residual.stride(0);
      for (int64_t i = 0; i < hidden; ++i) to[i] += visits[e][r].weight * from[i];
    });
  }
}

}  // namespace berth::kernels::cpu
