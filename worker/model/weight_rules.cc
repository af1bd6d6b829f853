#include "worker/model/weight_rules.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "worker/model/families/families.h"

namespace berth::model {

WeightRule Weight(std::string_view pattern, Slot slot, int part, Transform transform) {
  return {.kind = WeightRule::Kind::kWeight, .pattern = pattern, .slot = slot, .part = part, .transform = transform};
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
    rules.push_back(Weight(name, Slot::kHead));
  }
}

absl::StatusOr<const Family*> FindFamily(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> wanted, config.Strings("architectures"));
  std::vector<std::string> known;
  for (const Family* family : families::All()) {
    for (std::string_view architecture : family->architectures) {
      if (std::find(wanted.begin(), wanted.end(), architecture) != wanted.end()) return family;
      known.emplace_back(architecture);
    }
  }
  return config.Error("architectures", absl::StrCat("supported are ", absl::StrJoin(known, ", ")),
                      absl::StatusCode::kUnimplemented);
}

}  // namespace berth::model
