#pragma once

#include "worker/engine/executor.h"

namespace berth::bench {

// What a device could give back for `plan`: a token of each row that draws one.
inline engine::StepResult AnyResult(const engine::StepPlan& plan) {
  engine::StepResult result{.step = plan.step()};
  for (const engine::RowRecord& row : plan.rows()) {
    if (row.sample > 0) result.rows.push_back({.slot = row.slot, .generation = row.generation, .token = 7});
  }
  return result;
}

}  // namespace berth::bench
