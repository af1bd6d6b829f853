#include "worker/model/weight_rules.h"

namespace berth::model {

WeightRule Weight(std::string_view pattern, Slot slot, int part, Transform transform) {
  return {.kind = WeightRule::Kind::kWeight, .pattern = pattern, .slot = slot, .part = part, .transform = transform};
}

WeightRule ExpertWeight(std::string_view pattern, Slot slot, int part, int experts, Transform transform) {
  WeightRule rule = Weight(pattern, slot, part, transform);
  rule.parts = experts;
  return rule;
}

WeightRule Ignored(std::string_view pattern, std::string_view reason) {
  return {.kind = WeightRule::Kind::kIgnored, .pattern = pattern, .reason = reason};
}

WeightRule Alias(Slot slot, Slot source) { return {.kind = WeightRule::Kind::kAlias, .slot = slot, .source = source}; }

WeightRule OptionalDuplicate(std::string_view pattern, Slot source) {
  return {.kind = WeightRule::Kind::kOptionalDuplicate, .pattern = pattern, .source = source};
}

void AddHeadRules(const DecoderSpec& spec, std::string_view name, std::vector<WeightRule>& rules) {
  if (spec.tied_head) {
    rules.push_back(Alias(Slot::kHead, Slot::kEmbed));
    rules.push_back(OptionalDuplicate(name, Slot::kEmbed));
  } else {
    rules.push_back(Weight(name, Slot::kHead, 0, spec.normalized_head ? Transform::kNormalizedRows : Transform::kCopy));
  }
}

}  // namespace berth::model
