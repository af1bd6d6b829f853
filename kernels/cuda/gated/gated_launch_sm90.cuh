#pragma once

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/gated/gated_launch.h"
#include "kernels/cuda/gated/gated_product_sm90.cuh"

namespace berth::kernels::cuda::gated {

template <typename T, int kGroups, int kWidth, Shared kShared, Result kResult>
void Queue(Context& context, const GatedParams& params) {
  const int clusters = std::min(params.units, context.multiprocessors / kPair);
  LaunchClusters(context, GatedProduct<T, kGroups, kWidth, kShared, kResult>, kPair, clusters * kPair, (kGroups + 1) * 128,
                 Stages(kWidth, kGroups) * StageBytes(kWidth, kGroups) + kBarrierBytes, params);
}

template <typename T, int kGroups, int kWidth, Result kResult = Result::kActivated>
void QueueGroups(Context& context, const GatedParams& params, Shared shared) {
  if (kGroups == 1 || shared == Shared::kTokens) {
    Queue<T, kGroups, kWidth, Shared::kTokens, kResult>(context, params);
  } else if constexpr (kGroups > 1) {
    Queue<T, kGroups, kWidth, Shared::kWeight, kResult>(context, params);
  }
}

template <typename T, int kWidth = kMinWidth>
void QueueWidth(Context& context, const GatedParams& params, const GatedPlan& plan) {
  if (plan.width != kWidth) {
    if constexpr (kWidth < kMaxWidth) {
      QueueWidth<T, kWidth + kWidthStep>(context, params, plan);
    } else {
      BERTH_CHECK(false) << "width " << plan.width;
    }
  } else if (plan.groups == 1) {
    QueueGroups<T, 1, kWidth>(context, params, plan.shared);
  } else if (plan.groups == 2) {
    QueueGroups<T, 2, kWidth>(context, params, plan.shared);
  } else if constexpr (kWidth >= MinWidth(kMaxGroups)) {
    QueueGroups<T, kMaxGroups, kWidth>(context, params, plan.shared);
  } else {
    BERTH_CHECK(false) << "width " << plan.width << " with " << plan.groups << " groups";
  }
}

template <typename T>
void LaunchGated(Context& context, const GatedParams& params, const GatedPlan& plan) {
  QueueWidth<T>(context, params, plan);
}

template <typename T>
void LaunchBest(Context& context, const GatedParams& params, const GatedPlan& plan) {
  BERTH_CHECK(plan.width == kMaxWidth && plan.groups > 1) << plan.groups << " groups, width " << plan.width;
  if (plan.groups == 2) return QueueGroups<T, 2, kMaxWidth, Result::kBest>(context, params, plan.shared);
  QueueGroups<T, kMaxGroups, kMaxWidth, Result::kBest>(context, params, plan.shared);
}

}  // namespace berth::kernels::cuda::gated
