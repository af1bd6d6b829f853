#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::model {
namespace families {

extern const Family kLlama;
extern const Family kInternLm;
extern const Family kInternLm2;
extern const Family kQwen;
extern const Family kQwen2;
extern const Family kQwen3;
extern const Family kQwenMoe;
extern const Family kBaichuan;
extern const Family kGemma;
extern const Family kPhi3;
extern const Family kChatGlm;
extern const Family kGlm4;
extern const Family kFalcon;
extern const Family kGranite;
extern const Family kMixtral;
extern const Family kDeepSeek;
extern const Family kDbrx;

}  // namespace families

absl::Span<const Family* const> Families() {
  static constexpr const Family* kFamilies[] = {
      &families::kLlama,    &families::kInternLm, &families::kInternLm2, &families::kQwen,    &families::kQwen2,
      &families::kQwen3,    &families::kQwenMoe,  &families::kBaichuan,  &families::kGemma,   &families::kPhi3,
      &families::kChatGlm,  &families::kGlm4,     &families::kFalcon,    &families::kGranite, &families::kMixtral,
      &families::kDeepSeek, &families::kDbrx,
  };
  return kFamilies;
}

absl::StatusOr<const Family*> FindFamily(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> wanted, config.Strings("architectures"));
  std::vector<std::string> known;
  for (const Family* family : Families()) {
    for (const std::string_view architecture : family->architectures) {
      if (!wanted.empty() && wanted.front() == architecture) return family;
      known.emplace_back(architecture);
    }
  }
  return config.Error("architectures", absl::StrCat("supported are ", absl::StrJoin(known, ", ")),
                      absl::StatusCode::kUnimplemented);
}

}  // namespace berth::model
