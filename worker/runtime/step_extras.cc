#include "worker/runtime/step_extras.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"

namespace berth::runtime {
namespace {

using kernels::DType;
using kernels::SlotSampling;

constexpr size_t kBesideMasks = size_t{1} << 20;  // bytes for edits and new sequences

// The engine knows no kernels and the kernels know no engine, so each names these bytes for itself.
static_assert(sizeof(engine::Sampling) == sizeof(SlotSampling) &&
              offsetof(engine::Sampling, top_k) == offsetof(SlotSampling, top_k) &&
              offsetof(engine::Sampling, logprobs) == offsetof(SlotSampling, logprobs) &&
              offsetof(engine::Sampling, seed) == offsetof(SlotSampling, seed) &&
              offsetof(engine::Sampling, choice) == offsetof(SlotSampling, choice));

bool ReadsCounts(const engine::Sampling& sampling) {
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 || sampling.frequency_penalty != 0;
}

int64_t CountSamples(const engine::StepPlan& plan) {
  return std::count_if(plan.rows().begin(), plan.rows().end(), [](const engine::RowRecord& row) { return row.sample != 0; });
}

template <typename T, typename Values>
void Copy(const Values& values, const kernels::Tensor& to) {
  std::copy(values.begin(), values.end(), to.data<T>());
}

}  // namespace

absl::Status StepExtras::Reserve(int slots) {
  MirrorArea masks;
  Cut(masks, /*admits=*/0, /*masked=*/slots, {});
  for (size_t area = 0; area < staging_.size(); ++area) {
    BERTH_RETURN_IF_ERROR(Grow(static_cast<int>(area), kBesideMasks + masks.used()));
  }
  return absl::OkStatus();
}

absl::StatusOr<QueuedCopy> StepExtras::Fill(const engine::StepPlan& plan, const LogitEdits& edits, int area,
                                            kernels::AdmitArgs* admit, kernels::SampleArgs* sample) {
  const auto admits = static_cast<int64_t>(plan.admits().size());
  const int64_t masked = plan.masks().empty() ? 0 : CountSamples(plan);
  if (admits == 0 && masked == 0 && edits.token.empty()) return QueuedCopy{};
  CollectHistory(plan);
  MirrorArea measured;
  Cut(measured, admits, masked, edits);
  if (staging_[area].bytes() < measured.used() || device_.bytes() < measured.used()) {
    BERTH_RETURN_IF_ERROR(Grow(area, 2 * measured.used()));
  }
  MirrorArea memory(staging_[area].data(), device_.data(), staging_[area].bytes());
  const Tensors tensors = Cut(memory, admits, masked, edits);
  if (admits > 0) {
    FillAdmits(plan, tensors);
    admit->slot = tensors.slot.device;
    admit->params = tensors.params.device;
    admit->history_start = tensors.history_start.device;
    admit->prompt_length = tensors.prompt_length.device;
    admit->history = tensors.history.device;
  }
  if (!edits.token.empty()) {
    Copy<int32_t>(edits.start, tensors.edit_start.host);
    Copy<int32_t>(edits.token, tensors.edit_token.host);
    Copy<float>(edits.value, tensors.edit_value.host);
    sample->edit_start = tensors.edit_start.device;
    sample->edit_token = tensors.edit_token.device;
    sample->edit_value = tensors.edit_value.device;
  }
  if (masked > 0) {
    FillMasks(plan, tensors.bitmask.host);
    sample->bitmask = tensors.bitmask.device;
  }
  return QueuedCopy{.to = memory.device(), .from = memory.host(), .bytes = memory.used()};
}

StepExtras::Tensors StepExtras::Cut(MirrorArea& area, int64_t admits, int64_t masked, const LogitEdits& edits) const {
  Tensors tensors;
  tensors.slot = area.Cut(DType::kI32, {admits});
  tensors.params = area.Cut(DType::kU8, {admits, sizeof(SlotSampling)});
  tensors.history_start = area.Cut(DType::kI32, {admits + 1});
  tensors.prompt_length = area.Cut(DType::kI32, {admits});
  tensors.history = area.Cut(DType::kI32, {static_cast<int64_t>(history_.size())});
  tensors.edit_start = area.Cut(DType::kI32, {static_cast<int64_t>(edits.start.size())});
  tensors.edit_token = area.Cut(DType::kI32, {static_cast<int64_t>(edits.token.size())});
  tensors.edit_value = area.Cut(DType::kF32, {static_cast<int64_t>(edits.value.size())});
  tensors.bitmask = area.Cut(DType::kU32, {masked, (vocab_ + 31) / 32});
  return tensors;
}

absl::Status StepExtras::Grow(int area, size_t bytes) {
  // Steps under way read what is about to be freed.
  BERTH_RETURN_IF_ERROR(ops_.Sync());
  BERTH_ASSIGN_OR_RETURN(staging_[area], memory_.staging.Allocate(bytes));
  if (device_.bytes() >= bytes) return absl::OkStatus();
  device_ = {};
  BERTH_ASSIGN_OR_RETURN(device_, memory_.device.Allocate(bytes));
  return absl::OkStatus();
}

// Sequences whose sampling never looks at counts have none to count.
void StepExtras::CollectHistory(const engine::StepPlan& plan) {
  history_.clear();
  history_start_.assign(1, 0);
  for (const engine::AdmitRecord& admit : plan.admits()) {
    if (ReadsCounts(admit.sampling)) {
      const auto tokens = plan.tokens().subspan(admit.history_begin, admit.history_length);
      history_.insert(history_.end(), tokens.begin(), tokens.end());
    }
    history_start_.push_back(static_cast<int32_t>(history_.size()));
  }
}

void StepExtras::FillAdmits(const engine::StepPlan& plan, const Tensors& tensors) const {
  int i = 0;
  for (const engine::AdmitRecord& admit : plan.admits()) {
    tensors.slot.host.data<int32_t>()[i] = admit.slot;
    tensors.prompt_length.host.data<int32_t>()[i] = admit.prompt_length;
    std::memcpy(tensors.params.host.data<uint8_t>() + i * sizeof(SlotSampling), &admit.sampling, sizeof(SlotSampling));
    ++i;
  }
  Copy<int32_t>(history_start_, tensors.history_start.host);
  Copy<int32_t>(history_, tensors.history.host);
}

// Rows without a mask may draw any token; a shorter mask allows none of the tokens beyond it.
void StepExtras::FillMasks(const engine::StepPlan& plan, const kernels::Tensor& bitmask) {
  const int64_t words = bitmask.dim(1);
  uint32_t* to = bitmask.data<uint32_t>();
  for (const engine::RowRecord& row : plan.rows()) {
    if (row.sample == 0) continue;
    std::fill_n(to, words, row.mask_words == 0 ? ~uint32_t{0} : 0);
    std::copy_n(plan.masks().begin() + row.mask_begin, std::min<int64_t>(row.mask_words, words), to);
    to += words;
  }
}

}  // namespace berth::runtime
