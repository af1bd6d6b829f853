#pragma once

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace berth::text::jinja {

// absl::StrCat that also takes std::string_view, which Debian's Abseil keeps apart from its own.
template <typename T>
const T& CatPart(const T& part) {
  return part;
}
inline absl::string_view CatPart(std::string_view part) { return {part.data(), part.size()}; }

template <typename... Parts>
std::string Cat(const Parts&... parts) {
  return absl::StrCat(CatPart(parts)...);
}

}  // namespace berth::text::jinja
