#include "worker/text/jinja/strings.h"

#include <algorithm>

#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {

std::vector<std::string> Split(std::string_view text, std::string_view separator, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  while (limit-- != 0) {
    const size_t found = from_right ? text.rfind(separator) : text.find(separator);
    if (found == std::string_view::npos) break;
    const std::string_view after = text.substr(found + separator.size());
    parts.emplace_back(from_right ? after : text.substr(0, found));
    text = from_right ? text.substr(0, found) : after;
  }
  parts.emplace_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitSpace(std::string_view text, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  text = from_right ? StripRight(text) : StripLeft(text);
  while (!text.empty() && limit-- != 0) {
    size_t edge = from_right ? text.size() : 0;
    if (from_right) {
      while (edge > 0 && StripRight(text.substr(0, edge)).size() == edge) --edge;
      parts.emplace_back(text.substr(edge));
      text = StripRight(text.substr(0, edge));
    } else {
      while (edge < text.size() && StripLeft(text.substr(edge)).size() == text.size() - edge) ++edge;
      parts.emplace_back(text.substr(0, edge));
      text = StripLeft(text.substr(edge));
    }
  }
  if (!text.empty()) parts.emplace_back(from_right ? StripRight(text) : text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    while (i + length < text.size() && (static_cast<unsigned char>(text[i + length]) & 0xC0) == 0x80) ++length;
    const char32_t c = ToCodePoint(text.substr(i, length));
    const bool end = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (end && c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') length = 2;
    if (end) {
      lines.emplace_back(text.substr(start, (keep_ends ? i + length : i) - start));
      start = i + length;
    }
    i += length;
  }
  if (start < text.size()) lines.emplace_back(text.substr(start));
  return lines;
}

std::string Replace(std::string_view text, std::string_view from, std::string_view to, int64_t limit) {
  std::string out;
  if (from.empty()) {
    const std::vector<std::string_view> characters = CodePoints(text);
    const size_t times = limit < 0 ? characters.size() + 1 : static_cast<size_t>(limit);
    for (size_t i = 0; i <= characters.size(); ++i) {
      if (i < times) out += to;
      if (i < characters.size()) out += characters[i];
    }
    return out;
  }
  while (limit-- != 0) {
    const size_t found = text.find(from);
    if (found == std::string_view::npos) break;
    out.append(text.substr(0, found)).append(to);
    text.remove_prefix(found + from.size());
  }
  return out.append(text);
}

size_t CountOccurrences(std::string_view text, std::string_view part) {
  if (part.empty()) return CodePointCount(text) + 1;
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

}  // namespace berth::text::jinja
