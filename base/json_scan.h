#pragma once

#include <cstddef>
#include <string_view>

namespace berth::base {

// Calls `visit` with each character of `json` outside its strings until it returns false. For bounds that are checked before a
// parser gets a text, which may turn out to be no JSON.
template <typename Visit>
void ScanJson(std::string_view json, Visit visit) {
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '"') in_string = !in_string;
    if (in_string) {
      i += c == '\\';
    } else if (!visit(c)) {
      return;
    }
  }
}

}  // namespace berth::base
