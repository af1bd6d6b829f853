#include "base/json_scan.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace berth::base {

absl::Status CheckJson(std::string_view text, const std::string& what, const JsonBounds& bounds) {
  std::vector<int64_t> keys = {0};  // so far, of the objects around this place
  int64_t comparisons = 0;
  absl::Status status;
  ScanJson(text, [&](char c) {
    if (c == '[' || c == '{') {
      if (static_cast<int>(keys.size()) > bounds.depth) {
        status = absl::InvalidArgumentError(absl::StrCat(what, " nests deeper than ", bounds.depth, " levels"));
        return false;
      }
      keys.push_back(0);
    } else if (c == ']' || c == '}') {
      keys.pop_back();
    } else if (c == ':') {
      comparisons += keys.back()++;
      if (comparisons > bounds.keys * bounds.keys / 2) {
        status = absl::InvalidArgumentError(
            absl::StrCat(what, " has objects of too many keys: at most ", bounds.keys, " in one, fewer in each of several"));
        return false;
      }
    }
    return !keys.empty();
  });
  return status;
}

}  // namespace berth::base
