#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

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

struct JsonBounds {
  int depth = 128;
  // The parser compares each key of an object with those before it; a text may take as many comparisons as one object of so
  // many keys does.
  int64_t keys = 16384;
};

// OK: the parser takes neither too much of the stack nor too long. INVALID_ARGUMENT begins with `what`, which has the text.
absl::Status CheckJson(std::string_view text, const std::string& what, const JsonBounds& bounds = {});

}  // namespace berth::base
