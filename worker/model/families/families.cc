#include <algorithm>
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
extern const Family kInternLm2;
extern const Family kQwen2;

}  // namespace families

absl::Span<const Family* const> Families() {
  static constexpr const Family* kFamilies[] = {
      &families::kLlama,
      &families::kInternLm2,
      &families::kQwen2,
  };
  return kFamilies;
}

absl::StatusOr<const Family*> FindFamily(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> wanted, config.Strings("architectures"));
  std::vector<std::string> known;
  for (const Family* family : Families()) {
    for (const std::string_view architecture : family->architectures) {
      if (std::find(wanted.begin(), wanted.end(), architecture) != wanted.end()) return family;
      known.emplace_back(architecture);
    }
  }
  return config.Error("architectures", absl::StrCat("supported are ", absl::StrJoin(known, ", ")),
                      absl::StatusCode::kUnimplemented);
}

}  // namespace berth::model
