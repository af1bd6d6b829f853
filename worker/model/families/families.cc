#include "worker/model/families/families.h"

namespace berth::model::families {

extern const Family kLlama;
extern const Family kInternLm2;
extern const Family kQwen2;

absl::Span<const Family* const> All() {
  static constexpr const Family* kFamilies[] = {&kLlama, &kInternLm2, &kQwen2};
  return kFamilies;
}

}  // namespace berth::model::families
