#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"

namespace berth::text {

// Debian's absl::string_view is not std::string_view, so that absl's own string hash cannot look one up.
struct StringViewHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

using StringToId = absl::flat_hash_map<std::string, int32_t, StringViewHash, std::equal_to<>>;

}  // namespace berth::text
