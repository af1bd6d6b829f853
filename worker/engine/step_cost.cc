#include "worker/engine/step_cost.h"

#include <algorithm>
#include <climits>
#include <cmath>

namespace berth::engine {

void StepWork::Add(int position, int count) {
  tokens += count;
  if (count == 1) {
    kv_tokens += position + 1;
  } else {
    pairs += count * (position + 0.5 * (count + 1));
  }
}

StepWork WorkOf(const StepPlan& plan) {
  StepWork work;
  for (const RowRecord& row : plan.rows()) work.Add(row.position, row.count);
  return work;
}

double StepCost::Seconds(const StepWork& work) const {
  return fixed + std::max(weights, work.tokens * token) + work.kv_tokens * kv_token + work.pairs * pair;
}

int StepCost::TokensWithin(double seconds, const StepWork& work, int position) const {
  const double left = seconds - fixed - work.kv_tokens * kv_token - work.pairs * pair;
  const double behind = (position + 0.5) * pair;
  // How many tokens take `time`, of which each takes `own` and its attention to those before it.
  const auto count = [this](double time, double own) {
    return time <= 0 ? 0 : 2 * time / (own + std::sqrt(own * own + 2 * pair * time));
  };
  const double most = std::min(count(left - work.tokens * token, token + behind), count(left - weights, behind));
  return static_cast<int>(std::min<double>(most, INT_MAX));
}

}  // namespace berth::engine
