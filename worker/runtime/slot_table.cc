#include "worker/runtime/slot_table.h"

#include <algorithm>
#include <limits>

namespace berth::runtime {
namespace {

constexpr float kBan = -std::numeric_limits<float>::infinity();

}  // namespace

void LogitEdits::Clear() {
  start.assign(1, 0);
  token.clear();
  value.clear();
}

SlotTable::SlotTable(const SlotTableShape& shape)
    : shape_(shape),
      max_blocks_((shape.max_length + engine::kBlockTokens - 1) / engine::kBlockTokens),
      slots_(shape.slots),
      blocks_(size_t{1} * shape.slots * max_blocks_) {}

SlotTable::Slot& SlotTable::at(int slot) {
  BERTH_CHECK(slot >= 0 && slot < shape_.slots) << "slot " << slot << " of " << shape_.slots;
  return slots_[slot];
}

void SlotTable::Apply(const engine::StepPlan& plan) {
  for (const engine::RetireRecord& retire : plan.retires()) at(retire.slot).bad_words.clear();
  for (const engine::AdmitRecord& admit : plan.admits()) Admit(plan, admit);
  for (const engine::BlockRecord& record : plan.blocks()) {
    BERTH_CHECK(record.slot >= 0 && record.slot < shape_.slots && record.group == 0 && record.index >= 0 &&
                record.index < max_blocks_)
        << "block table of slot " << record.slot << " group " << record.group << " index " << record.index;
    blocks_[int64_t{record.slot} * max_blocks_ + record.index] = record.block;
  }
}

void SlotTable::Admit(const engine::StepPlan& plan, const engine::AdmitRecord& admit) {
  Slot& slot = at(admit.slot);
  const absl::Span<const int32_t> tokens = plan.tokens();
  const auto assign = [](auto& to, auto from) { to.assign(from.begin(), from.end()); };
  slot.generation = admit.generation;
  slot.rope_variant = admit.rope_variant;
  slot.sampling = admit.sampling;
  assign(slot.stop_tokens, tokens.subspan(admit.stop_begin, admit.stop_count));
  assign(slot.biases, plan.biases().subspan(admit.bias_begin, admit.bias_count));
  int end = admit.bad_words_begin;
  for (int i = 0; i < admit.bad_words_count; ++i) end += 1 + tokens[end];
  assign(slot.bad_words, tokens.subspan(admit.bad_words_begin, end - admit.bad_words_begin));
  slot.bans_stops_below = slot.stop_tokens.empty() ? 0 : admit.min_length;
  slot.always_edits = !slot.biases.empty() || !slot.bad_words.empty();
  slot.history.clear();
  if (!slot.bad_words.empty()) assign(slot.history, tokens.subspan(admit.history_begin, admit.history_length));
}

void SlotTable::Sampled(int slot, uint32_t generation, int32_t token) {
  Slot& state = at(slot);
  if (EditsNeedHistory(slot) && state.generation == generation && token >= 0) state.history.push_back(token);
}

void SlotTable::AddEdits(const Slot& state, int position, LogitEdits& edits) {
  const auto append = [&edits](int32_t token, float value) {
    edits.token.push_back(token);
    edits.value.push_back(value);
  };
  for (const engine::BiasRecord& bias : state.biases) append(bias.token, bias.value);
  if (position < state.bans_stops_below) {
    for (int32_t token : state.stop_tokens) append(token, kBan);
  }
  const auto& history = state.history;
  for (auto word = state.bad_words.begin(); word != state.bad_words.end(); word += 1 + *word) {
    const int prefix = *word - 1;
    if (prefix < 0 || prefix > static_cast<int>(history.size())) continue;
    if (std::equal(word + 1, word + 1 + prefix, history.end() - prefix)) append(word[1 + prefix], kBan);
  }
}

}  // namespace berth::runtime
