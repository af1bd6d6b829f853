#include "worker/runtime/sim_device.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace berth::runtime {
namespace {

using engine::AdmitRecord;
using engine::BlockRecord;
using engine::kBlockTokens;
using engine::RetireRecord;
using engine::RowRecord;
using engine::RowResult;
using engine::StepPlan;
using engine::StepResult;

template <typename... Parts>
absl::Status Wrong(int slot, const Parts&... parts) {
  return absl::InternalError(absl::StrCat("wrong plan for slot ", slot, ": ", parts...));
}

// The first token from `token` on, cyclically, that the mask allows; -1: none.
int32_t NextUnderMask(absl::Span<const uint32_t> mask, int32_t token) {
  const auto size = static_cast<int32_t>(32 * mask.size());
  for (int32_t i = 0; i < size; ++i) {
    const int32_t candidate = (token + i) % size;
    if ((mask[candidate / 32] >> (candidate % 32) & 1) != 0) return candidate;
  }
  return -1;
}

}  // namespace

SimDevice::SimDevice(const SimDeviceOptions& options)
    : options_(options),
      slots_(options.limits.slots),
      holders_(options.limits.kv_blocks),
      kv_(static_cast<size_t>(options.limits.kv_blocks) * kBlockTokens) {
  BERTH_CHECK(options.vocabulary.begin < options.vocabulary.end) << "the simulated vocabulary is empty";
}

absl::StatusOr<StepResult> SimDevice::Run(const StepPlan& plan) {
  if (plan.step() <= step_) return absl::InternalError(absl::StrCat("step ", plan.step(), " after step ", step_));
  step_ = plan.step();
  for (const RetireRecord& record : plan.retires()) BERTH_RETURN_IF_ERROR(Retire(record));
  for (const AdmitRecord& record : plan.admits()) BERTH_RETURN_IF_ERROR(Admit(plan, record));
  for (const BlockRecord& record : plan.blocks()) BERTH_RETURN_IF_ERROR(Append(record));
  int tokens = 0;
  for (const RowRecord& row : plan.rows()) {
    BERTH_RETURN_IF_ERROR(CheckRow(plan, row));
    tokens += row.count;
  }
  if (tokens > limits().max_step_tokens) {
    return absl::InternalError(absl::StrCat("a step of ", tokens, " tokens, at most ", limits().max_step_tokens));
  }
  StepResult result{.step = plan.step()};
  for (const RowRecord& row : plan.rows()) {
    RowResult drawn = RunRow(row, plan.masks().subspan(row.mask_begin, row.mask_words));
    if (row.score > 0) result.scores.push_back(Score(row));
    if (row.sample) result.rows.push_back(std::move(drawn));
    if (row.pool != RowRecord::Pool::kLast) continue;
    std::vector<float> sum = slots_[row.slot].hidden_sum;
    if (slots_[row.slot].poisoned) sum[0] = NAN;
    result.pools.push_back({.slot = row.slot, .generation = row.generation, .sum = std::move(sum)});
  }
  return result;
}

absl::Status SimDevice::Retire(const RetireRecord& record) {
  if (record.slot >= limits().slots) return Wrong(record.slot, "there are ", limits().slots, " slots");
  Slot& slot = slots_[record.slot];
  if (!slot.active || slot.generation != record.generation) {
    return Wrong(record.slot, "retires generation ", record.generation);
  }
  for (const int32_t block : slot.blocks) --holders_[block];
  slot = Slot{};
  return absl::OkStatus();
}

absl::Status SimDevice::Admit(const StepPlan& plan, const AdmitRecord& record) {
  if (record.slot >= limits().slots) return Wrong(record.slot, "there are ", limits().slots, " slots");
  Slot& slot = slots_[record.slot];
  if (slot.active) return Wrong(record.slot, "admits to a slot in use");
  if (record.history_length < 1 || record.history_length > limits().max_length) {
    return Wrong(record.slot, "admits ", record.history_length, " tokens");
  }
  slot.active = true;
  slot.generation = record.generation;
  for (const int32_t token : plan.tokens().subspan(record.history_begin, record.history_length)) Push(slot, token);
  slot.script = FindSimScript(options_.vocabulary, slot.history);
  const auto stops = plan.tokens().subspan(record.stop_begin, record.stop_count);
  slot.rules = {.sampling = record.sampling, .min_length = record.min_length, .stop_tokens = {stops.begin(), stops.end()}};
  for (const engine::BiasRecord& bias : plan.biases().subspan(record.bias_begin, record.bias_count)) {
    slot.rules.logit_bias.emplace_back(bias.token, bias.value);
  }
  return absl::OkStatus();
}

absl::Status SimDevice::Append(const BlockRecord& record) {
  if (record.slot >= limits().slots || !slots_[record.slot].active) return Wrong(record.slot, "a block for an empty slot");
  Slot& slot = slots_[record.slot];
  if (record.group != 0 || record.index != static_cast<int32_t>(slot.blocks.size()) || record.block >= limits().kv_blocks) {
    return Wrong(record.slot, "block ", record.block, " at ", record.group, "/", record.index, " after ", slot.blocks.size());
  }
  slot.blocks.push_back(record.block);
  ++holders_[record.block];
  return absl::OkStatus();
}

absl::Status SimDevice::CheckRow(const StepPlan& plan, const RowRecord& row) const {
  if (row.slot >= limits().slots) return Wrong(row.slot, "there are ", limits().slots, " slots");
  const Slot& slot = slots_[row.slot];
  if (!slot.active || slot.generation != row.generation) return Wrong(row.slot, "a row of generation ", row.generation);
  const int end = row.position + row.count, length = static_cast<int>(slot.history.size());
  const bool follows = slot.next < 0 ? row.position % kBlockTokens == 0 : row.position == slot.next;
  if (!follows) return Wrong(row.slot, "a row at ", row.position, " after ", slot.next);
  if (end > length || (row.sample && end != length) || end > limits().max_length) {
    return Wrong(row.slot, "a row of ", row.position, " to ", end, " of ", length, " tokens");
  }
  if (end > static_cast<int>(slot.blocks.size()) * kBlockTokens) {
    return Wrong(row.slot, "a row to ", end, " with ", slot.blocks.size(), " blocks");
  }
  if (row.token_begin == RowRecord::kLastSampled) {
    if (!slot.drawn || end != length) return Wrong(row.slot, "position ", row.position, " was not drawn last");
  } else {
    const auto tokens = plan.tokens().subspan(row.token_begin, row.count);
    if (!std::equal(tokens.begin(), tokens.end(), slot.history.begin() + row.position)) {
      return Wrong(row.slot, "tokens from ", row.position, " on are not its history");
    }
  }
  const auto scored = plan.tokens().subspan(row.score > 0 ? row.token_begin + 1 : 0, row.score);
  if (row.position + row.score >= length ||
      !std::equal(scored.begin(), scored.end(), slot.history.begin() + row.position + 1)) {
    return Wrong(row.slot, "scored tokens from ", row.position + 1, " on are not its history");
  }
  return CheckContext(slot, row);
}

// The KV that the row reads is the sequence's own, and nobody else sees what it writes.
absl::Status SimDevice::CheckContext(const Slot& slot, const RowRecord& row) const {
  const int from = options_.strict || slot.next < 0 ? 0 : std::max(row.position - 1, 0);
  for (int position = from; position < row.position; ++position) {
    if (Kv(slot, position) != slot.states[position]) return Wrong(row.slot, "KV at ", position, " is another sequence's");
  }
  for (int index = row.position / kBlockTokens; index <= (row.position + row.count - 1) / kBlockTokens; ++index) {
    if (holders_[slot.blocks[index]] != 1) return Wrong(row.slot, "writes the shared block ", slot.blocks[index]);
  }
  return absl::OkStatus();
}

RowResult SimDevice::RunRow(const RowRecord& row, absl::Span<const uint32_t> mask) {
  Slot& slot = slots_[row.slot];
  const int end = row.position + row.count;
  uint64_t state = row.position == 0 ? kSimEmptyState : Kv(slot, row.position - 1);
  for (int position = row.position; position < end; ++position) {
    state = SimAdvance(state, slot.history[position]);
    kv_[&Kv(slot, position) - kv_.data()] = state;
    if (position == 0) slot.hidden_sum.clear();
    if (row.pool != RowRecord::Pool::kNone) SimAddHidden(state, slot.hidden_sum);
  }
  slot.next = end;
  RowResult result{.slot = row.slot, .generation = row.generation};
  if (!row.sample) return result;
  result.token = slot.poisoned ? -1 : Draw(slot, state, end, &result.logprobs);
  if (result.token >= 0 && !mask.empty()) result.token = NextUnderMask(mask, result.token);
  // After a NaN the device goes on with some token until the sequence is retired.
  Push(slot, std::max(result.token, 0));
  slot.drawn = true;
  return result;
}

engine::ScoreResult SimDevice::Score(const RowRecord& row) const {
  const Slot& slot = slots_[row.slot];
  engine::ScoreResult result{.slot = row.slot, .generation = row.generation};
  for (int position = row.position; position < row.position + row.score; ++position) {
    result.logprobs.push_back(
        SimScore(options_.vocabulary, slot.rules, Kv(slot, position), position + 1, slot.history[position + 1]));
    if (slot.poisoned) result.logprobs.back().logprob = NAN;
  }
  return result;
}

int32_t SimDevice::Draw(const Slot& slot, uint64_t state, int position, engine::TokenLogprobs* logprobs) const {
  const int32_t drawn = SimDraw(options_.vocabulary, slot.rules, state, position, logprobs);
  if (!slot.script.has_value()) return drawn;
  const std::vector<int32_t>& script = slot.script->tokens;
  const int index = position - slot.script->position;
  if (index >= 0 && index < static_cast<int>(script.size())) return script[index];
  return slot.rules.stop_tokens.empty() ? drawn : slot.rules.stop_tokens.front();
}

void SimDevice::Push(Slot& slot, int32_t token) const {
  slot.states.push_back(SimAdvance(slot.states.empty() ? kSimEmptyState : slot.states.back(), token));
  slot.history.push_back(token);
  slot.poisoned |= token == options_.nan_token;
}

const uint64_t& SimDevice::Kv(const Slot& slot, int position) const {
  return kv_[static_cast<size_t>(slot.blocks[position / kBlockTokens]) * kBlockTokens + position % kBlockTokens];
}

}  // namespace berth::runtime
