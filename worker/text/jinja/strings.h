#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth::text::jinja {

// Methods of Python's str that both filters and methods need. Nothing here fails.

// At most `limit` splits, from the left or the right; negative: no limit. `separator` is not empty.
std::vector<std::string> Split(std::string_view text, std::string_view separator, int64_t limit, bool from_right);
std::vector<std::string> SplitSpace(std::string_view text, int64_t limit, bool from_right);
// Lines without their ends, at every line boundary Python knows.
std::vector<std::string> SplitLines(std::string_view text, bool keep_ends);
// At most `limit` replacements; negative: all.
std::string Replace(std::string_view text, std::string_view from, std::string_view to, int64_t limit);
size_t CountOccurrences(std::string_view text, std::string_view part);

}  // namespace berth::text::jinja
