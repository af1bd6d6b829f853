#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth::text::jinja {

// Python's str on UTF-8. All input is valid UTF-8 (base::IsUtf8 guards the door), so is all output.

// One view per code point.
std::vector<std::string_view> CodePoints(std::string_view text);
size_t CodePointCount(std::string_view text);
void AppendCodePoint(char32_t code_point, std::string& out);
// Of a view that CodePoints gave.
char32_t ToCodePoint(std::string_view one);

bool IsSpace(char32_t code_point);      // str.isspace
bool IsDigit(char32_t code_point);      // str.isdigit
bool IsPrintable(char32_t code_point);  // str.isprintable

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
// The first character in title case, the rest in lower case.
std::string Capitalize(std::string_view text);
// str.title(): every run of letters capitalised.
std::string Title(std::string_view text);

// `chars`: the set of code points to remove; nullptr means white space.
std::string_view StripLeft(std::string_view text, const std::string* chars = nullptr);
std::string_view StripRight(std::string_view text, const std::string* chars = nullptr);

}  // namespace berth::text::jinja
